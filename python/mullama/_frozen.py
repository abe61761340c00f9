"""A dict that cannot be changed."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class FrozenDict(dict[K, V]):
    """A dict that cannot be changed, so that a frozen value can hold it and be hashed."""

    __slots__ = ()

    def _refuse(self, *_arguments: Any, **_items: Any) -> NoReturn:  # noqa: ANN401  # those of a dict
        """Refuses a change.

        Raises:
            TypeError: Always.
        """
        message = "this mapping belongs to a frozen value and cannot be changed; dict(mapping) is a copy that can"
        raise TypeError(message)

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        """Equal mappings have equal hashes."""
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[FrozenDict[K, V]], tuple[dict[K, V]]]:
        """Copies and pickles are made of all items at once."""
        return type(self), (dict(self),)
