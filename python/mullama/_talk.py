"""The command `mullama run` without a prompt: a conversation on a terminal, with memory."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from _mullama_command import interrupts
from mullama._config import StreamConfig
from mullama._exceptions import ContextOverflowError, MullamaError
from mullama._output import plain, say, write_pieces, write_rest
from mullama._run import summary
from mullama._typed import line_reader, read_message, read_value

if TYPE_CHECKING:
    from mullama._model import Model
    from mullama._run import Job
    from mullama._typed import Typed

HELP = '''\
/set NAME VALUE   change a setting, for example /set temperature 0.2; /set lists the changed settings
/clear            start over with an empty conversation
/save FILE        save the conversation to a file, as JSON
/help             show this list
/bye              leave, like Ctrl-D
Lines between """ and """ form one message, and a \\ at the end of a line continues it on the next.
Ctrl-C stops a reply; at the prompt it ends the program.'''

DEFAULTS = StreamConfig(timeout_ms=None)
"""The settings until they are changed: a reply on a terminal has no deadline."""

NAMES = [field.name for field in fields(StreamConfig)]


def talk(job: Job) -> None:
    """Loads the model and replies to what is typed, until Ctrl-D or /bye."""
    Talk(job).go_on()


class Talk:
    """A conversation with its messages."""

    def __init__(self, job: Job) -> None:
        """Loads the model.

        Raises:
            ChatTemplateError: The model has no chat template, or one that refuses the system message.
        """
        self._job = job
        self._context = job.load()
        self._config = job.config
        self._messages = job.first_messages()
        # Fails now rather than after the user has typed a message.
        self._context.model.apply_chat_template([*self._messages, {"role": "user", "content": "Hello!"}])

    def go_on(self) -> None:
        """Replies to message after message. Ctrl-C at the prompt is left to the caller."""
        say(greeting(self._context.model))
        read_line = line_reader()
        try:
            while self._take(read_message(read_line)):
                pass
        except EOFError:
            say("")  # so that the shell's prompt is on a line of its own
        except KeyboardInterrupt:
            say("")
            raise

    def _take(self, typed: Typed) -> bool:
        """Runs a command, or replies to a message. Returns whether the conversation continues."""
        text = typed.text.strip()
        command = None if typed.fenced else re.fullmatch(r"/(\w*)(?:\s+(.*))?", text, re.DOTALL)
        if command is None:
            if text:
                self._answer(typed.text)
            return True
        name, rest = command[1], (command[2] or "").strip()
        if name == "clear":
            self._messages = self._job.first_messages()
            say("Started a new conversation.")
        elif name == "set":
            self._set(*rest.split(maxsplit=1))
        elif name == "save":
            self._save(rest)
        elif name in {"help", ""}:
            say(HELP)
        elif name != "bye":
            say(f"mullama: unknown command /{name}; /help lists all commands")
        return name != "bye"

    def _answer(self, text: str) -> None:
        """Writes a reply and adds it to the conversation. A turn that fails is reported and not added."""
        said = [*self._messages, {"role": "user", "content": text}]
        at_once = self._job.stream
        try:
            with self._context.chat_stream(said, config=self._config) as stream:
                try:
                    write_pieces(stream, at_once=at_once)
                except KeyboardInterrupt:
                    stream.close()
                    # From here on, another one ends the program.
                    interrupts.rearm()
                finally:
                    write_rest(stream, at_once=at_once)
                if self._job.verbose:
                    say(summary(stream))
                if stream.text:
                    self._messages = [*said, {"role": "assistant", "content": stream.text}]
        except ContextOverflowError as error:
            say(plain(f"mullama: {error}; /clear starts over"))
        except MullamaError as error:
            say(plain(f"mullama: {error}"))

    def _set(self, name: str | None = None, value: str | None = None) -> None:
        """Changes a setting, or shows one or all changed settings."""
        if name is None:
            changed = [each for each in NAMES if getattr(self._config, each) != getattr(DEFAULTS, each)]
            say("\n".join(map(self._shown, changed)) or "All settings have their defaults.")
        elif name not in NAMES:
            close = difflib.get_close_matches(name, NAMES, n=1)
            say(f"mullama: unknown setting {name}" + (f"; did you mean {close[0]}?" if close else ""))
        elif value is None:
            say(self._shown(name))
        else:
            try:
                # StreamConfig checks the value, which a type checker cannot.
                self._config = replace(self._config, **{name: read_value(name, value)})  # type: ignore[arg-type]
            except (MullamaError, TypeError, ValueError, OverflowError) as error:
                say(f"mullama: {error}")
            else:
                say(self._shown(name))

    def _shown(self, name: str) -> str:
        value = getattr(self._config, name)
        return f"{name} {json.dumps(value, ensure_ascii=False)}"

    def _save(self, file: str) -> None:
        if not file:
            say("mullama: /save requires a file name")
            return
        try:
            path = Path(file).expanduser()
            path.write_text(json.dumps(self._messages, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        except (OSError, RuntimeError, ValueError) as error:  # no such directory, no such home directory, no valid name
            say(f"mullama: cannot save to {file}: {getattr(error, 'strerror', None) or error}")
        else:
            say(f"{len(self._messages)} messages saved to {path}")


def greeting(model: Model) -> str:
    """The first line of a conversation."""
    name = model.metadata.get("general.name") or Path(model.path).name
    return f"Chatting with {plain(name)}. /help lists the commands, Ctrl-D leaves."
