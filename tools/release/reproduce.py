"""Builds a release again, from a copy of the checkout in another folder, and compares the wheels: `make reproduce`.

The copy has a path of another length, because a path leaves traces by its length as well. Everything is compiled
again: ccache, where it is installed, must not give objects of the first build, which would be compared with themselves.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from release import wheels

ROOT = Path(__file__).resolve().parents[2]
COPY = ROOT / "target" / "a-second-build-of-the-release" / "checkout"


def main(folder: Path) -> None:
    """Ends the process with the files that differ, if any do."""
    first = next(folder.resolve().glob("mullama-*.whl"))
    # What an earlier run compiled could hide what differs.
    shutil.rmtree(COPY, ignore_errors=True)
    copy_checkout(COPY)
    paths = os.pathsep.join(str(COPY / name) for name in ("tools", "build_backend"))
    command = [sys.executable, "-m", "release.build", str(COPY / "dist")]
    environment = os.environ | {"PYTHONPATH": paths, "CCACHE_RECACHE": "1"}
    subprocess.run(command, cwd=COPY, env=environment, check=True)
    second = next((COPY / "dist").glob("mullama-*.whl"))
    if first.name == second.name and first.read_bytes() == second.read_bytes():
        print(f"{first.name}: the second build has the same {first.stat().st_size:,} bytes")
        return
    sys.exit(f"two builds of one checkout differ: {first}, {second}: {', '.join(different(first, second)) or 'names'}")


def copy_checkout(folder: Path) -> None:
    """Copies what belongs to the repository, with changes that are not committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def different(first: Path, second: Path) -> list[str]:
    """The files that two wheels do not have in common."""
    one, other = wheels.read(first), wheels.read(second)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
