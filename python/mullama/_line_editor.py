"""Reads messages on a terminal, with editing, history and completion, by prompt_toolkit."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.shortcuts import CompleteStyle

from _mullama_command import interrupts
from mullama import _commands
from mullama._history import FileHistory, history_file
from mullama._settings import DEFAULTS, NAMES
from mullama._typed import MORE, PROMPT, Typed, is_complete, typed_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.formatted_text import StyleAndTextTuples
    from prompt_toolkit.key_binding import KeyPressEvent

PLACEHOLDER = "Message (/? for help)"


class LineEditor:
    """Reads one message after another."""

    def __init__(self, *, history: bool) -> None:
        """Takes the terminal that stdin and stdout are.

        Args:
            history: Whether what is typed is kept for the next conversation.
        """
        self._had_text = False
        self._reason: BaseException | None = None
        """Why the prompt ends, if not by a message."""
        self._loop: asyncio.AbstractEventLoop | None = None
        """The event loop of the prompt."""
        # Several lines were pasted: they are taken as they are, also where they would be a fence or a command if typed.
        self._is_pasted = False
        # The position of the cursor is not needed, and not every terminal answers a request for it.
        output = Vt100_Output.from_pty(sys.stdout, term=os.environ.get("TERM"))
        output.enable_cpr = False
        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            multiline=True,
            prompt_continuation=MORE,
            history=_file_history() if history else InMemoryHistory(),
            completer=CommandCompleter(),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            enable_suspend=True,
            enable_open_in_editor=True,
            tempfile_suffix=".md",
            key_bindings=self._keys(),
            placeholder=_placeholder,
            output=output,
        )

    def read(self) -> Typed:
        """Reads a message. A message that Ctrl-C gives up is empty.

        Raises:
            EOFError: The user pressed Ctrl-D at an empty prompt.
            KeyboardInterrupt: The user pressed Ctrl-C at an empty prompt.
        """
        self._had_text = self._is_pasted = False
        self._reason = self._loop = None
        try:
            # The terminal sends Ctrl-C as a key; a signal comes from elsewhere, and must not break into the event loop.
            # A signal that ends the program has to restore the terminal first.
            with interrupts.diverted(self._take_signal), interrupts.ended_by(self._end):
                text = self._session.prompt(handle_sigint=False, pre_run=self._begin)
                if self._reason is not None:
                    raise self._reason  # a signal came when the message was complete
                return Typed(text.rstrip("\n"), fenced=True) if self._is_pasted else typed_of(text)
        except KeyboardInterrupt:
            if self._had_text:
                interrupts.rearm()
                return typed_of("")
            raise

    def _take_signal(self) -> bool:
        return self._exit_soon(KeyboardInterrupt())

    def _end(self, number: int) -> None:
        self._exit_soon(SystemExit(128 + number))

    def _exit_soon(self, reason: BaseException) -> bool:
        """Ends the prompt from a signal handler, which must not break into the event loop, nor into its making.

        Returns:
            False if the prompt is ending already.
        """
        if self._reason is not None:
            return False
        self._reason = reason
        if self._loop is not None:
            with suppress(RuntimeError):  # the prompt has ended with a message, and its loop is closed
                self._loop.call_soon_threadsafe(self._exit, reason)
        return True

    def _begin(self) -> None:
        """Called in the event loop of a prompt, which a signal may have ended before it began."""
        self._loop = asyncio.get_running_loop()
        if self._reason is not None:
            self._loop.call_soon(self._exit, self._reason)

    def _exit(self, reason: BaseException) -> None:
        self._reason = reason
        app = self._session.app
        if not app.is_done:
            self._had_text = bool(self._session.default_buffer.text)
            app.exit(exception=reason, style="class:aborting")

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter")
        def _enter(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if self._is_pasted or is_complete(buffer.text):
                buffer.validate_and_handle()
            else:
                buffer.newline(copy_margin=False)

        @keys.add(Keys.BracketedPaste)
        def _paste(event: KeyPressEvent) -> None:
            text = event.data.replace("\r\n", "\n").replace("\r", "\n")
            # What was pasted before may have been deleted again.
            self._is_pasted = "\n" in text.rstrip("\n") or (self._is_pasted and bool(event.current_buffer.text))
            event.current_buffer.insert_text(text)

        @keys.add("c-c")
        def _interrupt(_event: KeyPressEvent) -> None:
            self._exit(KeyboardInterrupt())

        return keys


class CommandCompleter(Completer):
    """Completes commands, settings and file names."""

    def __init__(self) -> None:
        """Prepares the completion of files."""
        self._files = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """What may follow the text before the cursor."""
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        command, space, rest = text[1:].partition(" ")
        if not space:
            # One that forces is typed on purpose, and would leave /save without a single completion.
            yield from _matching((name for name in _commands.NAMES if not name.endswith("!")), command)
        elif command in _commands.FILE_COMMANDS:
            yield from self._files.get_completions(Document(rest, len(rest)), complete_event)
        elif command == "show":
            yield from _matching(_commands.TOPICS, rest)
        elif command == "set":
            name, space, value = rest.partition(" ")
            if not space:
                yield from _matching(sorted([*NAMES, "system"]), name)
            elif isinstance(getattr(DEFAULTS, name, None), bool):
                yield from _matching(("true", "false"), value)


def _file_history() -> History:
    file = history_file()
    return InMemoryHistory() if file is None else FileHistory(file)


def _placeholder() -> StyleAndTextTuples:
    # What is left on the screen is what was typed.
    return [] if get_app().is_done else [("ansibrightblack", PLACEHOLDER)]


def _matching(words: Iterable[str], start: str) -> Iterator[Completion]:
    return (Completion(word, -len(start)) for word in words if word.startswith(start))
