"""Fields of frozen values: exact types, and collections that cannot be changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

from mullama._exact import MOST_ITEMS, as_bool, as_int, as_items, as_number, as_text, mistyped, told
from mullama._exceptions import invalid_config

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LONGEST_ID = 20
"""Digits of a token id that is written as a text; no integer of the core has more."""

K = TypeVar("K")
V = TypeVar("V")

_Reader: TypeAlias = Callable[[str, Any], Any]
"""Reads the field of this name: a value of any type as the field's exact one."""


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


def freeze(settings: DataclassInstance) -> list[str]:
    """Reads every field once and stores it in Python's own types, for the core to check.

    Returns the names of the fields for `widen`: those of floats that hold ints, which may be too large for a float.

    Raises:
        TypeError: A field has the wrong type.
        InvalidConfigError: A collection has too many items, or names one token twice.
    """
    whole = []
    for name, kind, read in _readers_of(type(settings)):
        value = getattr(settings, name)
        if value is None or type(value) is kind:
            continue
        exact = read(name, value)
        if exact is not value:
            object.__setattr__(settings, name, exact)
        numbers = exact.values() if type(exact) is FrozenDict else (exact,) if kind is float else ()
        if any(type(number) is int for number in numbers):
            whole.append(name)
    return whole


def widen(settings: DataclassInstance, whole: list[str]) -> None:
    """Stores floats instead of ints in these fields, once the core has checked that floats hold them."""
    for name in whole:
        value = getattr(settings, name)
        is_mapping = type(value) is FrozenDict
        floats = FrozenDict({token: float(bias) for token, bias in value.items()}) if is_mapping else float(value)
        object.__setattr__(settings, name, floats)


def _readers_of(settings: type[DataclassInstance]) -> list[tuple[str, type | None, _Reader]]:
    """The name of each field, the type that needs no reading if there is one, and how other types are read."""
    if settings not in _known:
        _known[settings] = [(field.name, *_READERS.get(str(field.type), (str, _word))) for field in fields(settings)]
    return _known[settings]


def _word(_name: str, value: Any) -> Any:  # noqa: ANN401  # of any type
    """A word of a few, which the core knows; it refuses other types."""
    return str.__str__(value) if isinstance(value, str) else value


def _texts(name: str, value: Any) -> tuple[str, ...]:  # noqa: ANN401  # of any type
    if type(value) is tuple and all(type(item) is str for item in value) and len(value) <= MOST_ITEMS:
        return value
    items = as_items(name, value, refused=invalid_config)
    return tuple(as_text(f"{name}[{at}]", item) for at, item in enumerate(items))


def _tokens(name: str, value: Any) -> tuple[int, ...]:  # noqa: ANN401  # of any type
    items = as_items(name, value, refused=invalid_config)
    return tuple(as_int(f"{name}[{at}]", item) for at, item in enumerate(items))


def _biases(name: str, value: Any) -> FrozenDict[int, float]:  # noqa: ANN401  # of any type
    if type(value) is FrozenDict and not value:
        return value
    if not isinstance(value, Mapping):
        raise mistyped(name, "a mapping", value)
    count = len(value)
    keys: dict[int, object] = {}
    biases: dict[int, float] = {}
    for key, bias in () if count > MOST_ITEMS else islice(value.items(), MOST_ITEMS + 1):
        token = key if type(key) is int else _token(name, key)
        if token in keys:
            shown = f"a mapping with the keys {told(keys[token])} and {told(key)}"
            raise invalid_config(name, shown, "a mapping with one key for each token id")
        keys[token] = key
        biases[token] = bias if type(bias) is float else as_number(f"{name}[{told(token)}]", bias)
    count = max(count, len(biases))
    if count > MOST_ITEMS:
        raise invalid_config(name, f"a collection of {count} items", f"at most {MOST_ITEMS} items")
    return FrozenDict(biases)


def _token(name: str, key: Any) -> int:  # noqa: ANN401  # of any type
    """The token id that a key is. The keys of a JSON object are texts, so its digits are taken too."""
    if not isinstance(key, str):
        return as_int(f"the key {told(key)} of {name}", key, "an int token id")
    text = str.__str__(key)
    is_id = len(text) <= LONGEST_ID and text.isascii() and text.removeprefix("-").isdigit() and str(int(text)) == text
    if not is_id:
        error = mistyped(f"the key {told(text)} of {name}", "an int token id", text)
        raise error
    return int(text)


_known: dict[type, list[tuple[str, type | None, _Reader]]] = {}
"""What `_readers_of` returned for each class."""

_READERS: dict[str, tuple[type | None, _Reader]] = {
    "int": (int, as_int),
    "int | None": (int, as_int),
    "float": (float, as_number),
    "bool": (bool, as_bool),
    "Sequence[str]": (None, _texts),
    "Sequence[int]": (None, _tokens),
    "Mapping[int, float]": (None, _biases),
}
"""How the fields of each type are read, and the type that needs no reading; those of other types are words."""
