"""Where streams are asked for."""

from __future__ import annotations

import warnings

from mullama import _mullama
from mullama._arguments import expect, merge
from mullama._chat import chat_of
from mullama._closing import Closing
from mullama._config import ContextParams
from mullama._model import Model
from mullama._stream import TokenStream
from mullama._usage import Completion, read_to_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from typing_extensions import Unpack

    from mullama._chat import Messages, Tools
    from mullama._config import StreamConfig
    from mullama._mullama import Chat
    from mullama._stats import Stats
    from mullama._stream_options import StreamOptions


class Context(Closing):
    """Where streams are asked for. Light: contexts of equal params over one model share an engine and its memory.

    Example:
        >>> context = Context(Model.load("demo"))
        >>> print(context.generate("Count: 1, 2, 3", max_tokens=6, temperature=0))
    """

    __slots__ = ("__weakref__", "_model", "_native", "_params")

    def __init__(self, model: Model, params: ContextParams | None = None) -> None:
        """Joins the engine of these params, or starts it. Blocks, without the GIL, while it allocates its memory.

        Args:
            model: The model.
            params: How the engine is laid out. An `n_ctx` beyond what the model was trained for is a `UserWarning`.

        Raises:
            ModelLoadError: llama.cpp cannot make a context for the model.
            InvalidConfigError: `n_ctx` is beyond the positions that the model has learnt one by one.
            EngineClosedError: The model is closed.
        """
        from mullama import _log  # noqa: PLC0415  # loaded by the model

        params = ContextParams() if params is None else params
        expect("model", model, Model)
        expect("params", params, ContextParams)
        self._model = model
        self._params = params
        _log.flush()
        self._native = _mullama.Context(model._native, params)  # noqa: SLF001  # two halves of one package
        _log.flush()
        if params.n_ctx is not None and params.n_ctx > model.n_ctx_train:
            trained = f"the model was trained for {model.n_ctx_train} tokens"
            warnings.warn(f"n_ctx is {params.n_ctx}, but {trained}: text beyond them may be noise", stacklevel=2)

    def generate_stream(
        self,
        prompt: str | Sequence[int],
        max_tokens: int | None = None,
        *,
        config: StreamConfig | None = None,
        **overrides: Unpack[StreamOptions],
    ) -> TokenStream:
        """Opens a stream of tokens. Never blocks; reading the stream does.

        It ends by itself, with `cancel()` or `close()`, at the end of its `with` block, by Ctrl-C in a read, or when
        nothing refers to it any more; its compute is free within one step.

        Args:
            prompt: Text, in which control tokens are parsed, or token ids, which are taken as they are.
            max_tokens: Most tokens to generate; 256 if neither this nor `config` says.
            config: All settings.
            **overrides: Any other field of `StreamConfig`, instead of what `config` says.

        Raises:
            InvalidConfigError: A setting is out of its range.
            OverloadedError: Too many streams are unfinished.
            EngineClosedError: The context or its model is closed.

        What is wrong with the prompt is told by the first read: `InvalidPromptError` or `ContextOverflowError`.

        Example:
            >>> for token in context.generate_stream("Write a poem:", max_tokens=200):
            ...     print(token.text, end="", flush=True)
        """
        return self._open(prompt, merge("generate_stream", config, max_tokens, overrides))

    def generate(
        self,
        prompt: str | Sequence[int],
        max_tokens: int | None = None,
        *,
        config: StreamConfig | None = None,
        **overrides: Unpack[StreamOptions],
    ) -> Completion:
        """Generates a whole answer: a stream, read to its end. Blocks, without the GIL; Ctrl-C ends it.

        Takes the arguments of `generate_stream`, and raises what it raises and what reading its stream raises.
        """
        return read_to_end(self._open(prompt, merge("generate", config, max_tokens, overrides)))

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
        """Opens a stream of the answer to a conversation: a prompt that the model's own template makes. Never blocks.

        Control tokens in the messages are letters: typing `<|im_end|>` ends nobody's turn.

        Args:
            messages: What was said, oldest first: mappings with a "role", mostly with a "content".
            max_tokens: Most tokens to generate; 256 if neither this nor `config` says.
            tools: Tools that the model may call: JSON schemas, or mappings that hold one under "function".
            chat_template: A Jinja template instead of the model's own.
            chat_template_kwargs: More variables for the template, such as `{"enable_thinking": False}`.
            config: All settings.
            **overrides: Any other field of `StreamConfig`, instead of what `config` says.

        Raises:
            InvalidConfigError: A setting is out of its range.
            OverloadedError: Too many streams are unfinished.
            EngineClosedError: The context or its model is closed.
            TypeError: A message is no mapping with a "role", or something in it is no JSON.

        A model without a template, or one that fails, is told by the first read: `ChatTemplateError`.

        Example:
            >>> for token in context.chat_stream([{"role": "user", "content": "Hello!"}]):
            ...     print(token.text, end="", flush=True)
        """
        chat = chat_of(messages, tools, chat_template, chat_template_kwargs)
        return self._open(chat, merge("chat_stream", config, max_tokens, overrides))

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
        """Generates a whole answer to a conversation. Blocks, without the GIL; Ctrl-C ends it.

        Takes the arguments of `chat_stream`, and raises what it raises and what reading its stream raises.

        Example:
            >>> print(context.chat([{"role": "user", "content": "Hello!"}]))
        """
        chat = chat_of(messages, tools, chat_template, chat_template_kwargs)
        return read_to_end(self._open(chat, merge("chat", config, max_tokens, overrides)))

    def _open(self, prompt: str | Sequence[int] | Chat, config: StreamConfig) -> TokenStream:
        return TokenStream(self._native, prompt, config)

    @property
    def model(self) -> Model:
        """The model."""
        return self._model

    @property
    def params(self) -> ContextParams:
        """How the engine is laid out, as it was asked for."""
        return self._params

    @property
    def context_len(self) -> int:
        """Most tokens of one stream, its prompt included."""
        return self._native.context_len

    @property
    def unfinished(self) -> int:
        """Streams that have not ended, those of other contexts on the same engine included."""
        return self._native.unfinished

    def stats(self) -> Stats:
        """What the engine is doing, and has done since it began. Cheap: the engine writes it down after each step."""
        counts, steps = self._native.stats()
        from mullama._stats import Stats, Steps  # noqa: PLC0415  # for who looks

        decode, prefill = (Steps(*each) for each in steps)
        return Stats(**counts, decode_steps=decode, prefill_steps=prefill)

    def close(self) -> None:
        """Lets go of the engine. Open streams go on; later calls raise `EngineClosedError`."""
        self._native.close()

    def __repr__(self) -> str:
        """Model and params."""
        return f"<Context on {self._model!r}, {self._params!r}>"
