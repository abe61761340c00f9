"""The exceptions of the package, one class per error code.

MullamaError
 ├─ ModelNotFoundError     MODEL_NOT_FOUND    (FileNotFoundError)
 ├─ DownloadError          DOWNLOAD_ERROR     (OSError)
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

The codes are the same in every language. An error belongs to one request; all others continue.
"""

from __future__ import annotations

import errno
from typing import ClassVar

from mullama._completion import Completion
from mullama._typing import pathlib


class MullamaError(Exception):
    """Base class of all errors of mullama.

    Attributes:
        code: Stable name of the failure, the same in every language.
        exit_code: Exit code of the command line for this failure.
        http_status: HTTP status for this failure.
        completion: What had been generated before the failure, if `generate` or `chat` raised it; otherwise None.
    """

    code: ClassVar[str]
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    completion: Completion | None = None


class ModelNotFoundError(MullamaError, FileNotFoundError):
    """There is no file at the path, or no model has the name.

    Attributes:
        path: The path, with `~` expanded; None if it is a name that was not found.
        name: The name; None if it is a path.
        tried: For a name, the places that were looked at, with what was found there; None for a path.
    """

    code = "MODEL_NOT_FOUND"
    exit_code = 3
    http_status = 404
    errno = errno.ENOENT
    path: pathlib.Path | None
    name: str | None
    tried: tuple[str, ...] | None

    @property
    def filename(self) -> pathlib.Path | None:
        """The path, under the name that `OSError` uses."""
        return self.path


class DownloadError(MullamaError, OSError):
    """A model could not be downloaded. What has arrived is kept, and the next attempt continues there.

    Attributes:
        name: The name of the model.
        reason: The kind of failure: "network", "status", "authorization", "protocol", "digest", "disk", "file",
            "offline" or "cancelled".
        url: What was asked for, without credentials and query; None if the failure belongs to no address.
        status: The HTTP status that the server answered with, if that is the failure.
    """

    code = "DOWNLOAD_ERROR"
    exit_code = 6
    http_status = 502
    name: str
    reason: str
    url: str | None
    status: int | None


class ModelLoadError(MullamaError, OSError):
    """The file exists, but it cannot be loaded as a model.

    Attributes:
        path: The path, with `~` expanded.
        reason: What is wrong, and where in the file.
    """

    code = "MODEL_LOAD"
    exit_code = 3
    path: pathlib.Path
    reason: str

    @property
    def filename(self) -> pathlib.Path:
        """The path, under the name that `OSError` uses."""
        return self.path


class InvalidConfigError(MullamaError, ValueError):
    """The value of a setting is out of range.

    Attributes:
        field: Name of the field.
        value: The value that was given, as text.
        range: The allowed values, as text.
    """

    code = "INVALID_CONFIG"
    exit_code = 2
    http_status = 400
    field: str
    value: str
    range: str


class InvalidPromptError(MullamaError, ValueError):
    """The prompt cannot be processed.

    Attributes:
        reason: What is wrong with it.
        token: The token id that is not in the model's vocabulary, if that is the reason.
        position: Index of the offending character or token, if there is a single one.
    """

    code = "INVALID_PROMPT"
    exit_code = 2
    http_status = 400
    reason: str
    token: int | None = None
    position: int | None = None


class ContextOverflowError(MullamaError, ValueError):
    """The prompt leaves no room for a generated token.

    Attributes:
        prompt_tokens: Number of tokens in the prompt, including those that the model adds.
        is_lower_bound: Whether the prompt has at least `prompt_tokens` tokens. A long text that cannot fit is not
            tokenized to its end.
        context_len: Maximum number of tokens of one stream (`n_ctx`).
    """

    code = "CONTEXT_OVERFLOW"
    exit_code = 2
    http_status = 400
    prompt_tokens: int
    is_lower_bound: bool
    context_len: int


class ChatTemplateError(MullamaError, ValueError):
    """The model has no chat template, or the template cannot render the messages.

    Attributes:
        reason: What went wrong, or the template's own error message.
        line: Line of the template, counted from 1; None if there is no template.
    """

    code = "TEMPLATE_ERROR"
    exit_code = 2
    http_status = 400
    reason: str
    line: int | None


class OverloadedError(MullamaError):
    """Too many streams run or wait, too many run, wait or are paused, or too much text waits to be tokenized.

    Retry when a stream has ended. Paused streams end when they are read to their ends or closed.

    Attributes:
        unfinished: Number of streams at the time of the call that run or wait, or that run, wait or are paused; None if
            there is too much text.
        limit: Maximum number of streams that run or wait (`n_parallel + max_queue`), or that run, wait or are paused
            (`max_paused`), or of bytes of prompts that wait in the process.
    """

    code = "OVERLOADED"
    exit_code = 5
    http_status = 429
    unfinished: int | None
    limit: int


class StreamTimeoutError(MullamaError, TimeoutError):
    """The stream exceeded one of its time limits. All tokens produced before that were delivered first.

    Attributes:
        deadline: The setting that limits the time: `timeout_ms`, `ttft_timeout_ms` or `queue_timeout_ms`.
        limit_ms: Its value, in milliseconds.
        completion_tokens: Number of tokens generated before the deadline.
    """

    code = "STREAM_TIMEOUT"
    exit_code = 4
    http_status = 504
    deadline: str
    limit_ms: int
    completion_tokens: int


class GenerationError(MullamaError):
    """The engine could not continue the stream.

    Attributes:
        reason: The cause, with the last message from llama.cpp.
    """

    code = "GENERATION_ERROR"
    reason: str


class StreamBusyError(MullamaError, RuntimeError):
    """Another thread or task is waiting for the next token of the same stream. That reader continues undisturbed."""

    code = "STREAM_BUSY"


class EngineClosedError(MullamaError):
    """The model, context or engine is closed.

    Attributes:
        what: What is closed: "model", "context" or "engine".
    """

    code = "CLOSED"
    http_status = 503
    what: str


def invalid_config(field: str, value: str, allowed: str) -> InvalidConfigError:
    """The error of a setting with this value, as text, which is none of the allowed ones."""
    error = InvalidConfigError(f"{field} is {value}, but must be {allowed}")
    error.field, error.value, error.range = field, value, allowed
    return error


def generation_failed(reason: str) -> GenerationError:
    """The error of a stream that this package could not serve, for this reason."""
    error = GenerationError(f"generation failed: {reason}")
    error.reason = reason
    return error


_ALL: list[type[MullamaError]] = [MullamaError, *MullamaError.__subclasses__()]
CLASSES = {kind.__name__: kind for kind in _ALL}
"""All classes by name, for the native module: it holds this dict, so it can raise them while the interpreter ends."""
