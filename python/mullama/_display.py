"""Short forms of what IPython and Jupyter display."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance

LONGEST_TEXT = 60
"""Characters of a text that a `repr` quotes."""
LONGEST_HTML = 2000
"""Characters of a text that a cell's output shows."""


class _Printer(Protocol):
    """IPython's pretty printer."""

    def text(self, obj: str, /) -> None: ...


class Displayed:
    """What IPython shows for an object: its `repr`, on one line."""

    __slots__ = ()

    def _repr_pretty_(self, printer: _Printer, cycle: bool) -> None:  # noqa: FBT001  # IPython's call
        printer.text("..." if cycle else repr(self))

    def _repr_html_(self) -> str:
        return code(repr(self))


def shortened(text: str, longest: int = LONGEST_TEXT) -> str:
    """The text, or what of its beginning fits beside an ellipsis."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def changed(params: DataclassInstance) -> str:
    """The fields of a dataclass that differ from their defaults, as its constructor takes them."""
    default = type(params)()
    values = {field.name: getattr(params, field.name) for field in fields(params)}
    return ", ".join(f"{name}={value!r}" for name, value in values.items() if value != getattr(default, name))


def code(text: str) -> str:
    """The text as a line of HTML in a fixed-width font."""
    from html import escape  # noqa: PLC0415  # only notebooks need it

    return f"<code>{escape(text)}</code>"


def prose(text: str, caption: str) -> str:
    """Generated text as HTML, with its lines, and a caption below."""
    from html import escape  # noqa: PLC0415  # only notebooks need it

    shown = escape(shortened(text, LONGEST_HTML))
    return f'<div style="white-space: pre-wrap">{shown}</div><small>{escape(caption)}</small>'


def table(rows: Mapping[str, Any]) -> str:
    """Names and values as a table in HTML."""
    from html import escape  # noqa: PLC0415  # only notebooks need it

    cells = (f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows.items())
    return f"<table>{''.join(cells)}</table>"
