"""JSON schemas of settings, for pydantic and so for FastAPI, with the limits of the core's tables."""

from __future__ import annotations

from typing import Any

from mullama import _mullama
from mullama._display import changed

_EXACT = 2**53
"""Larger limits are those of a number type, not of a setting, and JSON does not carry them exactly."""

_ITEMS = {"array": "maxItems", "object": "maxProperties"}


class Settings:
    """A dataclass of settings, whose schema states their limits. Values are checked by the class itself.

    pydantic is not needed; where it is installed, it calls this.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """The fields that differ from their defaults, as the constructor takes them."""
        return f"{type(self).__name__}({changed(self)})"  # type: ignore[arg-type]  # each subclass is a dataclass

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:  # noqa: ANN401  # pydantic's
        """Adds the limits to the schema that pydantic makes."""
        schema: dict[str, Any] = handler(core_schema)
        properties: dict[str, dict[str, Any]] = handler.resolve_ref_schema(schema)["properties"]
        for name, least, most in _mullama.setting_limits():
            if name in properties:
                _add_limits(properties[name], least, most)
        return schema


def _add_limits(schema: dict[str, Any], least: float | None, most: float) -> None:
    for each in schema.get("anyOf", [schema]):
        kind = each.get("type")
        if kind in _ITEMS:
            each[_ITEMS[kind]] = int(most)
        elif kind in {"integer", "number"} and least is not None:
            number = int if kind == "integer" else float
            each["minimum"] = number(least)
            if most < _EXACT:
                each["maximum"] = number(most)
