"""Streams text from language models in your own process.

>>> from mullama import Context, Model
>>> context = Context(Model.load("demo"))
>>> for token in context.generate_stream("Write a poem:", max_tokens=200):
...     print(token.text, end="", flush=True)
"""

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
from mullama._model import Model  # noqa: E402
from mullama._mullama import __version__  # noqa: E402
from mullama._stats import Stats, Steps  # noqa: E402
from mullama._stream import TokenStream  # noqa: E402
from mullama._stream_options import StreamOptions  # noqa: E402
from mullama._token import Token  # noqa: E402
from mullama._usage import Timings, Usage  # noqa: E402

__all__ = [
    "AsyncModel",
    "ChatTemplateError",
    "Completion",
    "Context",
    "ContextOverflowError",
    "ContextParams",
    "EngineClosedError",
    "GenerationError",
    "InvalidConfigError",
    "InvalidPromptError",
    "Messages",
    "Model",
    "ModelLoadError",
    "ModelNotFoundError",
    "MullamaError",
    "OverloadedError",
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
]
