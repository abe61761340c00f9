"""Finds the oldest systems that libraries run on: the manylinux tag that a wheel may honestly have.

auditwheel follows what libraries are linked to, and does not see what is loaded by its name at run time. Here every
library of the wheel is looked at.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from release import names

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# The libraries that each system of a manylinux policy has. Everything else must be in the wheel.
SYSTEM = {
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libstdc++.so.6",
}

# Up to which symbol version of GCC's libraries each policy goes, which the minor version of its glibc stands for.
# auditwheel has the same table.
GCC = {
    "GLIBCXX": [
        ((3, 4, 19), 17),
        ((3, 4, 22), 24),
        ((3, 4, 24), 27),
        ((3, 4, 28), 31),
        ((3, 4, 29), 34),
        ((3, 4, 30), 35),
    ],
    "CXXABI": [((1, 3, 7), 17), ((1, 3, 10), 24), ((1, 3, 11), 27), ((1, 3, 12), 31), ((1, 3, 13), 34)],
    "GCC": [((4, 8, 0), 17), ((7, 0, 0), 27), ((12, 0, 0), 35)],
}
# A version of glibc's that is no number, and the release that brought it.
RELR = ("ABI_DT_RELR", 36)
OLDEST = 17  # manylinux2014 is the oldest policy that pip still knows


class UnknownSymbolVersionError(Exception):
    """A library needs something that no manylinux policy promises."""


def needed_glibc(library: Path) -> int:
    """The minor version of the oldest glibc 2 that the library runs with.

    Raises:
        UnknownSymbolVersionError: It needs a newer libstdc++ or libgcc than any policy has.
    """
    listed = _readelf("--version-info", library).partition("Version needs section")[2]
    found = [_minor(library, *match) for match in re.findall(r"Name: (GLIBC|GLIBCXX|CXXABI|GCC)_(\S+)", listed)]
    return max([OLDEST, *found])


def foreign(libraries: Iterable[Path]) -> set[str]:
    """The libraries that are linked to and are neither the system's nor among these."""
    libraries = list(libraries)
    own = {library.name for library in libraries}
    linked = {
        name for library in libraries for name in re.findall(r"\(NEEDED\).*\[(.+)\]", _readelf("--dynamic", library))
    }
    return linked - own - SYSTEM


def exposed(libraries: Iterable[Path]) -> set[str]:
    """What these libraries take from each other under a name that another llama.cpp has as well."""
    libraries = list(libraries)
    given = {name for library in libraries for name in offered(library)}
    taken = {name for library in libraries for name, is_defined in _dynamic_symbols(library) if not is_defined}
    return {name for name in given & taken if not name.startswith(names.PREFIX)}


def offered(library: Path) -> set[str]:
    """The names that other libraries find in this one."""
    return {name for name, is_defined in _dynamic_symbols(library) if is_defined}


def _dynamic_symbols(library: Path) -> list[tuple[str, bool]]:
    """The names in the table of dynamic symbols, each with whether the library defines it."""
    listed = re.findall(r"^ *\d+: (?:\S+ +){5}(\S+) (\S+)", _readelf("--dyn-syms", library), re.MULTILINE)
    return [(name.partition("@")[0], section != "UND") for section, name in listed]


def _minor(library: Path, family: str, version: str) -> int:
    if version == RELR[0]:
        return RELR[1]
    if re.fullmatch(r"[\d.]+", version):
        numbers = tuple(map(int, version.split(".")))
        if family == "GLIBC":
            return numbers[1]
        for limit, glibc in GCC[family]:
            if numbers <= limit:
                return glibc
    message = f"{library.name} needs {family}_{version}, which no manylinux policy has"
    raise UnknownSymbolVersionError(message)


def _readelf(what: str, library: Path) -> str:
    return subprocess.run(["readelf", "--wide", what, str(library)], capture_output=True, text=True, check=True).stdout
