"""Jinja2, set up for chat templates as Hugging Face's libraries set it up: what mullama is measured against."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import jinja2
import jinja2.ext
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2.parser import Parser


class Generation(jinja2.ext.Extension):
    """The tags around what an assistant said. Like theirs, a block with variables of its own."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 asks for a set

    def parse(self, parser: Parser) -> jinja2.nodes.Node:
        """Up to the end tag."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_written")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _written(self, caller: Callable[[], str]) -> str:
        return caller()


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)  # noqa: DTZ005  # the local time, as there


def _tojson(
    value: object,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002  # the signature is theirs
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment() -> ImmutableSandboxedEnvironment:
    """As in `transformers.utils.chat_template_utils`."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = _tojson
    made.globals["raise_exception"] = _raise_exception
    made.globals["strftime_now"] = _strftime_now
    return made


class Template:
    """A template, compiled once."""

    def __init__(self, source: str) -> None:
        """Compiles it; the syntax must be right."""
        self._template = environment().from_string(source)

    def render(self, variables: dict[str, Any]) -> tuple[str | None, str | None]:
        """The text, or what jinja2 raised."""
        try:
            return self._template.render(variables), None
        except Exception as error:  # noqa: BLE001  # a template fails with any of Python's errors
            return None, f"{type(error).__name__}: {error}"
