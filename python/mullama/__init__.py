"""Text from language models, streamed in your own process.

>>> from mullama import Context, Model
>>> context = Context(Model.load("demo"))
>>> for token in context.generate_stream("Write a poem:", max_tokens=200):
...     print(token.text, end="", flush=True)
"""

from mullama import _interpreter, _processor

_interpreter.check()
# Before the native module is loaded: one instruction that the processor lacks would end the process.
_processor.check()

from mullama._async_model import AsyncModel  # noqa: E402
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
from mullama._mullama import Token, __version__  # noqa: E402
from mullama._stream import TokenStream  # noqa: E402
from mullama._usage import Completion, Timings, Usage  # noqa: E402

# Type checkers know this name, wherever it comes from; `typing` itself is a tenth of what the import takes.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from mullama._stats import Stats, Steps
    from mullama._stream_options import StreamOptions
else:
    # What annotations name, and nobody else, is loaded when it is asked for.
    _LATER = {"Stats": "_stats", "Steps": "_stats", "StreamOptions": "_stream_options"}

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        from importlib import import_module  # noqa: PLC0415  # no name of the package's

        value = globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LATER})


del TYPE_CHECKING


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
    "Usage",
    "__version__",
]
