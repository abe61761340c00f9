"""Models: their weights, their vocabulary and their metadata."""

from __future__ import annotations

import atexit
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TypeAlias

from mullama import _mullama
from mullama._arguments import expect, expect_callable
from mullama._chat import Messages, Tools, chat_of
from mullama._closing import Closing
from mullama._display import Displayed, shortened
from mullama._exact import as_bool, as_int, as_path, told
from mullama._exceptions import ModelLoadError, invalid_config
from mullama._keywords import hinted
from mullama._late_imports import late_import
from mullama._typing import Self, model_defaults, pathlib

# An engine that still runs while the interpreter shuts down would crash the process.
atexit.register(_mullama.shutdown)

Options: TypeAlias = tuple[int, bool, bool, bool, bool]
"""`n_gpu_layers`, `use_mmap`, `use_mlock`, `check_tensors` and `vocab_only`."""

DEMO = os.path.join(os.path.dirname(__file__), "models", "demo.gguf")  # noqa: PTH118, PTH120  # pathlib is slow to import
_LONGEST_PATH = 4096
"""Bytes of the longest path that a system takes (Linux)."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Model(Closing, Displayed):
    """A loaded model, from `Model.load`. Contexts generate text with it; any number of them can share it.

    Example:
        >>> model = Model.load("demo")
        >>> model.detokenize(model.tokenize("Hello", add_special=False))
        'Hello'

    Attributes:
        name: The name that it was found by, in full, such as "llama3.2:1b"; for a plain file, its path.
        path: The file that the model was loaded from.
        defaults: Settings that the model's publisher recommends. They apply to every call that has no `config`.
        metadata: The file's metadata, with keys and values as text.
        description: Architecture, size and quantization in a few words.
        n_ctx_train: Context length that the model was trained with, in tokens.
        n_embd: Embedding width.
        n_layer: Number of layers.
        n_gpu_layers: Number of layers on GPUs, out of `n_layer` and one for the output; 0 if all are on the CPU.
        n_params: Number of parameters.
        n_vocab: Number of tokens in the vocabulary.
        size: Size of all weights, in bytes.
        bos: The beginning-of-sequence token, if the model has one.
        eos: The end-of-sequence token, if the model has one.
        end_tokens: All end-of-generation tokens.
    """

    name: str
    path: pathlib.Path
    defaults: model_defaults.ModelDefaults
    metadata: dict[str, str]
    description: str
    n_ctx_train: int
    n_embd: int
    n_layer: int
    n_gpu_layers: int
    n_params: int
    n_vocab: int
    size: int
    bos: int | None
    eos: int | None
    end_tokens: tuple[int, ...]
    _native: _mullama.Model

    @classmethod
    @hinted("Model.load")
    def load(  # noqa: PLR0913  # keywords, named at each call
        cls,
        path: str | os.PathLike[str],
        *,
        n_gpu_layers: int = -1,
        use_mmap: bool = True,
        use_mlock: bool = False,
        check_tensors: bool = False,
        vocab_only: bool = False,
        pull: bool = True,
        progress: Callable[[float], bool | None] | None = None,
    ) -> Self:
        """Loads a model. Blocks until the weights are loaded, without the GIL; Ctrl-C ends it.

        Args:
            path: A name such as "llama3.2:1b" or "hf.co/user/repo:Q4_K_M", or the path of a GGUF file; for a model in
                several files, of the first of them. An existing file wins over a name. `~` is the home folder. "demo"
                is the small model inside the package; a file of that name is "./demo".
            n_gpu_layers: Layers to offload to a GPU, if there is one; a negative number offloads all of them. A
                positive number without a GPU is a `UserWarning`.
            use_mmap: Maps the file into memory instead of reading it, so that other processes share its pages. The file
                must then not be written to while it is in use: a call after such a write raises `GenerationError`, and
                if the file is cut short while tokens are computed, the system ends the process (SIGBUS). With False the
                weights are a private copy, and the file may change. Renaming another file over it is always safe.
            use_mlock: Keeps the weights in RAM, as far as the system allows it.
            check_tensors: Looks at every weight for a NaN or an infinity.
            vocab_only: Loads the vocabulary and the metadata alone. Such a model tokenizes and renders templates.
            pull: Downloads a model that is not on this machine, unless `MULLAMA_OFFLINE=1` is set. The logger "mullama"
                says how far it is; `mullama.pull` has a callback of its own.
            progress: Called with how far the load is, from 0.0 to 1.0. A download before it is not counted. The load
                ends if it returns False or raises.

        Raises:
            ModelNotFoundError: There is no file at `path`, or no model of this name.
            DownloadError: The model is not on this machine, and could not be downloaded.
            InvalidConfigError: `path` is empty, or cannot be the path of a file.
            ModelLoadError: The file cannot be loaded as a model, or `progress` returned False.
        """
        file = read_path(path)
        with late_import():
            import pathlib  # noqa: F401, PLC0415  # the native module makes paths, also those of its errors

            from mullama import _log, _plugins, _source  # noqa: PLC0415  # the log's thread is for programs that load a model
        options = load_options(n_gpu_layers, use_mmap, use_mlock, check_tensors, vocab_only=vocab_only)
        pull = as_bool("pull", pull)
        if progress is not None:
            expect_callable("progress", progress)
        _log.flush()
        source = _source.find(path, file, pull=pull)
        _plugins.load_if_possible()
        try:
            native = _mullama.Model.load(source.file, options, progress)
        except ModelLoadError:
            _source.explain(source)
            raise
        _log.flush()
        return cls._loaded(native, source.name, source.defaults, options)

    @classmethod
    def _loaded(
        cls, native: _mullama.Model, name: str, defaults: model_defaults.ModelDefaults, options: Options
    ) -> Self:
        """The model that was loaded. Warns, in its caller's caller, about layers that are not on a GPU."""
        model = cls(_native=native, name=name, defaults=defaults, **native.facts())
        n_gpu_layers, *_, vocab_only = options
        if n_gpu_layers > 0 and not vocab_only and not model.n_gpu_layers:
            warnings.warn(no_gpu(n_gpu_layers), stacklevel=4)
        return model

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """Returns the token ids of a text.

        Args:
            text: The text.
            add_special: Add the tokens that the model wants at the beginning and end of a text.
            parse_special: Parse control tokens in the text; otherwise they are treated as plain text.

        Raises:
            InvalidPromptError: The text cannot be tokenized.
        """
        expect("text", text, str)
        add_special, parse_special = as_bool("add_special", add_special), as_bool("parse_special", parse_special)
        return self._native.tokenize(text, add_special, parse_special)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Returns the text of token ids. Control tokens have none; invalid UTF-8 becomes U+FFFD.

        Raises:
            InvalidPromptError: One of the token ids is not in the vocabulary.
        """
        return self._native.detokenize(tokens)

    def apply_chat_template(
        self,
        messages: Messages,
        *,
        tools: Tools | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        **chat_template_kwargs: object,
    ) -> str:
        """Renders a conversation with the model's Jinja template, as Hugging Face's libraries do.

        The result is for inspection. If it is used as a prompt, control tokens that a user typed into a message are
        parsed; `chat_stream` treats them as plain text.

        Args:
            messages: The conversation, oldest message first: mappings with a "role" and usually a "content".
            tools: Tools that the model may call: JSON schemas, or mappings that have one under "function".
            chat_template: A Jinja template to use instead of the model's own.
            add_generation_prompt: Append the text that starts the assistant's reply.
            **chat_template_kwargs: Additional variables for the template, such as `enable_thinking=False`.

        Raises:
            ChatTemplateError: The model has no template, or the template fails.
            TypeError: A message is not a mapping with a "role", or contains a value that JSON cannot represent.

        Example:
            >>> print(model.apply_chat_template([{"role": "user", "content": "Hello!"}]))
        """
        prompt = {"add_generation_prompt": add_generation_prompt}
        return self._native.apply_chat_template(chat_of(messages, tools, chat_template, chat_template_kwargs, **prompt))

    def close(self) -> None:
        """Ends everything that uses the model: open streams and later calls raise `EngineClosedError`.

        The weights are freed with the last context and the last stream that use them. Closing again does nothing.
        """
        self._native.close()

    def __repr__(self) -> str:
        """The file, the model's name, architecture and size as far as they are known, and where it is computed."""
        # llama.cpp knows the names of common sizes alone.
        size = _parameters(self.n_params)
        known = [
            told(label(self)),
            shortened(" ".join(self.metadata.get("general.name", "").split())),
            " ".join(self.description.replace("?B", size).split()),
            f"{self.size / (1 << 20):,.1f} MiB" if self.size else "",
            f"{self.n_gpu_layers} of {self.n_layer + 1} layers on GPU" if self.n_gpu_layers else "on CPU",
        ]
        return f"<Model {', '.join(filter(None, known))}>"


def _parameters(count: int) -> str:
    """The number of parameters as model names have it, such as 2.2M; nothing if there are none."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count or "")


def label(model: Model) -> str:
    """What to call a model in a few characters: its name, or that of its file."""
    return model.path.name if model.name in {str(model.path), "demo"} else model.name


def load_options(
    n_gpu_layers: int,
    use_mmap: bool,  # noqa: FBT001  # in the order of the native call
    use_mlock: bool,  # noqa: FBT001  # the same
    check_tensors: bool,  # noqa: FBT001  # the same
    *,
    vocab_only: bool,
) -> Options:
    """The options of a load, checked, as the native module takes them."""
    return (
        as_int("n_gpu_layers", n_gpu_layers),
        as_bool("use_mmap", use_mmap),
        as_bool("use_mlock", use_mlock),
        as_bool("check_tensors", check_tensors),
        as_bool("vocab_only", vocab_only),
    )


def read_path(path: str | os.PathLike[str]) -> str:
    """The path as text, with `~` expanded. What `Model.load` does with the text is what it does with the path.

    Raises:
        TypeError: It is not a path.
        InvalidConfigError: The file system cannot encode it, or no file can have it.
    """
    file = as_path(path)
    if file == "demo":
        return file if isinstance(path, str) else "./demo"
    file = os.path.expanduser(file)  # noqa: PTH111  # bytes are paths too
    try:
        size = len(os.fsencode(file))
    except UnicodeEncodeError as unencodable:
        shown = ascii(shortened(file))
        reason = f"text that the file system can encode: {unencodable.reason} at {unencodable.start}"
        error = invalid_config("path", shown, reason)
        raise error from None
    if "\0" in file:
        error = invalid_config("path", told(file), "a path without NUL characters")
        raise error
    if size > _LONGEST_PATH:
        error = invalid_config("path", told(file), f"at most {_LONGEST_PATH} bytes long, not {size}")
        raise error
    return file


def _made_by_load(init: Callable[..., None]) -> Callable[..., None]:
    @wraps(init)
    def initialize(model: Model, *args: object, **fields: object) -> None:
        if args or "_native" not in fields:
            path = told(args[0]) if args and isinstance(args[0], (str, os.PathLike)) else "path"
            message = f"a Model is made by Model.load({path}), not by Model({path if args else ''})"
            raise TypeError(message)
        init(model, **fields)

    return initialize


Model.__init__ = _made_by_load(Model.__init__)  # type: ignore[method-assign]


def no_gpu(n_gpu_layers: int) -> str:
    """Tells that layers were meant for a GPU that is not there."""
    return (
        f"n_gpu_layers is {n_gpu_layers}, but no GPU was found: every layer is computed on the CPU. `mullama doctor` "
        "lists the devices, and a build with MULLAMA_BACKEND=cuda, vulkan, metal or rocm can use a GPU"
    )
