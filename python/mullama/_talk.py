"""The command `mullama run` without a prompt: a conversation on a terminal, with memory."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from _mullama_command import interrupts
from mullama import _commands
from mullama._conversation import Conversation, Message
from mullama._exceptions import ChatTemplateError, ContextOverflowError, MullamaError
from mullama._introduction import demo_prompts, described, greeting, is_demo
from mullama._output import counted, plain
from mullama._prompt import MAX_BYTES, MIB, TextError, read_text
from mullama._run import cut, summary, with_size, with_way_out
from mullama._settings import NAMES, changed, differing, shown
from mullama._terminal import is_capable, tell
from mullama._typed import FENCE, Typed, line_reader, read_message
from mullama._writer import write_pieces

if TYPE_CHECKING:
    from collections.abc import Callable

    from mullama._run import Job
    from mullama._stream import TokenStream


def talk(job: Job) -> None:
    """Loads the model and replies to what is typed, until Ctrl-D or /bye."""
    Talk(job).go_on()


class Talk:
    """A conversation with its messages and settings."""

    def __init__(self, job: Job) -> None:
        """Loads the model.

        Raises:
            ChatTemplateError: The model has no chat template, or one that refuses the system message.
        """
        self._job = job
        self._context = job.load()
        job = self._job = job.recommended(self._context.model)
        self._config = job.config
        self.conversation = Conversation(self._context, job.chat_template, job.system)
        self._attached = ""
        self._is_warned = False
        try:
            # Fails now rather than after the user has typed a message.
            self.conversation.check()
        except ChatTemplateError as error:
            raise with_way_out(error, job, self._context.model) from None

    def go_on(self) -> None:
        """Replies to message after message. Ctrl-C at the prompt is explained once; the next one ends the program."""
        tell(greeting(self._context.model))
        read = message_reader(history=self._job.history)
        while self._next(read):
            pass

    def _next(self, read: Callable[[], Typed]) -> bool:
        """Reads and takes one message. Returns whether the conversation continues."""
        try:
            typed = read()
            self._is_warned = False
            return self._take(typed)
        except EOFError:
            tell("")  # so that the shell's prompt is on a line of its own
            return False
        except KeyboardInterrupt:
            if self._is_warned:
                tell("")
                raise
            self._is_warned = True
            tell("\nPress Ctrl-C again, or Ctrl-D, or type /bye to leave.")
            if interrupts.rearm():
                raise  # it was pressed again before this was said
            return True

    def _take(self, typed: Typed) -> bool:
        """Runs a command, or replies to a message. Returns whether the conversation continues."""
        command = _commands.split_command(typed)
        if command is None:
            if typed.text.strip():
                self._reply(typed.text)
            return True
        name, rest = command
        if wrong := _commands.misuse(name, rest):
            tell(plain(wrong))
            return True
        if name == "bye":
            return False
        try:
            if name == "save!":
                self._do_save(rest, replace=True)
            else:
                getattr(self, f"_do_{name}")(rest)
        except TextError as error:
            tell(plain(f"mullama: {error}"))
        return True

    def _reply(self, text: str) -> bool:
        """Answers a message, after the text of a file if one was read."""
        said = f"{self._attached}\n\n{text}" if self._attached else text
        is_answered = self._answer(said)
        if is_answered:
            self._attached = ""
        return is_answered

    def _answer(self, text: str) -> bool:
        """Writes a reply and adds it to the conversation. A turn that fails is reported and not added."""
        messages: list[Message] = []
        try:
            messages = self.conversation.ask(text, self._config.max_tokens)
            self._tell_of_dropped()
            template = self._job.chat_template
            with self._context.chat_stream(messages, chat_template=template, config=self._config) as stream:
                self._write(stream)
                if stream.finish_reason == "length":
                    tell(f"mullama: {cut(stream, self._context, self._config)}")
                if self._job.verbose:
                    tell(summary(stream))
                if stream.text:
                    self.conversation.record(text, stream.text)
                    return True
                tell("mullama: there is no answer, so the message is not part of the conversation")
        except ContextOverflowError as error:
            told = with_size(error, self._context, lambda: self.conversation.count(messages), len(text))
            longer = "system message" if self.conversation.is_mostly_system(text) else "message"
            tell(plain(f"mullama: {told}; shorten the {longer}, or start again with that option"))
        except MullamaError as error:
            tell(plain(f"mullama: {error}"))
        return False

    def _write(self, stream: TokenStream) -> None:
        writer = self._job.writer()
        try:
            write_pieces(stream, writer)
        except KeyboardInterrupt:
            stream.close()
            # From here on, another one ends the program.
            interrupts.rearm()
        finally:
            writer.end(stream.text)

    def _tell_of_dropped(self) -> None:
        conversation = self.conversation
        if conversation.first_sent and not conversation.was_told:
            conversation.was_told = True
            full = f"the context of {self._context.context_len} tokens is full"
            tell(f"mullama: {full}, so the oldest messages are no longer sent; see /context")

    def _do_help(self, _rest: str) -> None:
        tell(_commands.help_text())
        if is_demo(self._context.model):
            tell(f"\n{demo_prompts()}")

    def _do_clear(self, _rest: str) -> None:
        self.conversation.clear()
        self._attached = ""
        tell("Started a new conversation.")

    def _do_context(self, _rest: str) -> None:
        conversation, size = self.conversation, self._context.context_len
        sent = conversation.sent()
        try:
            used = conversation.count(sent) if sent else 0
        except MullamaError as error:
            tell(plain(f"mullama: {error}"))
            return
        used = min(used, size)  # the count includes the start of an answer, which a full context has no room for
        tell(f"{used} of {size} tokens are used ({used / size:.0%}), by {counted(len(sent), 'message')}.")
        if conversation.first_sent:
            tell(f"The {conversation.first_sent} oldest messages are no longer sent.")
        if self._attached:
            tokens = len(self._context.model.tokenize(self._attached, add_special=False, parse_special=False))
            tell(f"{tokens} tokens of a file precede the next message.")

    def _do_set(self, rest: str) -> None:
        """Changes a setting, or shows one or all changed settings. NAME=VALUE is taken too, as `--set` takes it."""
        name, _, value = rest.partition(" ")
        if "=" in name:
            name, _, value = rest.partition("=")
        value = value.strip().removeprefix(FENCE).removesuffix(FENCE).strip()
        if not name:
            lines = [shown(self._config, each) for each in differing(self._config)]
            tell("\n".join(lines) or "All settings have their defaults.")
        elif name == "system":
            self._set_system(value)
        elif not value and name in NAMES:
            tell(shown(self._config, name))
        else:
            try:
                self._config = changed(self._config, name, value)
            except MullamaError as error:
                tell(plain(f"mullama: {error}"))
            else:
                tell(plain(shown(self._config, name)))

    def _set_system(self, value: str) -> None:
        conversation = self.conversation
        if value:
            before = conversation.system
            conversation.system = None if value == "none" else value
            try:
                conversation.check()
            except MullamaError as error:
                conversation.system = before
                tell(plain(f"mullama: {error}"))
                return
        tell(plain(f"system {conversation.system or 'none'}"))

    def _do_show(self, topic: str) -> None:
        model = self._context.model
        topic = topic or "info"
        if topic == "info":
            tell(described(model))
            tell(plain(f"{model.path}\ncontext: {self._context.context_len} of {model.n_ctx_train} trained tokens"))
        elif topic == "system":
            tell(plain(self.conversation.system or "There is no system message; /set system TEXT sets one."))
        elif topic == "template":
            tell(plain(self._job.chat_template or model.metadata.get("tokenizer.chat_template", "none")))
        elif topic == "settings":
            tell(plain("\n".join(shown(self._config, name) for name in NAMES)))
        elif topic == "messages":
            lines = [f"{message['role']}: {message['content']}" for message in self.conversation.whole()]
            tell(plain("\n".join(lines)) or "There are no messages yet.")
        else:
            tell(plain(f"mullama: /show {topic} is unknown; it shows {', '.join(_commands.TOPICS)}"))

    def _do_regen(self, _rest: str) -> None:
        before = list(self.conversation.messages)
        said = self.conversation.undo()
        if said is None:
            tell("mullama: there is no answer to generate again")
        elif not self._answer(said):
            self.conversation.messages = before

    def _do_undo(self, _rest: str) -> None:
        said = self.conversation.undo()
        tell("mullama: there is nothing to undo" if said is None else plain(f"Removed: {said}"))

    def _do_save(self, file: str, *, replace: bool = False) -> None:
        path = self.conversation.save(file, replace=replace)
        tell(plain(f"{counted(len(self.conversation.whole()), 'message')} saved to {path}"))

    def _do_load(self, file: str) -> None:
        try:
            self.conversation.load(file)
        except MullamaError as error:
            tell(plain(f"mullama: cannot load {file}: {error}"))
        else:
            tell(plain(f"{counted(len(self.conversation.whole()), 'message')} loaded from {file}"))

    def _do_read(self, file: str) -> None:
        text = read_text(file).rstrip("\n")
        if len(self._attached) + len(text) > MAX_BYTES:
            message = f"cannot read {file}: with what was read before, it is more than {MAX_BYTES // MIB} MiB"
            raise TextError(message)
        self._attached = f"{self._attached}\n\n{text}" if self._attached else text
        tell(plain(f"{len(text):,} characters of {file} precede the next message; /clear drops them."))

    def _do_edit(self, rest: str) -> None:
        text = edited(rest)
        if text.strip():
            tell(plain(text))
            self._reply(text)
        else:
            tell("mullama: the message is empty, so it was not sent")


def message_reader(*, history: bool) -> Callable[[], Typed]:
    """Returns a function that reads a message: with editing and history where the terminal can do it."""
    if is_capable(sys.stdout):
        from mullama._line_editor import LineEditor  # noqa: PLC0415  # slow to import, and a plain terminal lacks it

        return LineEditor(history=history).read
    read_line = line_reader()
    return lambda: read_message(read_line)


def edited(text: str) -> str:
    """Returns what the user makes of the text in an editor.

    Raises:
        TextError: The editor cannot be started, or fails.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="mullama-") as folder:
        file = Path(folder) / "message.md"
        try:
            file.write_text(text, encoding="utf-8")
            # Ctrl-C belongs to the editor.
            with interrupts.diverted(lambda: None):
                code = subprocess.run([*shlex.split(editor), str(file)], check=False).returncode  # noqa: S603  # the user's
        except (OSError, ValueError) as error:
            message = f"cannot start the editor {editor}: {getattr(error, 'strerror', None) or error}; set EDITOR"
            raise TextError(message) from None
        finally:
            interrupts.rearm()
        if code:
            message = f"the editor {editor} failed with exit code {code}"
            raise TextError(message)
        return read_text(str(file)).rstrip("\n")
