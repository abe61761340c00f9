"""Records which processor features the native module is compiled for, so that importing it elsewhere can say no."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = """\
[package]
name = "probe"
version = "0.0.0"
edition = "2024"

[lib]
path = "lib.rs"

[workspace]
"""


def record(root: Path) -> None:
    """Writes `mullama._build` with the features that rustc compiles for, all flags and settings counted."""
    probe = _probe(root / "target" / "build-tools" / "probe")
    # Asking cargo about an empty crate inside the checkout is the one way that sees every source of flags: the
    # environment, this checkout's settings and the user's own.
    command = ["cargo", "rustc", "--quiet", "--release", "--target-dir", str(probe / "target"), "--", "--print", "cfg"]
    asked = subprocess.run(command, cwd=probe, capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        sys.exit(f"mullama cannot be built: rustc does not say what it compiles for:\n{asked.stderr}")
    features = sorted(set(re.findall(r'^target_feature="([^"]+)"$', asked.stdout, re.MULTILINE)))
    _write(root / "python" / "mullama" / "_build.py", features)


def _probe(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Cargo.toml").write_text(MANIFEST, encoding="utf-8")
    (folder / "lib.rs").touch()
    return folder


def _write(module: Path, features: list[str]) -> None:
    lines = [
        '"""What the native module was compiled for; written by the build."""',
        "",
        "TARGET_FEATURES: tuple[str, ...] = (",
        *(f'    "{feature}",' for feature in features),
        ")",
    ]
    module.write_text("\n".join(lines) + "\n", encoding="utf-8")
