"""What the publisher of a model recommends. It is apart from the other values because every load makes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mullama._config import StreamConfig
from mullama._frozen import FrozenDict


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDefaults:
    """Settings that a model's publisher recommends. Those of a plain file are empty.

    Attributes:
        settings: Fields of `StreamConfig` by name, such as `temperature` and `stop_sequences`. They apply to every call
            that has no `config`; a keyword of the call overrides its field.
        n_ctx: Recommended context length in tokens. It is for information: `ContextParams` decides the memory.
        system: Recommended system message. The command line sends it; in a program, put it before the messages.
    """

    settings: Mapping[str, Any] = field(default_factory=FrozenDict)
    n_ctx: int | None = None
    system: str | None = None

    def __post_init__(self) -> None:
        """Freezes the settings."""
        object.__setattr__(self, "settings", FrozenDict(self.settings))

    def config(self) -> StreamConfig:
        """A config with these settings, and the package's own defaults for all others."""
        return StreamConfig(**self.settings)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return {"settings": dict(self.settings), "n_ctx": self.n_ctx, "system": self.system}
