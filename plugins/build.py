"""Builds a plug-in of mullama: a wheel with one of llama.cpp's GPU backends as a library.

    python3 plugins/build.py vulkan --llama-cpp SOURCES --libraries mullama/lib --out dist
    python3 plugins/build.py cuda --llama-cpp SOURCES --libraries mullama/lib --out dist --architectures 80;90

It needs this checkout, CMake, a C++ compiler, binutils and the compiler of the backend, but neither Rust nor a network.
SOURCES is the folder `llama.cpp` of the llama-cpp-sys-2 that mullama pins. `--libraries` is the folder `lib` of the
mullama that it is for, whose build id it gets: mullama refuses every other.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

TOOLS = Path(__file__).resolve().parents[1] / "tools"
sys.path.insert(0, str(TOOLS))

from release import names, wheels  # noqa: E402  # needs the path above

SECTION = ".mullama.build"  # crates/mullama-ffi reads it
BASELINE = "-march=x86-64"
# Everything that decides on the layout of ggml's structures is as in the build of mullama itself.
OPTIONS = [
    "-DCMAKE_BUILD_TYPE=Release",
    f"-DCMAKE_PROJECT_INCLUDE={TOOLS / 'release' / 'libraries.cmake'}",
    "-DCMAKE_SHARED_LINKER_FLAGS=-Wl,-Bsymbolic,-z,defs",
    "-DCMAKE_MODULE_LINKER_FLAGS=-Wl,-Bsymbolic,-z,defs",
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
    "-DBUILD_SHARED_LIBS=ON",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_NATIVE=OFF",
    "-DGGML_CPU=OFF",
    "-DGGML_OPENMP=OFF",
    "-DLLAMA_BUILD_COMMON=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_TOOLS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_BUILD_APP=OFF",
]
# By the major version of the CUDA toolkit: NVIDIA's packages with its libraries, and where they put those.
CUDA = {
    "12": (["nvidia-cuda-runtime-cu12", "nvidia-cublas-cu12"], ["cuda_runtime/lib", "cublas/lib"]),
    "13": (["nvidia-cuda-runtime", "nvidia-cublas"], ["cu13/lib"]),
}
MODULE = '''\
"""llama.cpp's backend for {title}. mullama finds it by the entry point in the group `mullama.backends`."""

from pathlib import Path


def library() -> str:
    """The path of the backend's library."""
    return str(Path(__file__).with_name("{library}"))
'''


def main() -> None:
    """Builds the library, marks it, and packs it."""
    asked = arguments()
    build_id = (asked.libraries / "build-id").read_text(encoding="utf-8")
    version = re.match(r"mullama ([^,]+), ", build_id)
    if version is None:
        stop(f"{asked.libraries / 'build-id'} does not state a build of mullama")
    options, requirements = backend_options(asked)
    library = compiled(asked, options)
    marked(library, asked.libraries / "build-id")
    wheel = packed(library, asked, version[1], [f"mullama=={version[1]}", *requirements])
    print(f"{wheel} ({wheel.stat().st_size:,} bytes) for {build_id}")


def arguments() -> argparse.Namespace:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend", choices=["cuda", "vulkan"])
    parser.add_argument("--llama-cpp", type=Path, required=True, help="the sources of llama.cpp")
    parser.add_argument("--libraries", type=Path, required=True, help="the folder lib of the mullama that this is for")
    parser.add_argument("--out", type=Path, required=True, help="where the wheel goes")
    parser.add_argument("--build", type=Path, help="where CMake builds; kept between calls (default: OUT/BACKEND)")
    parser.add_argument("--architectures", default="75;80;86;89;90", help="of NVIDIA's GPUs, for CUDA")
    parser.add_argument("--platform", default="linux_x86_64", help="the platform tag of the wheel")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    asked.build = asked.build or asked.out / asked.backend
    return asked


def backend_options(asked: argparse.Namespace) -> tuple[list[str], list[str]]:
    """What CMake is told about the backend, and what its package requires."""
    renamed = asked.build.resolve() / "names.h"
    names.write_header(asked.llama_cpp, renamed)
    flags = f"{BASELINE} -fvisibility=hidden -ffile-prefix-map={asked.llama_cpp.resolve()}=llama.cpp -include {renamed}"
    if asked.backend == "vulkan":
        more = f"{flags} -include {Path(__file__).with_name('vulkan_layer_settings.h').resolve()}"
        options = ["-DGGML_VULKAN=ON", "-DCMAKE_INSTALL_RPATH=$ORIGIN"]
        return [*options, f"-DCMAKE_C_FLAGS={flags}", f"-DCMAKE_CXX_FLAGS={more}"], []
    stated = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    major = re.search(r"release (\d+)\.", stated)
    if major is None or major[1] not in CUDA:
        stop(f"CUDA {' or '.join(CUDA)} is needed, but nvcc says:\n{stated}")
    requirements, folders = CUDA[major[1]]
    rpath = ":".join(["$ORIGIN", *(f"$ORIGIN/../nvidia/{folder}" for folder in folders)])
    options = ["-DGGML_CUDA=ON", "-DGGML_CUDA_NCCL=OFF", f"-DCMAKE_CUDA_ARCHITECTURES={asked.architectures}"]
    options += [f"-DCMAKE_C_FLAGS={flags}", f"-DCMAKE_CXX_FLAGS={flags}", f"-DCMAKE_CUDA_FLAGS=-include {renamed}"]
    return [*options, f"-DCMAKE_INSTALL_RPATH={rpath}"], requirements


def compiled(asked: argparse.Namespace, options: list[str]) -> Path:
    """The library, as CMake builds it."""
    target = f"ggml-{asked.backend}"
    subprocess.run(["cmake", "-S", asked.llama_cpp, "-B", asked.build, *OPTIONS, *options], check=True)
    subprocess.run(["cmake", "--build", asked.build, "--target", target, "--parallel", str(asked.jobs)], check=True)
    return Path(asked.build, "bin", f"lib{target}.so")


def marked(library: Path, build_id: Path) -> None:
    """Strips the library and writes the build id into it."""
    section = [f"--add-section={SECTION}={build_id}", f"--set-section-flags={SECTION}=noload,readonly"]
    command = ["objcopy", "--strip-unneeded", f"--remove-section={SECTION}", *section, str(library)]
    subprocess.run(command, check=True)


def packed(library: Path, asked: argparse.Namespace, version: str, requirements: list[str]) -> Path:
    """The wheel. It is written by hand, because a machine with a GPU's compiler may have no build tools for Python."""
    package, title = f"mullama_{asked.backend}", {"cuda": "CUDA", "vulkan": "Vulkan"}[asked.backend]
    about = f"{package}-{version}.dist-info"
    tag = f"py3-none-{asked.platform}"
    metadata = [
        "Metadata-Version: 2.4",
        f"Name: mullama-{asked.backend}",
        f"Version: {version}",
        f"Summary: llama.cpp's backend for {title}, as a plug-in of mullama",
        "License-Expression: MIT",
        "License-File: LICENSE",
        "Requires-Python: >=3.10",
        *(f"Requires-Dist: {requirement}" for requirement in requirements),
    ]
    wheel = ["Wheel-Version: 1.0", "Generator: mullama", "Root-Is-Purelib: false", f"Tag: {tag}"]
    entry = ["[mullama.backends]", f"{asked.backend} = {package}:library"]
    files = {
        f"{package}/__init__.py": MODULE.format(title=title, library=library.name).encode(),
        f"{package}/{library.name}": library.read_bytes(),
        f"{about}/METADATA": wheels.lines(metadata),
        f"{about}/WHEEL": wheels.lines(wheel),
        f"{about}/entry_points.txt": wheels.lines(entry),
        f"{about}/licenses/LICENSE": (asked.llama_cpp / "LICENSE").read_bytes(),
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    path = Path(asked.out, f"{package}-{version}-{tag}.whl")
    wheels.write(path, files)
    return path


def stop(message: str) -> NoReturn:
    """Ends the build with a message."""
    sys.exit(f"the plug-in cannot be built: {message}")


if __name__ == "__main__":
    main()
