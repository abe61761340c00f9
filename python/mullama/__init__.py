"""Streams text from language models in your own process.

>>> from mullama import Context, Model
>>> context = Context(Model.load("demo"))
>>> for token in context.generate_stream("Write a poem:", max_tokens=200):
...     print(token.text, end="", flush=True)
"""

import typing as _typing

from mullama import _interpreter, _processor

_interpreter.check()
# Checked before the native module is loaded: an instruction that the processor lacks would kill the process.
_processor.check()

from mullama._async_model import AsyncModel  # noqa: E402
from mullama._chat import Messages, Tools  # noqa: E402
from mullama._completion import Completion  # noqa: E402
from mullama._config import ContextParams, StreamConfig  # noqa: E402
from mullama._context import Context  # noqa: E402
from mullama._exceptions import (  # noqa: E402
    ChatTemplateError,
    ContextOverflowError,
    DownloadError,
    EngineClosedError,
    GenerationError,
    InvalidConfigError,
    InvalidPromptError,
    ModelLoadError,
    ModelNotFoundError,
    MullamaError,
    OverloadedError,
    StreamBusyError,
    StreamTimeoutError,
)
from mullama._hub import (  # noqa: E402
    alias_model,
    list_models,
    pull,
    pull_async,
    remove_model,
    show_model,
)
from mullama._model import Model  # noqa: E402
from mullama._mullama import __version__  # noqa: E402
from mullama._stats import Stats, Steps  # noqa: E402
from mullama._stream import TokenStream  # noqa: E402
from mullama._stream_options import StreamOptions  # noqa: E402
from mullama._token import Token  # noqa: E402
from mullama._usage import Timings, Usage  # noqa: E402

if _typing.TYPE_CHECKING:
    from mullama._local_models import ListedModel, LocalModel, ModelDetails, PullProgress, RemovedModel
    from mullama._model_defaults import ModelDefaults
    from mullama._server import ServerOptions, serve

__all__ = [
    "AsyncModel",
    "ChatTemplateError",
    "Completion",
    "Context",
    "ContextOverflowError",
    "ContextParams",
    "DownloadError",
    "EngineClosedError",
    "GenerationError",
    "InvalidConfigError",
    "InvalidPromptError",
    "ListedModel",
    "LocalModel",
    "Messages",
    "Model",
    "ModelDefaults",
    "ModelDetails",
    "ModelLoadError",
    "ModelNotFoundError",
    "MullamaError",
    "OverloadedError",
    "PullProgress",
    "RemovedModel",
    "ServerOptions",
    "Stats",
    "Steps",
    "StreamBusyError",
    "StreamConfig",
    "StreamOptions",
    "StreamTimeoutError",
    "Timings",
    "Token",
    "TokenStream",
    "Tools",
    "Usage",
    "__version__",
    "alias_model",
    "list_models",
    "pull",
    "pull_async",
    "remove_model",
    "serve",
    "show_model",
]


def __getattr__(name: str) -> object:
    """What few programs need and what takes time to make: the server, and values about models by name."""
    if name in {"ServerOptions", "serve"}:
        from mullama import _server  # noqa: PLC0415  # that time

        return getattr(_server, name)
    if name in __all__:
        from mullama import _local_models  # noqa: PLC0415  # the same

        return getattr(_local_models, name)
    message = f"module 'mullama' has no attribute {name!r}"
    raise AttributeError(message, name=name, obj=__import__("sys").modules[__name__])


def __dir__() -> list[str]:
    """All names, loaded or not."""
    return sorted({*globals(), *__all__})
