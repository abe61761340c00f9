"""Base classes of everything that can be closed: `with`, `async with`, and no copies."""

from __future__ import annotations

from typing import NoReturn, SupportsIndex

from mullama._typing import Self


class Closing:
    """A handle that is closed at the end of its `with` block. It belongs to its process."""

    __slots__ = ()

    def close(self) -> None:
        """Releases what the handle holds."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Returns the handle itself. The end of the block closes it."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Closes the handle."""
        self.close()

    def __reduce_ex__(self, _protocol: SupportsIndex) -> NoReturn:
        """Refuses to be pickled or copied.

        Raises:
            TypeError: Always. It says what to do instead.
        """
        message = (
            f"cannot pickle or copy a {type(self).__name__}, because it belongs to this process and its memory: "
            "threads can share it; another process has to load the model itself; "
            "results such as Completion and Token can be sent between processes"
        )
        raise TypeError(message)


class AsyncClosing(Closing):
    """A handle that is closed at the end of its `with` or `async with` block."""

    __slots__ = ()

    async def __aenter__(self) -> Self:
        """Returns the handle itself. The end of the block closes it."""
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Closes the handle."""
        self.close()
