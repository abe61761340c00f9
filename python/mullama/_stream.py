"""A stream of tokens: one object for `for` and for `async for`."""

from __future__ import annotations

import sys
import types
import warnings

from mullama import _mullama
from mullama._closing import AsyncClosing
from mullama._usage import Timings, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Sequence

    from typing_extensions import Self

    from mullama._bell import Hold
    from mullama._config import StreamConfig
    from mullama._mullama import Chat, Token

_news: Callable[[TokenStream], Coroutine[None, None, None]] | None = None
"""Waits for news on the running event loop; None until somebody does."""

_blocked_a_loop = False
"""Whether somebody was told that a plain `for` stops the event loop; once is enough."""


class TokenStream(_mullama.TokenStream, AsyncClosing):
    """A stream of tokens, each there as soon as it exists. `generate_stream` and `chat_stream` open it.

    Read it with `for`, which blocks without the GIL until the next token is there, or with `async for`, which lets the
    event loop go on. Any thread and any task may read, cancel and close. A stream that nothing refers to any more stops
    by itself.

    Raises:
        InvalidPromptError: The first read says what is wrong with the prompt.
        ContextOverflowError: The prompt leaves no room in the context; the first read says so.
        ChatTemplateError: The model's template cannot render the messages; the first read says so.
        StreamTimeoutError: A deadline passed. What was produced before comes first.
        GenerationError: The engine could not go on with this stream.
        EngineClosedError: The model was closed.

    Example:
        >>> stream = context.generate_stream("Write a poem:", max_tokens=20)
        >>> for token in stream:
        ...     print(token.text, end="", flush=True)
        >>> stream.finish_reason
        'length'
    """

    def __init__(self, context: _mullama.Context, prompt: str | Sequence[int] | Chat, config: StreamConfig) -> None:
        """Called by `generate_stream` and `chat_stream`."""
        del context, prompt  # the native half took them
        self._most_at_once = config.buffer_size
        self._at_once = 0
        self._hold: Hold | None = None
        """What an event loop knows the stream by."""

    def __iter__(self) -> Self:
        """The stream itself. Warns once where reading would block a running event loop."""
        warn_of_a_blocked_loop(3)
        return self

    def __aiter__(self) -> Self:
        """The stream itself."""
        return self

    async def __anext__(self) -> Token:
        """The next token: at once if it is there, else when the event loop hears of it.

        Takes the token only when it returns it, so that none is lost if it is cancelled.
        """
        if self._at_once >= self._most_at_once:
            # A reader that finds every token there must not keep the loop to itself.
            self._at_once = 0
            await _let_others_run()
        token = self.take()
        while token is None:
            self._at_once = 0
            await (_news or _import_news())(self)
            token = self.take()
        self._at_once += 1
        return token

    async def aclose(self) -> None:
        """As `close()`, which does not block either."""
        self.close()

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return Usage(*self.counts())

    @property
    def timings(self) -> Timings:
        """Where the time went so far."""
        return Timings(*self.spans())

    def __repr__(self) -> str:
        """How it stands, and how far it was read."""
        return f"<TokenStream {self.finish_reason or 'open'}, {self.tokens_generated} tokens read>"


def warn_of_a_blocked_loop(stacklevel: int) -> None:
    """Warns, once a process, if an event loop runs on this thread: reading without `async` stops it."""
    global _blocked_a_loop  # noqa: PLW0603  # once a process
    asyncio = sys.modules.get("asyncio")
    if _blocked_a_loop or asyncio is None or asyncio._get_running_loop() is None:  # noqa: SLF001  # exported so
        return
    _blocked_a_loop = True
    message = "reading a stream without `async` blocks the running event loop; `async for` and AsyncModel do not"
    warnings.warn(message, RuntimeWarning, stacklevel=stacklevel)


def _import_news() -> Callable[[TokenStream], Coroutine[None, None, None]]:
    """Asyncio is slow to import, and not everybody needs it."""
    global _news  # noqa: PLW0603  # once a process
    from mullama._bell import news  # noqa: PLC0415

    _news = news
    return news


@types.coroutine
def _let_others_run() -> Generator[None, None, None]:
    """One turn of the event loop, whichever it is."""
    yield
