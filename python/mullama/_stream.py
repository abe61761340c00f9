"""A stream of tokens: one object for `for` and for `async for`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from mullama import _mullama, _notifier  # noqa: F401  # the native module uses it, and could fail to import it later
from mullama._closing import AsyncClosing
from mullama._config import StreamConfig
from mullama._display import Displayed
from mullama._exceptions import EngineClosedError
from mullama._mullama import Chat
from mullama._notebook import blocks_a_coroutine, follow
from mullama._typing import Self
from mullama._usage import Timings, Usage

_warned_of_a_blocked_loop = False
"""Whether the warning that a plain `for` blocks the event loop was given; once is enough."""


class TokenStream(_mullama.TokenStream, AsyncClosing, Displayed):
    """A stream of tokens, each available as soon as it exists. `generate_stream` and `chat_stream` open it.

    Read it with `for`, which releases the GIL and blocks until the next token exists, or with `async for`, which lets
    the event loop run meanwhile. A stream has one reader at a time, which may change between reads: other threads,
    tasks and event loops may go on reading. `cancel`, `close` and everything that observes the stream work from
    anywhere at any time. A stream that is no longer referenced stops by itself; end it with `with` where a variable or
    a traceback may keep it.

    Raises:
        InvalidPromptError: The first read says what is wrong with the prompt.
        ContextOverflowError: The prompt leaves no room in the context; the first read says so.
        ChatTemplateError: The model's template cannot render the messages; the first read says so.
        StreamTimeoutError: A deadline passed. What was produced before comes first.
        StreamBusyError: Another read of this stream is waiting.
        GenerationError: The engine could not go on with this stream.
        EngineClosedError: The model was closed, or the process is a forked child of the one that opened the stream.
        RuntimeError: `async for` without a running asyncio event loop, under trio for example.

    Example:
        >>> stream = context.generate_stream("Write a poem:", max_tokens=20)
        >>> for token in stream:
        ...     print(token.text, end="", flush=True)
        >>> stream.finish_reason
        'length'
    """

    def __init__(self, context: _mullama.Context, prompt: str | Sequence[int] | Chat, config: StreamConfig) -> None:
        """Called by `generate_stream` and `chat_stream`."""
        del context, prompt, config  # the native half took them
        follow(self)

    def __iter__(self) -> Self:
        """The stream itself. Warns once where reading would block a coroutine's event loop."""
        warn_of_a_blocked_loop(3)
        follow(self, blocking=True)
        return self

    def __aiter__(self) -> Self:
        """The stream itself."""
        follow(self)
        return self

    async def aclose(self) -> None:
        """As `close()`, which does not block either."""
        self.close()

    @property
    def usage(self) -> Usage:
        """Token counts so far."""
        return Usage(*self._counts())

    @property
    def timings(self) -> Timings:
        """Where the time went so far."""
        return Timings(*self._spans())

    def __repr__(self) -> str:
        """Whether it is open or how it ended, and how far it was read."""
        try:
            return f"<TokenStream {self.finish_reason or 'open'}, {self.tokens_generated} tokens read>"
        except EngineClosedError:
            return "<TokenStream of the process before the fork>"


def warn_of_a_blocked_loop(stacklevel: int) -> None:
    """Warns, once per process, if a read without `async` blocks the event loop that runs the caller's coroutine."""
    global _warned_of_a_blocked_loop  # noqa: PLW0603  # once per process
    if _warned_of_a_blocked_loop or not blocks_a_coroutine():
        return
    _warned_of_a_blocked_loop = True
    message = "reading a stream without `async` blocks the running event loop; `async for` and AsyncModel do not"
    warnings.warn(message, RuntimeWarning, stacklevel=stacklevel)
