"""What the package says about models on this machine, and about downloads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeAlias

from mullama._frozen import FrozenDict
from mullama._model_defaults import ModelDefaults
from mullama._typing import pathlib

Location: TypeAlias = Literal["file", "mullama", "hugging_face", "ollama", "lm_studio"]
"""Whose file a model is."""

Phase: TypeAlias = Literal["resolving", "waiting", "downloading", "verifying", "done"]
"""What a pull is doing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A model on this machine, as `pull` returns it. `Model.load` and `open` take it like a path.

    Attributes:
        name: The name in full, such as "llama3.2:1b" or "hf.co/user/repo:Q4_K_M"; for a file, its path.
        path: The GGUF file; for a model in several files, the first of them.
        location: Whose file it is: "mullama", "hugging_face" (the shared cache), "ollama", "lm_studio" or "file".
        size: Size of all its files, in bytes.
        alias: The alias by which it was asked for; None if it was asked for by its own name.
        defaults: Settings that the model's publisher recommends.
    """

    name: str
    path: pathlib.Path
    location: Location
    size: int
    alias: str | None = None
    defaults: ModelDefaults = field(default_factory=ModelDefaults)

    def __fspath__(self) -> str:
        """The path of the file."""
        return str(self.path)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON can hold them."""
        return {
            "name": self.name,
            "path": str(self.path),
            "location": self.location,
            "size": self.size,
            "alias": self.alias,
            "defaults": self.defaults.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a pull is. Phases never go back, and `done` never falls.

    Attributes:
        phase: "resolving" asks where the model is; "waiting" waits for another process that downloads the same file;
            then "downloading", "verifying" and "done".
        file: The file that is being downloaded, for people.
        done: Bytes of the model on the disk, including those of an earlier attempt.
        total: Bytes of the whole model; None as long as the server has not said.
    """

    phase: Phase
    file: str
    done: int
    total: int | None

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """A model as `list_models` shows it. `Model.load` and `open` take it like a path.

    Attributes:
        name: The name that loads it.
        path: The GGUF file; for a model in several files, the first of them.
        location: Whose file it is, as in `LocalModel`.
        size: Size of all its files, in bytes.
        quantization: Type of most weights, such as "Q4_K_M"; None if the file does not say.
        parameters: Number of parameters; 0 if the file cannot be read.
        context_length: Context length that the model was trained with, in tokens; None if the file does not say.
        architecture: llama.cpp's name of the architecture, such as "llama"; None if the file cannot be read.
        last_used: When mullama loaded it last, in seconds since 1970; None if it never did.
        aliases: Its aliases.
        missing: Whether the model is gone, so that only its aliases are left, which `remove_model` removes. `path` is
            then where it was looked for.
    """

    name: str
    path: pathlib.Path
    location: Location
    size: int
    quantization: str | None = None
    parameters: int = 0
    context_length: int | None = None
    architecture: str | None = None
    last_used: float | None = None
    aliases: tuple[str, ...] = ()
    missing: bool = False

    def __fspath__(self) -> str:
        """The path of the file."""
        return str(self.path)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON can hold them."""
        return {**asdict(self), "path": str(self.path), "aliases": list(self.aliases)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDetails:
    """What `show_model` knows about a model on this machine, without loading it.

    Attributes:
        name: The name in full; for a file, its path.
        files: The GGUF files of the model.
        location: Whose files they are, as in `LocalModel`.
        size: Size of all files in bytes.
        architecture: llama.cpp's name of the architecture, such as "llama".
        parameters: Number of parameters.
        quantization: Type of most weights, such as "Q4_K_M"; None if the file does not say.
        context_length: Context length that the model was trained with, in tokens; None if the file does not say.
        embedding_length: Width of the embeddings; None if the file does not say.
        metadata: The file's metadata. Long texts are shortened, and of a list the first items are there.
        template: The model's chat template; None if it has none.
        tokenizer: Kind of tokenizer, such as "gpt2".
        vocabulary: Number of tokens in the vocabulary.
        tensors: Number of tensors by their type.
        license: The text of the licence, or its name; None if neither the registry nor the file says it.
        defaults: Settings that the model's publisher recommends.
        n_ctx: The context length that `kv_cache` is about, in tokens.
        weights: Bytes of the weights.
        kv_cache: Bytes of the KV cache for `n_ctx` tokens; None if the file says too little.
        last_used: When mullama loaded it last, in seconds since 1970; None if it never did.
    """

    name: str
    files: tuple[pathlib.Path, ...]
    location: Location
    size: int
    architecture: str | None
    parameters: int
    quantization: str | None
    context_length: int | None
    embedding_length: int | None
    metadata: Mapping[str, Any]
    template: str | None
    tokenizer: str | None
    vocabulary: int | None
    tensors: Mapping[str, int]
    license: str | None
    defaults: ModelDefaults
    n_ctx: int
    weights: int
    kv_cache: int | None
    last_used: float | None

    @property
    def path(self) -> pathlib.Path:
        """The GGUF file; for a model in several files, the first of them."""
        return self.files[0]

    @property
    def memory(self) -> int | None:
        """Bytes of the weights and of the KV cache for `n_ctx` tokens."""
        return None if self.kv_cache is None else self.weights + self.kv_cache

    def __fspath__(self) -> str:
        """The path of the file."""
        return str(self.path)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON can hold them."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        files = [str(file) for file in self.files]
        return {**values, "files": files, "defaults": self.defaults.to_dict(), "memory": self.memory}


@dataclass(frozen=True, slots=True)
class RemovedModel:
    """What `remove_model` has removed.

    Attributes:
        name: The name in full.
        aliases: Its aliases, which are gone too; if only an alias was removed, that one.
        size: Bytes that became free; 0 if only an alias was removed.
        kept: Why files stay although this model no longer needs them: a path, and a reason such as "cannot be read:
            Permission denied". None if they are gone, or if another model needs them.
    """

    name: str
    aliases: tuple[str, ...]
    size: int
    kept: tuple[pathlib.Path, str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON can hold them."""
        kept = None if self.kept is None else {"path": str(self.kept[0]), "reason": self.kept[1]}
        return {"name": self.name, "aliases": list(self.aliases), "size": self.size, "kept": kept}


def local_model(*, defaults: dict[str, Any], **facts: Any) -> LocalModel:  # noqa: ANN401  # the native module's
    """The value of what the native module knows about a model."""
    return LocalModel(**facts, defaults=_defaults(**defaults))


def model_details(
    *,
    defaults: dict[str, Any],
    metadata: dict[str, Any],
    tensors: list[dict[str, Any]],
    memory: dict[str, Any],
    **facts: Any,  # noqa: ANN401  # the native module's
) -> ModelDetails:
    """The value of what the native module knows about the files of a model."""
    counts = {each["type"]: each["count"] for each in tensors}
    made: dict[str, Any] = {"metadata": FrozenDict(metadata), "tensors": FrozenDict(counts)}
    return ModelDetails(**facts, **made, **memory, defaults=_defaults(**defaults))


def _defaults(*, stream: dict[str, Any], n_ctx: int | None, system: str | None) -> ModelDefaults:
    return ModelDefaults(settings=stream, n_ctx=n_ctx, system=system)
