"""The command `mullama run` without a prompt: a conversation on a terminal, with memory."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

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
/set NAME VALUE   change a setting, such as /set temperature 0.2; /set shows what is set
/clear            forget the conversation
/save FILE        write the conversation to a file, as JSON
/help             this list
/bye              leave, as Ctrl-D does
Lines between """ and """ are one message, and a \\ at the end of a line continues it.
Ctrl-C stops an answer; at the prompt it ends the program.'''

DEFAULTS = StreamConfig(timeout_ms=None)
"""What a setting is until it is set: an answer at a terminal has no deadline."""

NAMES = [field.name for field in fields(StreamConfig)]


def talk(job: Job) -> None:
    """Loads the model and answers what is typed, until Ctrl-D or /bye."""
    Talk(job).go_on()


class Talk:
    """A conversation, with all that was said in it."""

    def __init__(self, job: Job) -> None:
        """Loads the model.

        Raises:
            ChatTemplateError: The model has no chat template, or one that refuses the system message.
        """
        self._job = job
        self._context = job.load()
        self._config = job.config
        self._messages = job.beginning()
        # Refused now, rather than after a message was typed.
        self._context.model.apply_chat_template([*self._messages, {"role": "user", "content": "Hello!"}])

    def go_on(self) -> None:
        """Answers message after message. Ctrl-C at the prompt is the caller's."""
        say(greeting(self._context.model))
        read_line = line_reader()
        try:
            while self._take(read_message(read_line)):
                pass
        except EOFError:
            say("")  # the shell's prompt belongs on a line of its own
        except KeyboardInterrupt:
            say("")
            raise

    def _take(self, typed: Typed) -> bool:
        """Obeys a command, or answers a message; whether the conversation goes on."""
        text = typed.text.strip()
        command = None if typed.fenced else re.fullmatch(r"/(\w*)(?:\s+(.*))?", text, re.DOTALL)
        if command is None:
            if text:
                self._answer(typed.text)
            return True
        name, rest = command[1], (command[2] or "").strip()
        if name == "clear":
            self._messages = self._job.beginning()
            say("The conversation is forgotten.")
        elif name == "set":
            self._set(*rest.split(maxsplit=1))
        elif name == "save":
            self._save(rest)
        elif name in {"help", ""}:
            say(HELP)
        elif name != "bye":
            say(f"mullama: there is no command /{name}; /help lists them")
        return name != "bye"

    def _answer(self, text: str) -> None:
        """Writes an answer and remembers it. A turn that fails is told, and forgotten."""
        said = [*self._messages, {"role": "user", "content": text}]
        at_once = self._job.stream
        try:
            with self._context.chat_stream(said, config=self._config) as stream:
                try:
                    write_pieces(stream, at_once=at_once)
                except KeyboardInterrupt:
                    # From here on, a second one ends the program.
                    stream.close()
                finally:
                    write_rest(stream, at_once=at_once)
                if self._job.verbose:
                    say(summary(stream))
                if stream.text:
                    self._messages = [*said, {"role": "assistant", "content": stream.text}]
        except ContextOverflowError as error:
            say(plain(f"mullama: {error}; /clear forgets the conversation"))
        except MullamaError as error:
            say(plain(f"mullama: {error}"))

    def _set(self, name: str | None = None, value: str | None = None) -> None:
        """Changes a setting, or shows one or all that were changed."""
        if name is None:
            changed = [each for each in NAMES if getattr(self._config, each) != getattr(DEFAULTS, each)]
            say("\n".join(map(self._shown, changed)) or "Nothing is set.")
        elif name not in NAMES:
            close = difflib.get_close_matches(name, NAMES, n=1)
            say(f"mullama: there is no setting {name}" + (f"; did you mean {close[0]}?" if close else ""))
        elif value is None:
            say(self._shown(name))
        else:
            try:
                # The checks of StreamConfig look at each value; a type checker cannot look at this one.
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
            say("mullama: /save needs the name of a file")
            return
        try:
            path = Path(file).expanduser()
            path.write_text(json.dumps(self._messages, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        except (OSError, RuntimeError, ValueError) as error:  # no such place, no such home, no such name
            say(f"mullama: cannot save to {file}: {getattr(error, 'strerror', None) or error}")
        else:
            say(f"{len(self._messages)} messages saved to {path}")


def greeting(model: Model) -> str:
    """The first line of a conversation."""
    name = model.metadata.get("general.name") or Path(model.path).name
    return f"{plain(name)} listens. /help lists the commands, Ctrl-D leaves."
