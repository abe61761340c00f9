"""The commands of a conversation: their names, their help, and how a line is recognized as one."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, NamedTuple

from mullama._display import shortened
from mullama._values import MAX_SHOWN, quoted

if TYPE_CHECKING:
    from mullama._typed import Typed


class Command(NamedTuple):
    """A command.

    Attributes:
        name: Its name, without the slash.
        arguments: What follows the name.
        words: What it does.
    """

    name: str
    arguments: str
    words: str


COMMANDS = (
    Command("help", "", "show this list, like /?"),
    Command("set", "NAME VALUE", "change a setting: /set temperature 0.2"),
    Command("set", "", "list the settings that were changed"),
    Command("set", "system TEXT", "change the system message, or remove it with none"),
    Command("show", "TOPIC", "show info, system, template, settings or messages"),
    Command("context", "", "show how much of the context is used"),
    Command("regen", "", "generate the last answer again"),
    Command("undo", "", "remove the last question and its answer"),
    Command("clear", "", "start over with an empty conversation"),
    Command("read", "FILE", "put the text of a file before the next message"),
    Command("edit", "[TEXT]", "write a message in $EDITOR, and send it"),
    Command("save", "FILE", "save the conversation to a file, as JSON"),
    Command("save!", "FILE", "the same, in place of another file of that name"),
    Command("load", "FILE", "continue the conversation of such a file"),
    Command("bye", "", "leave, like /exit, /quit and Ctrl-D"),
)
ALIASES = {"?": "help", "exit": "bye", "quit": "bye"}
TOPICS = ("info", "system", "template", "settings", "messages")
FILE_COMMANDS = frozenset(each.name for each in COMMANDS if each.arguments == "FILE")
BARE_COMMANDS = frozenset(each.name for each in COMMANDS) - {each.name for each in COMMANDS if each.arguments}
NAMES = tuple(dict.fromkeys([*(command.name for command in COMMANDS), "?", "exit", "quit"]))

KEYS = '''\
Lines between """ and """ form one message, and so does pasted text.
A \\ at the end of a line continues the message on the next line.
Tab completes commands, settings and files; Up recalls what was typed.
Ctrl-C stops an answer; at an empty prompt, pressed twice, it ends the program.'''


def help_text() -> str:
    """The list of all commands."""
    rows = [(f"/{each.name} {each.arguments}", each.words) for each in COMMANDS]
    return "\n".join(f"{head:<18} {words}" for head, words in rows) + "\n" + KEYS


def split_command(typed: Typed) -> tuple[str, str] | None:
    """The name and the rest of what was typed if it is a command; None if it is a message.

    Several lines are a message, even where the first begins with a slash: a file or a program may have been pasted.
    Only a setting may be several lines, between fences.
    """
    text = typed.text.strip()
    if typed.fenced or not text.startswith("/"):
        return None
    if text == "/":
        return "help", ""
    name, *rest = ("", text[1:]) if text[1].isspace() else text[1:].split(maxsplit=1)
    if "\n" in text and name != "set":
        return None
    return ALIASES.get(name, name), rest[0].strip() if rest else ""


def misuse(name: str, rest: str) -> str | None:
    """What to say of a command that does not exist, or that lacks a file name or has too many words."""
    if name not in NAMES:
        return unknown(name or f" {rest}")
    if name in FILE_COMMANDS and not rest:
        return f"mullama: /{name} requires a file name"
    if name in BARE_COMMANDS and rest:
        return f"mullama: /{name} takes nothing after it, so {quoted(rest)} was not expected and nothing was done"
    return None


def unknown(name: str) -> str:
    """What to say of a command that does not exist."""
    close = [] if name[:1].isspace() else difflib.get_close_matches(name.lower(), NAMES, n=1)
    guess = f"; did you mean /{close[0]}?" if close else ""
    name = shortened(name, MAX_SHOWN)
    return f'mullama: unknown command /{name}{guess}\n/help lists all commands; """ around a message sends it as it is.'
