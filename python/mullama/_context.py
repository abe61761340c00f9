"""Contexts: they open streams on an engine."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from mullama import _mullama
from mullama._arguments import DEFAULTS, expect, merge
from mullama._chat import Messages, Tools, chat_of
from mullama._closing import Closing
from mullama._completion import Completion
from mullama._config import ContextParams, StreamConfig
from mullama._display import Displayed, changed
from mullama._exact import told
from mullama._keywords import hinted
from mullama._late_imports import late_import
from mullama._model import Model, label
from mullama._mullama import Chat
from mullama._reading import read_to_end
from mullama._signatures import show_settings
from mullama._stats import Stats, Steps
from mullama._stream import TokenStream
from mullama._stream_options import StreamOptions
from mullama._typing import Unpack


class Context(Closing, Displayed):
    """Generates text with a model. Cheap: contexts with equal params on one model share an engine and its KV pool.

    Example:
        >>> context = Context(Model.load("demo"))
        >>> print(context.generate("Count: 1, 2, 3", max_tokens=6, temperature=0))
    """

    __slots__ = ("__weakref__", "_defaults", "_model", "_native", "_params")

    @hinted("Context")
    def __init__(self, model: Model, params: ContextParams | None = None) -> None:
        """Joins the engine with these params, or starts it. Blocks, without the GIL, while it allocates its memory.

        Args:
            model: The model.
            params: Layout of the engine. An `n_ctx` beyond the model's training length causes a `UserWarning`.

        Raises:
            ModelLoadError: llama.cpp cannot create a context for the model.
            InvalidConfigError: `n_ctx` exceeds the positions that the model supports.
            EngineClosedError: The model is closed.
        """
        with late_import():
            from mullama import _log  # noqa: PLC0415  # its thread is for programs that load a model
        params = ContextParams() if params is None else params
        is_path = isinstance(model, (str, os.PathLike))
        expect("model", model, Model, f"Context(Model.load({told(model)})) loads it" if is_path else _context_of(model))
        expect("params", params, ContextParams, _params_of(params))
        _log.flush()
        native = _mullama.Context(model._native, params)  # noqa: SLF001  # two halves of one package
        _log.flush()
        self._open_as(native, model, params)

    def _open_as(self, native: _mullama.Context, model: Model, params: ContextParams) -> None:
        """Takes the context that was opened. Warns, in its caller's caller, about a context that may be too long."""
        self._native = native
        self._model = model
        self._params = params
        self._defaults = model.defaults.config() if model.defaults.settings else DEFAULTS
        if params.n_ctx is not None and params.n_ctx > model.n_ctx_train:
            trained = f"the model was trained for {model.n_ctx_train} tokens"
            warnings.warn(f"n_ctx is {params.n_ctx}, but {trained}: text beyond that may be incoherent", stacklevel=4)

    def generate_stream(
        self,
        prompt: str | Sequence[int],
        max_tokens: int | None = None,
        *,
        config: StreamConfig | None = None,
        **overrides: Unpack[StreamOptions],
    ) -> TokenStream:
        """Opens a stream of tokens. Never blocks; reading the stream does.

        The stream ends at `max_tokens`, at a stop sequence or an end-of-generation token, with `cancel()` or `close()`,
        at the end of its `with` block, by Ctrl-C during a read, or when nothing refers to it any more. It stops using
        compute within one step.

        Args:
            prompt: Text, in which control tokens are parsed, or token ids, which are used as they are.
            max_tokens: Maximum number of tokens to generate; overrides `config`, whose default is 256.
            config: All settings. Without it, those are used that the model's publisher recommends (`Model.defaults`),
                and the package's own for all others.
            **overrides: Any other field of `StreamConfig`; overrides `config`.

        Raises:
            InvalidConfigError: A setting is out of range.
            OverloadedError: Too many streams run, wait or are paused.
            EngineClosedError: The context or its model is closed.

        The first read reports errors of the prompt: `InvalidPromptError` or `ContextOverflowError`.

        Example:
            >>> for token in context.generate_stream("Write a poem:", max_tokens=200):
            ...     print(token.text, end="", flush=True)
        """
        return self._open(prompt, self._settings("Context.generate_stream", config, max_tokens, overrides))

    def generate(
        self,
        prompt: str | Sequence[int],
        max_tokens: int | None = None,
        *,
        config: StreamConfig | None = None,
        **overrides: Unpack[StreamOptions],
    ) -> Completion:
        """Generates a completion: a stream, read to its end. Blocks, without the GIL; Ctrl-C ends it.

        Takes the arguments of `generate_stream`. Raises what that and reading its stream raise; an error has what was
        generated before it as `error.completion`.
        """
        return read_to_end(self._open(prompt, self._settings("Context.generate", config, max_tokens, overrides)))

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
        """Opens a stream of the reply to a conversation, rendered with the model's chat template. Never blocks.

        Control tokens inside messages are treated as plain text: `<|im_end|>` in a message does not end the turn.

        Args:
            messages: The conversation, oldest message first: mappings with a "role" and usually a "content".
            max_tokens: Maximum number of tokens to generate; overrides `config`, whose default is 256.
            tools: Tools that the model may call: JSON schemas, or mappings that have one under "function".
            chat_template: A Jinja template to use instead of the model's own.
            chat_template_kwargs: Additional variables for the template, such as `{"enable_thinking": False}`.
            config: All settings.
            **overrides: Any other field of `StreamConfig`; overrides `config`.

        Raises:
            InvalidConfigError: A setting is out of range.
            OverloadedError: Too many streams run, wait or are paused.
            EngineClosedError: The context or its model is closed.
            TypeError: A message is not a mapping with a "role", or contains a value that JSON cannot represent.

        The first read reports a missing or failing template: `ChatTemplateError`.

        Example:
            >>> for token in context.chat_stream([{"role": "user", "content": "Hello!"}]):
            ...     print(token.text, end="", flush=True)
        """
        chat = chat_of(messages, tools, chat_template, chat_template_kwargs)
        return self._open(chat, self._settings("Context.chat_stream", config, max_tokens, overrides))

    def chat(  # noqa: PLR0913  # keywords, named at each call
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
        """Generates the reply to a conversation. Blocks, without the GIL; Ctrl-C ends it.

        Takes the arguments of `chat_stream`. Raises what that and reading its stream raise; an error has what was
        generated before it as `error.completion`.

        Example:
            >>> print(context.chat([{"role": "user", "content": "Hello!"}]))
        """
        chat = chat_of(messages, tools, chat_template, chat_template_kwargs)
        return read_to_end(self._open(chat, self._settings("Context.chat", config, max_tokens, overrides)))

    def _settings(
        self, call: str, config: StreamConfig | None, max_tokens: int | None, overrides: Mapping[str, Any]
    ) -> StreamConfig:
        """The config of a call, for which the model's publisher recommends what neither `config` nor a keyword says."""
        return merge(call, config, max_tokens, overrides, self._defaults)

    def _open(self, prompt: str | Sequence[int] | Chat, config: StreamConfig) -> TokenStream:
        if isinstance(prompt, (list, tuple)) and prompt and isinstance(prompt[0], Mapping):
            message = "prompt must be a str or a sequence of token ids, not messages; pass those to chat or chat_stream"
            raise TypeError(message)
        return TokenStream(self._native, prompt, config)

    @property
    def model(self) -> Model:
        """The model."""
        return self._model

    @property
    def params(self) -> ContextParams:
        """The layout of the engine, as it was requested."""
        return self._params

    @property
    def context_len(self) -> int:
        """Maximum number of tokens of one stream, including its prompt."""
        return self._native.context_len

    @property
    def unfinished(self) -> int:
        """Number of streams that have not ended, including those of other contexts on the same engine."""
        return self._native.unfinished

    def stats(self) -> Stats:
        """What the engine is doing now, and what it has done since it started. Cheap: recorded after each step."""
        counts, steps = self._native.stats()
        decode, prefill = (Steps(*each) for each in steps)
        return Stats(**counts, decode_steps=decode, prefill_steps=prefill)

    def close(self) -> None:
        """Releases the engine. Open streams continue; later calls raise `EngineClosedError`."""
        self._native.close()

    def __repr__(self) -> str:
        """The model's file, and the params that are not the default."""
        params = changed(self._params)
        return f"<Context on {told(label(self._model))}{params and ', '}{params}>"


def _context_of(other: object) -> str:
    """What to pass instead of an object that has a model, such as an `AsyncModel`."""
    return "pass its attribute model" if isinstance(getattr(other, "model", None), Model) else ""


_LONGEST = 2**28
"""Tokens of the longest context."""


def _params_of(other: object) -> str:
    """What to pass instead of a number."""
    is_length = type(other) is int and 0 < other <= _LONGEST
    return f"a context of {other} tokens is Context(model, ContextParams(n_ctx={other}))" if is_length else ""


show_settings(Context.generate_stream, Context.generate, Context.chat_stream, Context.chat)
