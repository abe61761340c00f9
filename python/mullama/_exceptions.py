"""What can go wrong, one class a code.

MullamaError
 ├─ ModelNotFoundError     MODEL_NOT_FOUND    (FileNotFoundError)
 ├─ ModelLoadError         MODEL_LOAD         (OSError)
 ├─ InvalidConfigError     INVALID_CONFIG     (ValueError)
 ├─ InvalidPromptError     INVALID_PROMPT     (ValueError)
 ├─ ContextOverflowError   CONTEXT_OVERFLOW   (ValueError)
 ├─ ChatTemplateError      TEMPLATE_ERROR     (ValueError)
 ├─ OverloadedError        OVERLOADED
 ├─ StreamTimeoutError     STREAM_TIMEOUT     (TimeoutError)
 ├─ GenerationError        GENERATION_ERROR
 ├─ StreamBusyError        STREAM_BUSY        (RuntimeError)
 └─ EngineClosedError      CLOSED

The codes are the same in every language. Each error belongs to one request; the others go on.
"""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path


class MullamaError(Exception):
    """Any failure of mullama.

    Attributes:
        code: The failure's stable name.
    """

    code: str


class ModelNotFoundError(MullamaError, FileNotFoundError):
    """No file stands at the path.

    Attributes:
        path: The path as it was given.
    """

    code = "MODEL_NOT_FOUND"
    errno = errno.ENOENT
    path: Path

    @property
    def filename(self) -> Path:
        """The path, by the name that `OSError` has for it."""
        return self.path


class ModelLoadError(MullamaError, OSError):
    """The file is there, but it is no model that can run.

    Attributes:
        path: The path as it was given.
        reason: What is wrong with it, and where.
    """

    code = "MODEL_LOAD"
    path: Path
    reason: str

    @property
    def filename(self) -> Path:
        """The path, by the name that `OSError` has for it."""
        return self.path


class InvalidConfigError(MullamaError, ValueError):
    """A setting is out of its range.

    Attributes:
        field: The field's name.
        value: The value that was given, in words.
        range: The values that are allowed, in words.
    """

    code = "INVALID_CONFIG"
    field: str
    value: str
    range: str


class InvalidPromptError(MullamaError, ValueError):
    """The prompt cannot be computed.

    Attributes:
        reason: What is wrong with it.
        token: The token id that the model does not have, if that is it.
        position: Where in the prompt, if it is one place.
    """

    code = "INVALID_PROMPT"
    reason: str
    token: int | None = None
    position: int | None = None


class ContextOverflowError(MullamaError, ValueError):
    """The prompt leaves no room for a token.

    Attributes:
        prompt_tokens: Tokens of the prompt, those that the model adds included.
        is_lower_bound: Whether the prompt has at least `prompt_tokens` tokens. A long text that cannot fit is not
            tokenized to its end.
        context_len: Most tokens of one stream (`n_ctx`).
    """

    code = "CONTEXT_OVERFLOW"
    prompt_tokens: int
    is_lower_bound: bool
    context_len: int


class ChatTemplateError(MullamaError, ValueError):
    """The model has no chat template, or its template cannot render the messages.

    Attributes:
        reason: What went wrong, or what the template itself says.
        line: Line of the template, from 1; None if there is no template.
    """

    code = "TEMPLATE_ERROR"
    reason: str
    line: int | None


class OverloadedError(MullamaError):
    """Too many streams are unfinished, or too much text waits to be tokenized; try again when a stream has ended.

    Attributes:
        unfinished: Streams that had not ended when the call came; None if the text is too much.
        limit: Most unfinished streams (`n_parallel + max_queue`), or most bytes of prompts that wait in the process.
    """

    code = "OVERLOADED"
    unfinished: int | None
    limit: int


class StreamTimeoutError(MullamaError, TimeoutError):
    """A deadline of the stream passed. What was produced before was delivered first.

    Attributes:
        deadline: Which one: `timeout_ms`, `ttft_timeout_ms` or `queue_timeout_ms`.
        limit_ms: How long it was, in milliseconds.
        completion_tokens: Tokens computed until then.
    """

    code = "STREAM_TIMEOUT"
    deadline: str
    limit_ms: int
    completion_tokens: int


class GenerationError(MullamaError):
    """The engine could not go on with this stream.

    Attributes:
        reason: Why, with what llama.cpp said last.
    """

    code = "GENERATION_ERROR"
    reason: str


class StreamBusyError(MullamaError, RuntimeError):
    """Another read of the stream is under way. A stream has one reader at a time; the other read goes on."""

    code = "STREAM_BUSY"


class EngineClosedError(MullamaError):
    """What was called, or what computed the stream, is closed.

    Attributes:
        what: What is closed: "model", "context" or "engine".
    """

    code = "CLOSED"
    what: str
