"""Names of `typing` as they are read at run time: Python 3.10 lacks two, and pydantic needs the `TypedDict` of 3.12."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 12):
    from typing import Self, TypedDict, Unpack
else:
    from typing_extensions import Self, TypedDict, Unpack

__all__ = ["Self", "TypedDict", "Unpack"]
