"""Makes the native `Token` a value that Python's libraries understand: `dataclasses`, `copy`, pydantic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mullama._mullama import Token

__all__ = ["Token"]


@dataclass(frozen=True)
class _Fields:
    """The fields of a token as `dataclasses` sees them: all but `bytes`, which JSON cannot hold."""

    text: str
    id: int | None
    index: int
    logprob: float | None
    top_logprobs: list[tuple[int, float]]


def _pydantic_schema(token: type[Token], _source: object, _handler: Callable[[Any], Any]) -> Any:  # noqa: ANN401
    """Lets pydantic, and so FastAPI, read and write tokens."""
    from pydantic_core import core_schema  # noqa: PLC0415  # pydantic calls this, so it is installed

    def validate(value: object) -> Token:
        if isinstance(value, token):
            return value
        if isinstance(value, dict):
            try:
                # JSON has no tuples.
                pairs = [tuple(pair) for pair in value.get("top_logprobs", ())]
                return token(**value | {"top_logprobs": pairs})
            except (TypeError, OverflowError) as error:
                raise ValueError(str(error)) from None
        message = f"must be a Token or its fields, not {type(value).__name__}"
        raise ValueError(message)

    pair = core_schema.tuple_schema([core_schema.int_schema(), core_schema.float_schema()])
    types = {
        "text": core_schema.str_schema(),
        "id": core_schema.nullable_schema(core_schema.int_schema()),
        "index": core_schema.int_schema(),
        "logprob": core_schema.nullable_schema(core_schema.float_schema()),
        "top_logprobs": core_schema.list_schema(pair),
    }
    schema = core_schema.typed_dict_schema({name: core_schema.typed_dict_field(types[name]) for name in types})
    return core_schema.no_info_plain_validator_function(
        validate,
        json_schema_input_schema=schema,
        serialization=core_schema.plain_serializer_function_ser_schema(
            lambda one: {name: getattr(one, name) for name in types}, return_schema=schema
        ),
    )


# Set from here because a native class cannot be decorated with `dataclass`.
Token.__dataclass_fields__ = _Fields.__dataclass_fields__
Token.__annotations__ = {**_Fields.__annotations__, "bytes": "bytes"}
Token.__get_pydantic_core_schema__ = classmethod(_pydantic_schema)  # type: ignore[attr-defined]
