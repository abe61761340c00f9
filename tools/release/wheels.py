"""Writes wheels: equal contents make an equal file, whatever the machine and the time."""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DATE = (2020, 1, 1, 0, 0, 0)
MODE = 0o100644
EXECUTABLE = 0o100755


def write(path: Path, files: Mapping[str, bytes]) -> None:
    """Writes a wheel of these files, and its RECORD. The metadata goes to the end, as the format recommends."""
    files = {name: files[name] for name in sorted(files, key=lambda name: (_is_metadata(name), name))}
    about = next(name for name in files if _is_metadata(name)).partition("/")[0]
    record = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in files.items()]
    files[f"{about}/RECORD"] = lines([*record, f"{about}/RECORD,,"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, DATE)
            entry.create_system = 3  # Unix, whose modes follow
            entry.external_attr = (EXECUTABLE if re.search(r"\.so(\.\w+)*$", name) else MODE) << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, compresslevel=9)


def read(path: Path) -> dict[str, bytes]:
    """The files of a wheel, without its RECORD."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith((".dist-info/RECORD", "/"))]
        return {name: archive.read(name) for name in names}


def retag(files: dict[str, bytes], platform: str) -> None:
    """Sets the platform in the metadata of a wheel."""
    name = next(name for name in files if name.endswith(".dist-info/WHEEL"))
    files[name] = re.sub(rb"(?m)^(Tag: \w+-\w+)-\w+$", rb"\1-" + platform.encode(), files[name])


def add_licence(files: dict[str, bytes], name: str, content: bytes) -> None:
    """Adds a licence file, which the metadata names."""
    metadata = next(name for name in files if name.endswith(".dist-info/METADATA"))
    stated = re.search(rb"(?m)^License-File: .*\n", files[metadata])
    if stated is None:
        message = f"{metadata} names no licence file"
        raise ValueError(message)
    end = stated.end()
    files[metadata] = files[metadata][:end] + f"License-File: {name}\n".encode() + files[metadata][end:]
    files[f"{metadata.partition('/')[0]}/licenses/{name}"] = content


def lines(texts: list[str]) -> bytes:
    """A text file."""
    return "".join(f"{text}\n" for text in texts).encode()


def _is_metadata(name: str) -> bool:
    return name.partition("/")[0].endswith(".dist-info")


def _digest(content: bytes) -> str:
    """A hash as RECORD has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
