"""A model with its context, for async programs."""

from __future__ import annotations

from mullama._arguments import expect, merge
from mullama._chat import chat_of
from mullama._closing import AsyncClosing
from mullama._config import ContextParams
from mullama._context import Context
from mullama._model import Model
from mullama._usage import Completion, read_to_end_async

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from typing_extensions import Self, Unpack

    from mullama._chat import Messages, Tools
    from mullama._config import StreamConfig
    from mullama._stats import Stats
    from mullama._stream import TokenStream
    from mullama._stream_options import StreamOptions


class AsyncModel(AsyncClosing):
    """A model with a context, for async programs: what may wait is awaited, and the event loop goes on.

    Example:
        >>> model = await AsyncModel.load("demo")
        >>> async for token in model.generate_stream("Tell me about Rust:", max_tokens=200):
        ...     print(token.text, end="", flush=True)
    """

    __slots__ = ("__weakref__", "_context")

    def __init__(self, model: Model, params: ContextParams | None = None) -> None:
        """Shares loaded weights. Blocks while the engine allocates its memory, unless one of these params runs already.

        Raises:
            As `Context` does.
        """
        self._context = Context(model, params)

    @classmethod
    async def load(  # noqa: PLR0913  # keywords, named at each call
        cls,
        path: str | os.PathLike[str],
        *,
        context_params: ContextParams | None = None,
        n_gpu_layers: int = -1,
        use_mmap: bool = True,
        use_mlock: bool = False,
        check_tensors: bool = False,
        progress: Callable[[float], bool | None] | None = None,
    ) -> Self:
        """Loads a GGUF file on a thread of its own and starts an engine. Cancelling it ends the load.

        Args:
            path: The file; for a model in several files, the first of them. "demo" is the small model inside the
                package; a file of that name is "./demo".
            context_params: How the engine is laid out.
            n_gpu_layers: Layers that go to a GPU, if there is one; below zero is all of them.
            use_mmap: Maps the file into memory instead of reading it.
            use_mlock: Keeps the weights in RAM, as far as the system allows it.
            check_tensors: Looks at every weight for a NaN or an infinity.
            progress: Called on the loading thread with how far it is, from 0.0 to 1.0. The load ends if it returns
                False or raises.

        Raises:
            ModelNotFoundError: Nothing is there.
            ModelLoadError: The file is no model that can run, or `progress` returned False.
            InvalidConfigError: `n_ctx` is beyond the positions that the model has learnt one by one.
        """
        if context_params is not None:
            expect("context_params", context_params, ContextParams)
        # Both are slow to import, and not everybody needs them.
        from typing import cast  # noqa: PLC0415

        from mullama._background import in_thread  # noqa: PLC0415

        def load(goes_on: Callable[[], bool]) -> AsyncModel:
            def report(fraction: float) -> bool | None:
                return goes_on() and (None if progress is None else progress(fraction))

            model = Model.load(
                path,
                n_gpu_layers=n_gpu_layers,
                use_mmap=use_mmap,
                use_mlock=use_mlock,
                check_tensors=check_tensors,
                progress=report,
            )
            return cls(model, context_params)

        return cast("Self", await in_thread("mullama-load", load))

    def generate_stream(
        self,
        prompt: str | Sequence[int],
        max_tokens: int | None = None,
        *,
        config: StreamConfig | None = None,
        **overrides: Unpack[StreamOptions],
    ) -> TokenStream:
        """Opens a stream of tokens, at once. Takes and raises what `Context.generate_stream` does.

        Example:
            >>> async for token in model.generate_stream("Write a poem:", max_tokens=200):
            ...     print(token.text, end="", flush=True)
        """
        return self._context.generate_stream(prompt, max_tokens, config=config, **overrides)

    async def generate(
        self,
        prompt: str | Sequence[int],
        max_tokens: int | None = None,
        *,
        config: StreamConfig | None = None,
        **overrides: Unpack[StreamOptions],
    ) -> Completion:
        """Generates a whole answer: a stream, read to its end. Cancelling it stops the generation.

        Takes the arguments of `generate_stream`, and raises what it raises and what reading its stream raises.
        """
        config = merge("generate", config, max_tokens, overrides)
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
        """Opens a stream of the answer to a conversation, at once. Takes and raises what `Context.chat_stream` does."""
        return self._context.chat_stream(
            messages,
            max_tokens,
            tools=tools,
            chat_template=chat_template,
            chat_template_kwargs=chat_template_kwargs,
            config=config,
            **overrides,
        )

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
        """Generates a whole answer to a conversation. Cancelling it stops the generation.

        Takes the arguments of `chat_stream`, and raises what it raises and what reading its stream raises.
        """
        chat = chat_of(messages, tools, chat_template, chat_template_kwargs)
        config = merge("chat", config, max_tokens, overrides)
        return await read_to_end_async(self._context._open(chat, config))  # noqa: SLF001  # one package

    @property
    def model(self) -> Model:
        """The model."""
        return self._context.model

    @property
    def context(self) -> Context:
        """The context: its params, its length, and the same calls for threads that may block."""
        return self._context

    def stats(self) -> Stats:
        """What the engine is doing, and has done since it began."""
        return self._context.stats()

    def close(self) -> None:
        """Lets go of the engine. Open streams go on; later calls raise `EngineClosedError`."""
        self._context.close()

    def __repr__(self) -> str:
        """Model and params."""
        return f"<AsyncModel on {self.model!r}, {self._context.params!r}>"
