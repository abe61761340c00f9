"""Coroutines that say so where they are used without `await`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Coroutine, Generator
from functools import wraps
from typing import Any, NoReturn, ParamSpec, SupportsIndex, TypeVar

from mullama._keywords import note_keywords, refuse_unknown

P = ParamSpec("P")
T = TypeVar("T")


class Pending(Coroutine[Any, Any, T]):
    """A call that has not been awaited. Any other use of it is told to await it."""

    __slots__ = ("__weakref__", "_call", "_coroutine")

    def __init__(self, call: str, coroutine: Coroutine[Any, Any, T]) -> None:
        """Stands for the coroutine of this call."""
        self._call = call
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, T]:
        """As the coroutine does."""
        return self._coroutine.__await__()

    def send(self, value: Any, /) -> Any:  # noqa: ANN401  # as the base has it
        """As the coroutine does."""
        return self._coroutine.send(value)

    def throw(self, kind: Any, value: Any = None, traceback: Any = None, /) -> Any:  # noqa: ANN401  # as the base has it
        """As the coroutine does."""
        return self._coroutine.throw(kind, value, traceback) if isinstance(kind, type) else self._coroutine.throw(kind)

    def close(self) -> None:
        """As the coroutine does."""
        self._coroutine.close()

    async def __aenter__(self) -> NoReturn:
        """Refuses `async with` without `await`.

        Raises:
            TypeError: Always.
        """
        self._coroutine.close()
        message = f"{self._call}() must be awaited: async with await {self._call}(...) as model"
        raise TypeError(message)

    async def __aexit__(self, *_exception: object) -> None:
        """Never reached."""

    def __reduce_ex__(self, _protocol: SupportsIndex) -> NoReturn:
        """Refuses to be pickled or copied, as the coroutine does.

        Raises:
            TypeError: Always.
        """
        message = f"cannot pickle or copy a call of {self._call}(); await it, and await another call for another model"
        raise TypeError(message)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # the coroutine's
        """What event loops and debuggers ask a coroutine for.

        Raises:
            AttributeError: The name is not the coroutine's.
        """
        if name.startswith(("cr_", "__")):
            return getattr(self._coroutine, name)
        message = f"{self._call}() must be awaited before its result has '{name}': model = await {self._call}(...)"
        raise AttributeError(message, name=name, obj=self)


def awaited(call: str) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Has an async function say what is missing where its call is not awaited, or has an unknown keyword."""

    def decorate(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        accepted = note_keywords(call, function)

        @wraps(function)
        def pending(*args: P.args, **keywords: P.kwargs) -> Coroutine[Any, Any, T]:
            refuse_unknown(call, keywords, accepted)
            return Pending(call, function(*args, **keywords))

        if sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(pending)
        return pending

    return decorate
