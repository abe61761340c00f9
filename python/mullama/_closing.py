"""What `with` and `async with` do to everything that can be closed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Self


class Closing:
    """Closed at the end of its `with` block."""

    __slots__ = ()

    def close(self) -> None:
        """Lets go of what it holds."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Itself; the end of the block closes it."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Closes it."""
        self.close()


class AsyncClosing(Closing):
    """Closed at the end of its `with` or `async with` block."""

    __slots__ = ()

    async def __aenter__(self) -> Self:
        """Itself; the end of the block closes it."""
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Closes it."""
        self.close()
