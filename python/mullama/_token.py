"""Makes the native `Token` a value that Python's libraries understand: `dataclasses`, `copy`, pydantic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import InitVar, dataclass, replace
from typing import Any

from mullama._exact import as_count, as_instance, as_items, as_number, as_text, out_of_range, told
from mullama._mullama import Token

__all__ = ["Token"]

_HIGHEST_ID = 2**31 - 1
_HIGHEST_LOGPROB = 3.4e38
"""Log-probabilities are single-precision numbers."""
_NEVER = float("-inf")
_NEVER_IN_JSON = "-Infinity"
"""JSON has no infinity. pydantic reads and writes one so, as it does in a `StreamConfig`."""


@dataclass(init=False, repr=False, eq=False)
class _Fields:
    """The fields of a token as `dataclasses` sees them: `asdict` leaves out `bytes`, which JSON cannot hold."""

    text: str
    id: int | None
    index: int
    logprob: float | None
    top_logprobs: list[tuple[int, float]]
    bytes: InitVar[Any] = None
    """`replace` copies it, as its default is not missing."""


def read_fields(  # noqa: PLR0913, PLR0917  # one per field
    text: str,
    id: int | None = None,  # noqa: A002  # as the field
    bytes: Any = None,  # noqa: A002, ANN401  # as the field
    index: int = 0,
    logprob: float | None = None,
    top_logprobs: Any = (),  # noqa: ANN401  # any sequence of pairs
) -> tuple[str, int | None, Any, int, float | None, list[tuple[int, float]]]:
    """The arguments of `Token`, as the native class takes them, which calls this.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range.
    """
    text = as_text("text", text)
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        error = out_of_range("text", told(text), "text without lone surrogates")
        raise error from None
    return (
        text,
        None if id is None else as_count("id", id, _HIGHEST_ID),
        encoded if bytes is None else _bytes(bytes),
        as_count("index", index),
        None if logprob is None else _logprob("logprob", logprob),
        [_pair(f"top_logprobs[{at}]", pair) for at, pair in enumerate(as_items("top_logprobs", top_logprobs))],
    )


read_fields.__qualname__ = "Token"  # as which Python's own errors about arguments name it


def _bytes(value: Any) -> bytes:  # noqa: ANN401  # of any type
    if isinstance(value, (bytes, bytearray)):
        return memoryview(value).tobytes()
    items = as_items("bytes", value, "bytes or a list of integers")
    return bytes([as_count(f"bytes[{at}]", item, 255) for at, item in enumerate(items)])


def _logprob(name: str, value: Any) -> float:  # noqa: ANN401  # of any type
    logprob = _NEVER if isinstance(value, str) and value == _NEVER_IN_JSON else as_number(name, value)
    if not (-_HIGHEST_LOGPROB <= logprob <= _HIGHEST_LOGPROB or logprob == _NEVER):
        raise out_of_range(name, told(logprob), f"-{_HIGHEST_LOGPROB} to {_HIGHEST_LOGPROB}, or negative infinity")
    return float(logprob)


def _pair(name: str, value: Any) -> tuple[int, float]:  # noqa: ANN401  # of any type
    wanted = "a pair of a token id and a log-probability"
    items = as_items(name, value, wanted)
    if len(items) != 2:  # noqa: PLR2004  # a pair
        raise out_of_range(name, f"a collection of {len(items)} items", wanted)
    return as_count(f"{name}[0]", items[0], _HIGHEST_ID), _logprob(f"{name}[1]", items[1])


def _pydantic_schema(token: type[Token], _source: object, _handler: Callable[[Any], Any]) -> Any:  # noqa: ANN401
    """Lets pydantic, and so FastAPI, read and write tokens."""
    from pydantic_core import core_schema  # noqa: PLC0415  # pydantic calls this, so it is installed

    def validate(value: object) -> Token:
        if isinstance(value, token):
            return value
        try:
            return as_instance("the value", value, token)
        except TypeError as error:  # pydantic takes this for a mistake of ours
            raise ValueError(str(error)) from None

    written = core_schema.plain_serializer_function_ser_schema(
        lambda logprob: _NEVER_IN_JSON if logprob == _NEVER else logprob, when_used="json"
    )
    logprob = core_schema.float_schema(serialization=written)
    pair = core_schema.tuple_schema([core_schema.int_schema(), logprob])
    types = {
        "text": core_schema.str_schema(),
        "id": core_schema.nullable_schema(core_schema.int_schema()),
        "bytes": core_schema.list_schema(core_schema.int_schema(ge=0, le=255)),
        "index": core_schema.int_schema(),
        "logprob": core_schema.nullable_schema(logprob),
        "top_logprobs": core_schema.list_schema(pair),
    }
    schema = core_schema.typed_dict_schema({name: core_schema.typed_dict_field(types[name]) for name in types})
    return core_schema.no_info_plain_validator_function(
        validate,
        json_schema_input_schema=schema,
        serialization=core_schema.plain_serializer_function_ser_schema(lambda one: one.to_dict(), return_schema=schema),
    )


# Set from here because a native class cannot be decorated with `dataclass`.
Token.__dataclass_fields__ = _Fields.__dataclass_fields__
Token.__annotations__ = {**_Fields.__annotations__, "bytes": "bytes"}
Token.__replace__ = replace  # type: ignore[method-assign]
Token.__get_pydantic_core_schema__ = classmethod(_pydantic_schema)  # type: ignore[attr-defined]
