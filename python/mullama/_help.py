"""The text of `--help`: usage, examples, and options in groups."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any

from typer.core import TyperCommand, TyperGroup

MAX_WIDTH = 100
INDENT = 28
"""Column in which the descriptions start."""

NARROW, NARROW_INDENT = 56, 6
"""Below this width, descriptions stand on lines of their own, indented by this."""


class Command(TyperCommand):
    """A command whose help is plain text in groups."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401  # newer versions of Typer bring a Click of their own
        """Writes the help."""
        formatter.write(help_text(self, ctx))


class Group(TyperGroup):
    """A group of commands with the same help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401  # the same
        """Writes the help."""
        formatter.write(help_text(self, ctx))


def help_text(command: Any, context: Any) -> str:  # noqa: ANN401  # the same
    """The whole help of a command."""
    width = min(shutil.get_terminal_size().columns, MAX_WIDTH)
    groups = grouped(command.get_params(context))
    usage = " ".join(name(argument) for argument in groups.pop("", []))
    commands = getattr(command, "commands", {})
    words = [context.command_path, "COMMAND" if commands else usage, "[OPTIONS]"]
    parts = [f"Usage: {' '.join(filter(None, words))}", textwrap.fill(command.help, width)]
    if command.epilog:
        parts.append(f"Examples:\n{textwrap.indent(command.epilog.strip(), '  ')}")
    if commands:
        parts.append(section("Commands", [(each, one.help) for each, one in commands.items()], width))
    arguments = [(each.metavar, each.help) for each in command.params if each.param_type_name == "argument"]
    if arguments:
        parts.append(section("Arguments", arguments, width))
    for title, options in groups.items():
        parts.append(section(title, [(name(option), option.help) for option in options], width))
    return "\n\n".join(parts)


def grouped(parameters: list[Any]) -> dict[str, list[Any]]:
    """The options by the title of their group, in order; arguments have the title ""."""
    groups: dict[str, list[Any]] = {}
    for each in parameters:
        if getattr(each, "hidden", False):
            continue
        title = "" if each.param_type_name == "argument" else getattr(each, "rich_help_panel", None) or "Options"
        groups.setdefault(title, []).append(each)
    # `--help` and its like come last.
    return {**{title: each for title, each in groups.items() if title != "Options"}, **_last(groups)}


def _last(groups: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {"Other options": groups["Options"]} if "Options" in groups else {}


def name(parameter: Any) -> str:  # noqa: ANN401  # the same
    """How to write a parameter on the command line."""
    if parameter.param_type_name == "argument":
        shown = f"{parameter.metavar}..." if parameter.nargs == -1 else parameter.metavar
        return shown if parameter.required else f"[{shown}]"
    short = [option for option in parameter.opts if not option.startswith("--")]
    long = [option for option in parameter.opts if option.startswith("--")]
    words = ", ".join([*short, *long]) if short else f"    {', '.join(long)}"
    return words if parameter.is_flag or not parameter.metavar else f"{words} {parameter.metavar}"


def section(title: str, rows: list[tuple[str, str | None]], width: int) -> str:
    """A titled list of names and descriptions."""
    lines = [f"{title}:"]
    indent = INDENT if width >= NARROW else NARROW_INDENT
    for first, words in rows:
        described = textwrap.wrap(words or "", max(width - indent, 20))
        head = f"  {first}"
        if len(head) < indent - 1 and described:
            lines.append(f"{head:<{indent}}{described.pop(0)}")
        else:
            lines.append(head)
        lines += [" " * indent + line for line in described]
    return "\n".join(lines)
