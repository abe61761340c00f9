"""Builds the npm packages that run on every x86-64 machine with Linux, and tries them: a part of `make release`.

The native module is compiled in the environment of the wheel's, so llama.cpp is compiled once for both.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mullama_build import toolchain
from release import build, notices, symbols

FOLDER = build.ROOT / "node"


def main(folder: Path) -> None:
    """Builds the packages into the folder, and runs them in an empty project."""
    variants = [*build.VARIANTS, *(["sapphirerapids"] if build.amx_works() else [])]
    toolchain.settle(build.ROOT)
    build.cargo_environment(variants)
    libraries = [*build.LIBRARIES, *(f"libggml-cpu-{variant}.so" for variant in variants)]
    _node("scripts/native.mjs", "--portable", *libraries, "build-id")
    _node("node_modules/typescript/bin/tsc")
    _node("scripts/esm.mjs")
    module, built = FOLDER / "portable" / "mullama.node", FOLDER / "portable" / "lib"
    notice = notices.text(notices.linked(build.ROOT, "mullama-node"))
    (FOLDER / "portable" / "NOTICES.txt").write_text(notice, encoding="utf-8")
    (FOLDER / "portable" / "RUST-STANDARD-LIBRARY.html").write_bytes(notices.standard_library())
    missing = symbols.foreign([module, *(built / name for name in libraries)])
    if missing:
        sys.exit(f"the npm package lacks {', '.join(sorted(missing))}")
    print(f"{module.name}: glibc 2.{symbols.needed_glibc(module)}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    _node("scripts/pack-test.mjs", "--portable", "--out", str(folder.resolve()))


def _node(*arguments: str) -> None:
    subprocess.run([os.environ.get("NODE", "node"), *arguments], cwd=FOLDER, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
