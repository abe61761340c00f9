"""The messages of a conversation, and which of them fit into the context."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mullama._prompt import MIB, TextError, read_text
from mullama._replace import regular_status, write_whole
from mullama._run import chat_tokens
from mullama._values import quoted

if TYPE_CHECKING:
    from mullama._context import Context

Message: TypeAlias = dict[str, str]

MAX_BYTES = 16 * MIB
"""Largest file that is loaded: as JSON, it may take some twenty times its size while it is parsed."""

MAX_MESSAGES = 10_000
"""Most messages that are loaded from a file."""

ROLES = ("system", "user", "assistant")
"""Roles of messages that are loaded: a template may leave out others without a word."""

CHARACTERS_PER_TOKEN = 1_000
"""More than any token has: a text of more characters than this for each token of the context cannot fit."""


class Conversation:
    """A system message and the messages after it. The oldest are no longer sent once the context is full.

    Attributes:
        messages: All messages but the system message, oldest first.
        first_sent: Index of the oldest message that is still sent.
        was_told: Whether the user knows that old messages are no longer sent.
    """

    def __init__(self, context: Context, chat_template: str | None, system: str | None) -> None:
        """Starts without messages."""
        self._context = context
        self._chat_template = chat_template
        self.system = system
        self.messages: list[Message] = []
        self.first_sent = 0
        self.was_told = False
        self._files: set[Path] = set()
        """Files that hold this conversation, which `save` may replace."""

    def clear(self) -> None:
        """Forgets all messages but the system message."""
        self.messages = []
        self._files = set()
        self._send_all()

    def _send_all(self) -> None:
        self.first_sent = 0
        self.was_told = False

    def whole(self) -> list[Message]:
        """All messages, with the system message."""
        return [*self._head(), *self.messages]

    def _head(self) -> list[Message]:
        return [] if self.system is None else [{"role": "system", "content": self.system}]

    def sent(self) -> list[Message]:
        """The messages that are sent before the next one."""
        return [*self._head(), *self.messages[self.first_sent :]]

    def check(self) -> None:
        """Renders a message with the template.

        Raises:
            ChatTemplateError: There is no template, or it refuses the messages.
        """
        probe = [*self.sent(), {"role": "user", "content": "Hello!"}]
        self._context.model.apply_chat_template(probe, chat_template=self._chat_template)

    def ask(self, text: str, max_tokens: int) -> list[Message]:
        """Returns the messages to send for the next answer, with the text as the last one.

        If they leave too little room for an answer, the oldest turns are dropped from now on: more than necessary, so
        that the answers after it find the same messages in the prefix cache.

        Raises:
            MullamaError: The messages cannot be tokenized.
        """
        question = {"role": "user", "content": text}
        alone = [*self._head(), question]
        context_len = self._context.context_len
        if len(text) > context_len * CHARACTERS_PER_TOKEN:
            return alone  # the stream reports that it does not fit
        reserve = min(max_tokens, context_len // 4)
        if self.count([*self.sent(), question]) + reserve > context_len:
            if self.count(alone) >= context_len:
                return alone  # the same; dropping the other turns would not help
            while (turn := self._next_turn()) and self.count([*self.sent(), question]) + 2 * reserve > context_len:
                self.first_sent = turn
        return [*self.sent(), question]

    def _next_turn(self) -> int:
        """Index of the second message of a user that is sent, or the end; 0 if none is left to drop."""
        if self.first_sent >= len(self.messages):
            return 0
        for at in range(self.first_sent + 1, len(self.messages)):
            if self.messages[at]["role"] == "user":
                return at
        return len(self.messages)

    def count(self, messages: list[Message]) -> int:
        """Number of tokens of messages with the template around them."""
        return chat_tokens(self._context, messages, self._chat_template)

    def is_mostly_system(self, text: str) -> bool:
        """Whether the system message is longer than the text that follows it."""
        return len(self.system or "") > len(text)

    def record(self, text: str, answer: str) -> None:
        """Adds a turn."""
        self.messages += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]

    def undo(self) -> str | None:
        """Removes the last turn, and returns what the user said in it; None if there is none."""
        for at in reversed(range(len(self.messages))):
            if self.messages[at]["role"] == "user":
                said = self.messages[at]["content"]
                del self.messages[at:]
                if self.first_sent > at:
                    self._send_all()
                return said
        return None

    def save(self, file: str, *, replace: bool = False) -> Path:
        """Writes all messages to a file, as JSON. It replaces a file that `save` or `load` used in this conversation.

        Args:
            file: The file.
            replace: Whether it replaces any other file too.

        Raises:
            TextError: The file cannot be written, or exists.
        """
        content = (json.dumps(self.whole(), ensure_ascii=False, indent=2) + "\n").encode(errors="backslashreplace")
        try:
            path = Path(file).expanduser()
            target = path.resolve()
            if regular_status(target) is not None and not replace and target not in self._files:
                raise FileExistsError(errno.EEXIST, f"it exists already; /save! {file} replaces it")
            write_whole(target, content)
        except (OSError, RuntimeError, ValueError) as error:  # no such directory, no such home directory, no valid name
            message = f"cannot save to {file}: {getattr(error, 'strerror', None) or error}"
            raise TextError(message) from None
        self._files.add(target)
        return path

    def load(self, file: str) -> None:
        """Replaces all messages by those of a file that `save` wrote.

        Raises:
            TextError: The file cannot be read, or holds something else.
            MullamaError: The template refuses the messages.
        """
        messages = parse_messages(file, read_text(file, limit=MAX_BYTES))
        system = messages.pop(0)["content"] if messages and messages[0]["role"] == "system" else None
        before = self.system, self.messages, self.first_sent, self.was_told
        self.system, self.messages = system, messages
        self._send_all()
        try:
            self.check()
        except BaseException:
            self.system, self.messages, self.first_sent, self.was_told = before
            raise
        self._files = {Path(file).expanduser().resolve()}


def parse_messages(file: str, text: str) -> list[Message]:
    """Returns the messages that a JSON text holds.

    Raises:
        TextError: It holds something else.
    """
    try:
        messages = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        message = f"cannot load {file}: it is not JSON ({reason})"
        raise TextError(message) from None
    wrong = "it is not a list of messages" if not isinstance(messages, list) else None
    if wrong is None and len(messages) > MAX_MESSAGES:
        wrong = f"it has {len(messages)} messages, but at most {MAX_MESSAGES} can be loaded"
    for at, each in enumerate(messages if wrong is None else []):
        if not isinstance(each, dict) or not all(isinstance(each.get(key), str) for key in ("role", "content")):
            wrong = f"message {at} is not an object with a role and a content that are text"
            break
        if each["role"] not in ROLES:
            wrong = f"message {at} has the role {quoted(each['role'])}, but it must be {', '.join(ROLES)}"
            break
        if more := each.keys() - {"role", "content"}:
            wrong = f"message {at} has a {quoted(min(more))}, but only a role and a content can be loaded"
            break
    if wrong:
        message = f"cannot load {file}: {wrong}"
        raise TextError(message)
    return [{"role": each["role"], "content": each["content"]} for each in messages]
