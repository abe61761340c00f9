"""Names for annotations that are read at run time: Python 3.10 lacks some, and a module may be slow to import."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if sys.version_info >= (3, 12):
    from typing import Self, TypedDict, Unpack
else:  # pydantic needs the `TypedDict` of 3.12
    from typing_extensions import Self, TypedDict, Unpack

__all__ = ["Self", "TypedDict", "Unpack", "local_models", "model_defaults", "pathlib"]

if TYPE_CHECKING:
    import pathlib

    from mullama import _local_models as local_models
    from mullama import _model_defaults as model_defaults
else:

    class _Late:
        """A module that is imported when a name of it is read, as few programs do with annotations."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> object:
            return getattr(import_module(self._name), name)

    local_models = _Late("mullama._local_models")
    model_defaults = _Late("mullama._model_defaults")
    pathlib = _Late("pathlib")
