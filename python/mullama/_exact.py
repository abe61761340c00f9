"""Numbers, texts and lists of any type as Python's own. Each is read once: what is checked is what is stored."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from itertools import islice
from operator import index
from typing import Any, TypeVar

from mullama._display import shortened

T = TypeVar("T")

MOST_ITEMS = 1 << 20
"""Most items of a list that are read, as in the core; the fields' own limits are lower."""
MOST_COUNTED = 2**64 - 1
"""The largest count of the core."""


class Exact:
    """A result whose fields are counts and seconds: each is read once and stored as Python's own type."""

    __slots__ = ()

    def __post_init__(self) -> None:
        """Reads the fields.

        Raises:
            TypeError: A field has the wrong type.
            ValueError: A field is out of range.
        """
        for field in fields(self):  # type: ignore[arg-type]  # the classes are dataclasses
            read = as_count if field.type == "int" else as_seconds if field.type == "float" else None
            if read is not None:
                object.__setattr__(self, field.name, read(field.name, getattr(self, field.name)))


def as_int(name: str, value: Any, wanted: str = "an int") -> int:  # noqa: ANN401  # of any type
    """The value as an `int`, which a truth value is not."""
    if type(value) is int:
        return value
    if not _is_number(value):
        raise mistyped(name, wanted, value)
    return _converted(index, name, wanted, value)


def as_number(name: str, value: Any, wanted: str = "a number") -> float:  # noqa: ANN401  # of any type
    """The value as a `float`, or as an `int` if it is one, of any size."""
    if type(value) is float or type(value) is int:
        return value
    if not _is_number(value):
        raise mistyped(name, wanted, value)
    whole = isinstance(value, int) or not hasattr(type(value), "__float__")
    return _converted(index if whole else float, name, wanted, value)


def as_bool(name: str, value: Any) -> bool:  # noqa: ANN401  # of any type
    """The value as a `bool`, if it is one of Python or NumPy."""
    if type(value) is bool:
        return value
    if getattr(value, "ndim", None) != 0 or not _is_truth(getattr(value, "dtype", None)):
        raise mistyped(name, "a bool", value)
    return bool(value)


def as_text(name: str, value: Any, wanted: str = "a str") -> str:  # noqa: ANN401  # of any type
    """The value as a `str`."""
    if not isinstance(value, str):
        raise mistyped(name, wanted, value)
    return str.__str__(value)  # the text of an enum's member, not its name


def as_path(value: Any) -> str:  # noqa: ANN401  # of any type
    """The value as the text of a path."""
    path: str | bytes = _converted(os.fspath, "path", "a str or an os.PathLike such as pathlib.Path", value)
    return str.__str__(path) if isinstance(path, str) else os.fsdecode(path)


def as_count(name: str, value: Any, most: int = MOST_COUNTED) -> int:  # noqa: ANN401  # of any type
    """The value as an `int` from 0 to the maximum."""
    count = as_int(name, value)
    if not 0 <= count <= most:
        raise out_of_range(name, told(count), f"0 to {most}")
    return count


def as_seconds(name: str, value: Any) -> float:  # noqa: ANN401  # of any type
    """The value as a `float` that is a span of time."""
    seconds = as_number(name, value)
    if not 0 <= seconds <= sys.float_info.max:
        raise out_of_range(name, told(seconds), "a finite number of seconds, 0.0 or more")
    return float(seconds)


def as_items(
    name: str,
    value: Any,  # noqa: ANN401  # of any type
    wanted: str = "a list or a tuple",
    refused: Callable[[str, str, str], Exception] | None = None,
) -> tuple[Any, ...]:
    """The items of a list, a tuple, an array and the like, but not those of texts, mappings, sets and iterators."""
    listed = hasattr(value, "__getitem__") and not hasattr(value, "keys")
    if not listed or isinstance(value, (str, bytes, bytearray)):
        raise mistyped(name, wanted, value)
    count = _converted(len, name, wanted, value) if hasattr(value, "__len__") else 0
    items = () if count > MOST_ITEMS else tuple(islice(_converted(iter, name, wanted, value), MOST_ITEMS + 1))
    if count > MOST_ITEMS or len(items) > MOST_ITEMS:
        many = count if count > MOST_ITEMS else f"more than {MOST_ITEMS}"
        raise (refused or out_of_range)(name, f"a collection of {many} items", f"at most {MOST_ITEMS} items")
    return items


def as_instance(name: str, value: object, kind: type[T]) -> T:
    """The value if it is an instance of the class, or the instance that `to_dict` made the mapping of."""
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise mistyped(name, f"a {kind.__name__} or its fields", value)
    try:
        return kind(**value)
    except (TypeError, ValueError) as error:
        message = f"{name}: {shortened(str(error), 200)}"
        raise (TypeError if isinstance(error, TypeError) else ValueError)(message) from None


def mistyped(name: str, wanted: str, value: object) -> TypeError:
    """The error of a value that has another type than the wanted one."""
    return TypeError(f"{name} must be {wanted}, not {kind_of(value)}")


def out_of_range(name: str, shown: str, allowed: str) -> ValueError:
    """The error of a value that has the right type, but is not allowed."""
    return ValueError(f"{name} is {shown}, but must be {allowed}")


def kind_of(value: object) -> str:
    """The name of the value's type, and its module if the name alone could be taken for one of Python's."""
    kind = type(value)
    is_namesake = kind.__name__ in {"bool", "int", "float", "str"} and kind.__module__ != "builtins"
    return shortened(f"{kind.__module__}.{kind.__name__}" if is_namesake else kind.__name__)


def told(value: object) -> str:
    """The value in an error message, cut where it is long."""
    try:
        return repr(shortened(value)) if type(value) is str else shortened(repr(value))
    except ValueError as error:
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise
        return "a number of very many digits"


def _is_number(value: object) -> bool:
    """Whether it is a number, or an array of one number without dimensions."""
    if isinstance(value, bool):
        return False
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return hasattr(type(value), "__index__") or hasattr(type(value), "__float__")
    # NumPy's complex numbers, dates and texts convert to floats too, the first ones by losing a part.
    return getattr(value, "ndim", None) == 0 and not _is_truth(dtype) and getattr(dtype, "kind", "f") not in "cmMSU"


def _is_truth(dtype: object) -> bool:
    """Whether it is the element type of truth values, whose names end so in NumPy, PyTorch and JAX."""
    return str(dtype).endswith("bool")


def _converted(convert: Callable[[Any], T], name: str, wanted: str, value: object) -> T:
    """The result of a conversion that may not exist for the type. What the value's own code raises is raised."""
    try:
        return convert(value)
    except (OverflowError, TypeError, ValueError):
        traceback = sys.exc_info()[2]
        if traceback is not None and traceback.tb_next is not None:
            raise
        raise mistyped(name, wanted, value) from None
