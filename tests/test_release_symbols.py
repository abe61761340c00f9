"""The check of symbol versions that decides on the manylinux tag of a release."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from release import symbols

pytestmark = pytest.mark.skipif(
    shutil.which("readelf") is None or shutil.which("cc") is None, reason="needs binutils and a C compiler"
)

# A symbol that needs exactly the version of glibc that it names.
NEEDS = """
__asm__(".symver {name},{name}@GLIBC_{version}");
extern int {name}(void);
int call(void) {{ return {name}(); }}
"""


def built(folder: Path, source: str, *flags: str) -> Path:
    library, program = folder / "libneedy.so", folder / "program.c"
    program.write_text(source, encoding="utf-8")
    compiler = shutil.which("cc") or "cc"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, program, *flags], check=True)
    return library


@pytest.mark.parametrize(("name", "version", "minor"), [("quick_exit", "2.10", 17), ("getrandom", "2.25", 25)])
def test_the_newest_symbol_of_glibc_decides(tmp_path: Path, name: str, version: str, minor: int) -> None:
    assert symbols.needed_glibc(built(tmp_path, NEEDS.format(name=name, version=version))) == minor


def test_a_library_that_no_system_has_is_named(tmp_path: Path) -> None:
    other = built(tmp_path, "int other(void) { return 1; }", "-Wl,-soname,libother.so.7")
    other = other.rename(tmp_path / "libother.so.7")
    needy = built(tmp_path, "extern int other(void); int call(void) { return other(); }", str(other))
    assert symbols.foreign([needy]) == {"libother.so.7"}
    assert symbols.foreign([needy, other]) == set()


def test_a_version_that_no_policy_has_is_an_error() -> None:
    with pytest.raises(symbols.UnknownSymbolVersionError, match=r"libx\.so needs GLIBCXX_3\.4\.99"):
        symbols._minor(Path("libx.so"), "GLIBCXX", "3.4.99")
