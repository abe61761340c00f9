"""A loaded model: its weights and its tokens."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass

from mullama import _mullama
from mullama._chat import chat_of
from mullama._closing import Closing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from typing_extensions import Self

    from mullama._chat import Messages, Tools

# An engine that runs on while the interpreter ends would crash it.
atexit.register(_mullama.shutdown)

DEMO = os.path.join(os.path.dirname(__file__), "models", "demo.gguf")  # noqa: PTH118, PTH120  # pathlib is slow to import


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Model(Closing):
    """A loaded model, made by `Model.load`. Contexts on it generate text; any number of them may share it.

    Example:
        >>> model = Model.load("demo")
        >>> model.detokenize(model.tokenize("Hello", add_special=False))
        'Hello'

    Attributes:
        path: The file it was loaded from.
        metadata: The file's metadata, keys and values as text.
        description: Architecture, size and number format in a few words.
        n_ctx_train: Context length that the model was trained for, in tokens.
        n_embd: Width of an embedding.
        n_layer: Number of layers.
        n_params: Number of weights.
        n_vocab: Number of tokens in the vocabulary.
        size: Size of all weights in bytes.
        bos: The token that begins a text, if the model has one.
        eos: The token that ends a text, if the model has one.
        end_tokens: All tokens that end a generation.
    """

    path: Path
    metadata: dict[str, str]
    description: str
    n_ctx_train: int
    n_embd: int
    n_layer: int
    n_params: int
    n_vocab: int
    size: int
    bos: int | None
    eos: int | None
    end_tokens: tuple[int, ...]
    _native: _mullama.Model

    @classmethod
    def load(  # noqa: PLR0913  # keywords, named at each call
        cls,
        path: str | os.PathLike[str],
        *,
        n_gpu_layers: int = -1,
        use_mmap: bool = True,
        use_mlock: bool = False,
        check_tensors: bool = False,
        vocab_only: bool = False,
        progress: Callable[[float], bool | None] | None = None,
    ) -> Self:
        """Loads a GGUF file. Blocks until the weights are there, without the GIL; Ctrl-C ends it.

        Args:
            path: The file; for a model in several files, the first of them. "demo" is the small model inside the
                package; a file of that name is "./demo".
            n_gpu_layers: Layers that go to a GPU, if there is one; below zero is all of them.
            use_mmap: Maps the file into memory instead of reading it.
            use_mlock: Keeps the weights in RAM, as far as the system allows it.
            check_tensors: Looks at every weight for a NaN or an infinity.
            vocab_only: Loads the vocabulary and the metadata alone. Such a model tokenizes and renders templates.
            progress: Called with how far it is, from 0.0 to 1.0. The load ends if it returns False or raises.

        Raises:
            ModelNotFoundError: Nothing is there.
            ModelLoadError: The file is no model that can run, or `progress` returned False.
        """
        from mullama import _log  # noqa: PLC0415  # its thread is for programs that load a model

        _log.flush()
        file = DEMO if path == "demo" else os.fsdecode(path)
        native = _mullama.Model.load(file, n_gpu_layers, use_mmap, use_mlock, check_tensors, vocab_only, progress)
        _log.flush()
        return cls(_native=native, **native.facts())

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """Token ids of a text.

        Args:
            text: The text.
            add_special: Adds the tokens that begin and end a text, as the model says.
            parse_special: Reads the names of control tokens as such; otherwise they are spelled out.

        Raises:
            InvalidPromptError: The tokenizer refuses the text.
        """
        return self._native.tokenize(text, add_special, parse_special)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Text of token ids. Control tokens have none; bytes that are no text become U+FFFD.

        Raises:
            InvalidPromptError: The model does not have one of the tokens.
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
        """The prompt that the model's Jinja template makes of a conversation, as Hugging Face's libraries render it.

        It is text to look at. Given back to `generate_stream`, control tokens that a user typed into a message would be
        parsed; `chat_stream` keeps them letters.

        Args:
            messages: What was said, oldest first: mappings with a "role", mostly with a "content".
            tools: Tools that the model may call: JSON schemas, or mappings that hold one under "function".
            chat_template: A Jinja template instead of the model's own.
            add_generation_prompt: Whether the text ends where the assistant's next answer begins.
            **chat_template_kwargs: More variables for the template, such as `enable_thinking=False`.

        Raises:
            ChatTemplateError: The model has no template, or it fails; with its line.
            TypeError: A message is no mapping with a "role", or something in it is no JSON.

        Example:
            >>> print(model.apply_chat_template([{"role": "user", "content": "Hello!"}]))
        """
        prompt = {"add_generation_prompt": add_generation_prompt}
        return self._native.apply_chat_template(chat_of(messages, tools, chat_template, chat_template_kwargs, **prompt))

    def close(self) -> None:
        """Ends everything that runs on the model: open streams and later calls raise `EngineClosedError`.

        The weights are freed when the last context and the last stream on them is gone. Closing again does nothing.
        """
        self._native.close()

    def __repr__(self) -> str:
        """Path and description."""
        return f"<Model '{self.path}', {self.description}>"
