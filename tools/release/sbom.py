"""Completes maturin's list of what is compiled in (SBOM): with llama.cpp, and without traces of one build."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def settled(content: bytes, root: Path, build_id: str) -> bytes:
    """The list with the same bytes in every build of one source.

    The time, the random number and the path of the checkout go; the format asks for none of them. llama.cpp and ggml,
    whose versions the build id states, are added: for cargo they are a part of the crate that has their sources.
    """
    listed: dict[str, Any] = json.loads(content.replace(f"file://{root}/".encode(), b"file:///"))
    listed.pop("serialNumber", None)
    listed["metadata"].pop("timestamp", None)
    for name, version in re.findall(r"(llama\.cpp|ggml) ([^,\s]+)", build_id):
        licence = {"license": {"id": "MIT"}}
        listed["components"].append({"type": "library", "name": name, "version": version, "licenses": [licence]})
    return json.dumps(listed, indent=1, ensure_ascii=False).encode() + b"\n"
