"""The async counterpart of `Model` and `Context`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mullama import _mullama
from mullama._arguments import expect, expect_callable
from mullama._chat import Messages, Tools, chat_of
from mullama._closing import AsyncClosing
from mullama._completion import Completion
from mullama._config import ContextParams, StreamConfig
from mullama._context import Context
from mullama._display import Displayed, changed
from mullama._exact import as_bool, told
from mullama._exceptions import ModelLoadError
from mullama._keywords import hinted
from mullama._late_imports import late_import
from mullama._model import Model, label, load_options, read_path
from mullama._pending import awaited
from mullama._reading import read_to_end_async
from mullama._signatures import show_settings
from mullama._stats import Stats
from mullama._stream import TokenStream
from mullama._stream_options import StreamOptions
from mullama._typing import Self, Unpack


class AsyncModel(AsyncClosing, Displayed):
    """A model with a context, for async programs: calls that may block are awaited and leave the event loop running.

    Example:
        >>> model = await AsyncModel.load("demo")
        >>> async for token in model.generate_stream("Tell me about Rust:", max_tokens=200):
        ...     print(token.text, end="", flush=True)
    """

    __slots__ = ("__weakref__", "_context")

    @hinted("AsyncModel")
    def __init__(self, model: Model, params: ContextParams | None = None) -> None:
        """Shares a loaded model. Blocks while the engine allocates its memory, unless one with equal params is running.

        Raises:
            MullamaError: As `Context` does.
        """
        if isinstance(model, (str, os.PathLike)):
            expect("model", model, Model, f"await AsyncModel.load({told(model)}) loads it")
        self._context = Context(model, params)

    @classmethod
    @awaited("AsyncModel.load")
    async def load(  # noqa: PLR0913  # keywords, named at each call
        cls,
        path: str | os.PathLike[str],
        *,
        context_params: ContextParams | None = None,
        n_gpu_layers: int = -1,
        use_mmap: bool = True,
        use_mlock: bool = False,
        check_tensors: bool = False,
        pull: bool = True,
        progress: Callable[[float], bool | None] | None = None,
    ) -> Self:
        """Loads a model on a thread of its own and starts an engine. Cancelling the call ends the load.

        Args:
            path: A name such as "llama3.2:1b", or the path of a GGUF file, as for `Model.load`.
            context_params: Layout of the engine.
            n_gpu_layers: Number of layers to put on a GPU, if there is one; negative means all.
            use_mmap: Map the file into memory instead of reading it.
            use_mlock: Keep the weights in RAM, as far as the system allows it.
            check_tensors: Check every weight for NaN and infinity.
            pull: Download a model that is not on this machine, as for `Model.load`.
            progress: Called on the loading thread with the completed fraction, from 0.0 to 1.0, of the load without
                the download. The load is cancelled if it returns False or raises.

        Raises:
            ModelNotFoundError: There is no file at `path`, or no model of this name.
            DownloadError: The model is not on this machine, and could not be downloaded.
            ModelLoadError: The file cannot be loaded as a model, or `progress` returned False.
            InvalidConfigError: `n_ctx` exceeds the positions that the model supports.
            RuntimeError: The running event loop is not asyncio's.
        """
        if context_params is not None:
            expect("context_params", context_params, ContextParams)
        if progress is not None:
            expect_callable("progress", progress)
        file = read_path(path)
        with late_import():
            import pathlib  # noqa: F401, PLC0415  # the native module makes paths, also those of its errors

            # asyncio is slow to import, and only loads need it.
            from mullama import _event_loop, _log, _plugins, _source  # noqa: PLC0415
        loop = _event_loop.native_loop()
        options = load_options(n_gpu_layers, use_mmap, use_mlock, check_tensors, vocab_only=False)
        pull = as_bool("pull", pull)
        params = ContextParams() if context_params is None else context_params
        await _log.flush_async()
        source = await _source.find_async(path, file, pull=pull)
        _plugins.load_if_possible()
        try:
            native = await _mullama.Model.load_async(loop, source.file, options, progress)
        except ModelLoadError:
            await _source.explain_async(source)
            raise
        model = Model._loaded(native, source.name, source.defaults, options)  # noqa: SLF001  # one package
        context = await _mullama.Context.open_async(loop, native, params)
        await _log.flush_async()
        loaded = cls.__new__(cls)
        loaded._context = shared = Context.__new__(Context)  # noqa: SLF001  # of this class
        shared._open_as(context, model, params)  # noqa: SLF001  # one package
        return loaded

    def generate_stream(
        self,
        prompt: str | Sequence[int],
        max_tokens: int | None = None,
        *,
        config: StreamConfig | None = None,
        **overrides: Unpack[StreamOptions],
    ) -> TokenStream:
        """Opens a stream of tokens without blocking. Takes and raises the same as `Context.generate_stream`.

        Example:
            >>> async for token in model.generate_stream("Write a poem:", max_tokens=200):
            ...     print(token.text, end="", flush=True)
        """
        config = self._context._settings("AsyncModel.generate_stream", config, max_tokens, overrides)  # noqa: SLF001  # one package
        return self._context._open(prompt, config)  # noqa: SLF001  # one package

    async def generate(
        self,
        prompt: str | Sequence[int],
        max_tokens: int | None = None,
        *,
        config: StreamConfig | None = None,
        **overrides: Unpack[StreamOptions],
    ) -> Completion:
        """Generates a completion: a stream, read to its end. Cancelling the call stops the generation.

        Takes the arguments of `generate_stream`. Raises what that and reading its stream raise; an error has what was
        generated before it as `error.completion`.
        """
        config = self._context._settings("AsyncModel.generate", config, max_tokens, overrides)  # noqa: SLF001  # one package
        return await read_to_end_async(self._context._open(prompt, config))  # noqa: SLF001  # one package

    def chat_stream(  # noqa: PLR0913  # keywords, named at each call
        self,
        messages: Messages,
        max_tokens: int | None = None,
        *,
        tools: Tools | None = None,
        chat_template: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        config: StreamConfig | None = None,
        **overrides: Unpack[StreamOptions],
    ) -> TokenStream:
        """Opens a stream of the reply to a conversation. Takes and raises the same as `Context.chat_stream`."""
        chat = chat_of(messages, tools, chat_template, chat_template_kwargs)
        config = self._context._settings("AsyncModel.chat_stream", config, max_tokens, overrides)  # noqa: SLF001  # one package
        return self._context._open(chat, config)  # noqa: SLF001  # one package

    async def chat(  # noqa: PLR0913  # keywords, named at each call
        self,
        messages: Messages,
        max_tokens: int | None = None,
        *,
        tools: Tools | None = None,
        chat_template: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        config: StreamConfig | None = None,
        **overrides: Unpack[StreamOptions],
    ) -> Completion:
        """Generates the reply to a conversation. Cancelling the call stops the generation.

        Takes the arguments of `chat_stream`. Raises what that and reading its stream raise; an error has what was
        generated before it as `error.completion`.
        """
        chat = chat_of(messages, tools, chat_template, chat_template_kwargs)
        config = self._context._settings("AsyncModel.chat", config, max_tokens, overrides)  # noqa: SLF001  # one package
        return await read_to_end_async(self._context._open(chat, config))  # noqa: SLF001  # one package

    @property
    def model(self) -> Model:
        """The model."""
        return self._context.model

    @property
    def context(self) -> Context:
        """The context, which has the same calls in blocking form."""
        return self._context

    def stats(self) -> Stats:
        """What the engine is doing now, and what it has done since it started."""
        return self._context.stats()

    def close(self) -> None:
        """Releases the engine. Open streams continue; later calls raise `EngineClosedError`."""
        self._context.close()

    def __repr__(self) -> str:
        """The model's file, and the params that are not the default."""
        params = changed(self._context.params)
        return f"<AsyncModel on {told(label(self.model))}{params and ', '}{params}>"


show_settings(AsyncModel.generate_stream, AsyncModel.generate, AsyncModel.chat_stream, AsyncModel.chat)
