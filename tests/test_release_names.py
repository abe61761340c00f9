"""The functions of a release's libraries have names that another llama.cpp in the process does not have."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from release import names, notices, symbols

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("cargo", "cc", "readelf")),
    reason="needs cargo, binutils and a compiler",
)


@pytest.fixture(scope="module")
def sources() -> Path:
    return notices.package(ROOT, "llama-cpp-sys-2") / "llama.cpp"


def test_every_function_of_the_public_header_is_renamed(sources: Path) -> None:
    renamed = set(names.declared(sources))
    header = (sources / "include" / "llama.h").read_text(encoding="utf-8")
    for line in header.splitlines():
        if line.startswith("    LLAMA_API ") and "(" in line and "DEPRECATED" not in line:
            name = line.partition("(")[0].split()[-1].lstrip("*")
            assert name in renamed, line
    assert {"ggml_init", "ggml_abort", "gguf_init_from_file", "quantize_row_q4_0_ref", "llama_decode"} <= renamed


def test_a_compiler_that_includes_the_header_renames_definitions_and_calls(sources: Path, tmp_path: Path) -> None:
    names.write_header(sources, tmp_path / "names.h")
    # A declaration comes first, as llama.cpp's headers have it: a definition alone keeps its name.
    declarations = "void ggml_abort(void);\nint ggml_init(int);\n"
    program = f"{declarations}int ggml_init(int a) {{ ggml_abort(); return a; }}\nint other(void) {{ return 1; }}\n"
    library = tmp_path / "lib.so"
    command = ["cc", "-shared", "-fPIC", "-include", str(tmp_path / "names.h"), "-o", str(library), "-x", "c", "-"]
    subprocess.run(command, input=program, text=True, check=True)
    assert {"mullama_ggml_init", "other"} <= symbols.offered(library)
    assert symbols.exposed([library]) == set()


def test_names_that_another_llama_cpp_could_offer_are_found(tmp_path: Path) -> None:
    libraries = []
    for name, program in {
        "base": "int ggml_init(void) { return 1; }",
        "user": "int ggml_init(void);\nint use(void) { return ggml_init(); }",
    }.items():
        libraries.append(tmp_path / f"lib{name}.so")
        command = ["cc", "-shared", "-fPIC", "-o", str(libraries[-1]), "-x", "c", "-"]
        subprocess.run(command, input=program, text=True, check=True)
    assert symbols.exposed(libraries) == {"ggml_init"}


def test_an_unchanged_header_keeps_its_time_so_that_nothing_is_compiled_again(sources: Path, tmp_path: Path) -> None:
    header = tmp_path / "names.h"
    names.write_header(sources, header)
    first = header.stat().st_mtime_ns
    names.write_header(sources, header)
    assert header.stat().st_mtime_ns == first
