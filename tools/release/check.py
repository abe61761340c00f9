"""Tries a portable wheel as a stranger would, on this processor and on two emulated ones: a part of `make release`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from release import names, symbols

if TYPE_CHECKING:
    from collections.abc import Mapping

# What QEMU emulates, and the variant that must be chosen there.
EMULATED = {"Haswell": "haswell", "Nehalem": "sse42"}
PROMPT = ["run", "demo", "Write a poem:", "--max-tokens", "24", "--temperature", "0", "--seed", "1", "--threads", "1"]
SECONDS = 300
CHECKOUT = Path(__file__).resolve().parents[2]
NOTHING: Mapping[str, str] = MappingProxyType({})

# A library whose only code tells that it was loaded.
PLANTED = """
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void loaded(void) { fclose(fopen(getenv("PLANTED_MARK"), "w")); }
"""

SCORES = """
import ctypes, json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
ctypes.CDLL(folder / "libggml-base.so.mullama", ctypes.RTLD_GLOBAL)
scores = {path.stem: ctypes.CDLL(path).ggml_backend_score() for path in folder.glob("libggml-cpu-*.so")}
print(max(scores, key=scores.get).removeprefix("libggml-cpu-"))
"""

DEFAULT_SEARCH = """
import ctypes, pathlib, sys
folder = pathlib.Path(sys.argv[1])
ctypes.CDLL(folder / "libggml-base.so.mullama", ctypes.RTLD_GLOBAL)
ctypes.CDLL(folder / "libggml.so.mullama", ctypes.RTLD_GLOBAL).mullama_ggml_backend_load_all()
"""

# Another llama.cpp, which other libraries bind to as well, comes into the process before mullama or after its import.
BESIDE = """
import ctypes, runpy, sys
when, names, *sys.argv[1:] = sys.argv[1:]
if when == "after":
    import mullama
for name in names.split(":"):
    ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
assert ctypes.CDLL(None).ggml_init and ctypes.CDLL(None).llama_decode
runpy.run_module("mullama", run_name="__main__", alter_sys=True)
"""

# A server answers, and sends a span of the request to a collector.
SERVER = """
import asyncio, contextlib, http.server, json, os, socket, threading, urllib.request
import mullama
spans = threading.Event()
class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        spans.set()
    def log_message(self, *about): pass
collector = http.server.HTTPServer(("127.0.0.1", 0), Collector)
threading.Thread(target=collector.serve_forever, daemon=True).start()
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{collector.server_port}"
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
def ask():
    body = json.dumps({"model": "demo", "prompt": "Write a poem:", "max_tokens": 8, "temperature": 0}).encode()
    where = f"http://127.0.0.1:{port}/v1/completions"
    request = urllib.request.Request(where, body, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=60))["choices"][0]["text"]
async def main():
    running = asyncio.create_task(mullama.serve("demo", port=port))
    for attempt in range(100):
        with contextlib.suppress(OSError):
            text = await asyncio.to_thread(ask)
            break
        await asyncio.sleep(0.1)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return text
text = asyncio.run(main())
print(bool(text) and spans.wait(30))
"""
# AVX512-FP16, which makes attention slow, and AMX, which only the variant for it may have.
HALF_FLOATS = re.compile(r"\tv(?:add|sub|mul|fn?m(?:add|sub)\d+)[ps]h\b")
TILES = re.compile(r"\t(?:ldtilecfg|tileload|tdpb)")
# Where code of a crate is, as its panic messages tell.
CRATE_PATH = re.compile(rb"/cargo/registry/src/[^/]+/([\w.-]+?)-(\d+\.\d+\.\d+[\w.+-]*)/")


class Installed:
    """A wheel in an empty virtual environment."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        """Installs the wheel with what it depends on."""
        self.folder = folder
        # A copied interpreter, because llama.cpp's default search looks beside what /proc/self/exe names.
        venv.create(folder / "venv", with_pip=True, symlinks=False)
        self.python = folder / "venv" / "bin" / "python"
        self.output(self.python, "-m", "pip", "install", "--quiet", str(wheel))
        self.libraries = Path(
            self.output(self.python, "-c", "import mullama; print(mullama.__path__[0])").strip(), "lib"
        )

    def run(
        self, *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] = NOTHING
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command away from the checkout, with a bare environment."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        where = self.folder if cwd is None else cwd
        return subprocess.run(
            [*map(str, command)],
            cwd=where,
            env=kept | dict(env),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def output(self, *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] = NOTHING) -> str:
        """What a command writes, which must succeed."""
        done = self.run(*command, cwd=cwd, env=env)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def variant(self, *emulator: str) -> str:
        """The CPU variant that is chosen."""
        report = json.loads(self.output(*emulator, self.python, "-m", "mullama", "doctor", "--json"))
        return str(report["cpu_variant"])

    def poem(self, *emulator: str, cwd: Path | None = None, env: Mapping[str, str] = NOTHING) -> str:
        """The text that the demo model writes."""
        return self.output(*emulator, self.python, "-m", "mullama", *PROMPT, cwd=cwd, env=env)


def main(wheel: Path) -> None:
    """Runs every check; the first that fails ends the process."""
    with tempfile.TemporaryDirectory(prefix="a wheel's ü $x ") as folder:
        installed = Installed(wheel, Path(folder))
        best = installed.output(installed.python, "-c", SCORES, installed.libraries).strip()
        expect("the variant on this processor", installed.variant(), best)
        poem = installed.poem()
        expect("whether it writes a poem", len(poem.split()) > 5, True)  # noqa: PLR2004
        expect("whether a server answers and sends a span", installed.output(installed.python, "-c", SERVER), "True\n")
        check_notices(installed)
        check_instructions(installed)
        check_emulated(installed, poem)
        check_planted(installed, poem)
        check_links(installed, poem)
        check_beside(installed, poem)
        check_foreign(installed)


def check_notices(installed: Installed) -> None:
    """The notices name every crate whose paths are in the libraries, and no path of this machine is there."""
    package = installed.libraries.parent
    about = next(package.parent.glob("mullama-*.dist-info"))
    notices = (about / "licenses" / "NOTICES.txt").read_text(encoding="utf-8")
    compiled: set[str] = set()
    for library in [*package.glob("*.so"), *installed.libraries.glob("lib*")]:
        content = library.read_bytes()
        compiled |= {f"{name.decode()} {version.decode()}" for name, version in CRATE_PATH.findall(content)}
        found = [str(path) for path in (Path.home(), CHECKOUT) if str(path).encode() in content]
        expect(f"paths of this machine in {library.name}", found, [])
    expect("how many crates are compiled in, at least", len(compiled) > 20, True)  # noqa: PLR2004
    expect("crates that the notices lack", sorted(name for name in compiled if f"\n{name} (" not in notices), [])
    expect("how many lists of what is compiled in (SBOM)", len([*about.glob("sboms/*.json")]), 1)


def check_instructions(installed: Installed) -> None:
    """No variant has instructions that mullama's builds avoid, because they are slow or miscompiled."""
    for library in sorted(installed.libraries.glob("libggml-cpu-*.so")):
        code = installed.output("objdump", "--disassemble", "--no-show-raw-insn", library)
        found = (bool(HALF_FLOATS.search(code)), bool(TILES.search(code)))
        expect(f"{library.name} has AVX512-FP16, and AMX", found, (False, library.stem.endswith("sapphirerapids")))


def check_emulated(installed: Installed, poem: str) -> None:
    """Older processors choose their variant, and write the same text."""
    for processor, variant in EMULATED.items():
        emulator = ["qemu-x86_64", "-cpu", processor]
        expect(f"the variant on a {processor}", installed.variant(*emulator), variant)
        expect(f"the text on a {processor}", installed.poem(*emulator), poem)


def check_planted(installed: Installed, poem: str) -> None:
    """Libraries in the current directory and beside the executable are not loaded, which llama.cpp itself would."""
    folder, mark = installed.folder / "planted", installed.folder / "planted-mark"
    folder.mkdir()
    library = folder / "libggml-cpu.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, "-x", "c", "-"], input=PLANTED, text=True, check=True)
    for name in [*(path.name for path in installed.libraries.glob("lib*")), "libggml-cuda.so", "libggml-vulkan.so"]:
        for place in (folder, installed.python.parent):
            shutil.copy2(library, place / name)
    environment = {"PLANTED_MARK": str(mark)}
    installed.run(installed.python, "-c", DEFAULT_SEARCH, installed.libraries, cwd=folder, env=environment)
    expect("whether llama.cpp's own search finds what is planted", mark.exists(), True)
    mark.unlink()
    expect("the text beside planted libraries", installed.poem(cwd=folder, env=environment), poem)
    hostile = {"LD_LIBRARY_PATH": str(folder), "GGML_BACKEND_PATH": str(library)}
    expect("the text with variables that name them", installed.poem(cwd=folder, env=environment | hostile), poem)
    expect("whether a planted library was loaded", mark.exists(), False)


def check_links(installed: Installed, poem: str) -> None:
    """A package whose files are links works, though the files themselves do not lie beside each other."""
    package, folder = installed.libraries.parent, installed.folder / "linked"
    files = [path for path in package.rglob("*") if path.is_file()]
    for number, path in enumerate(files):
        link, stored = folder / "mullama" / path.relative_to(package), folder / "store" / str(number) / path.name
        for parent in (link.parent, stored.parent):
            parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, stored)
        link.symlink_to(stored)
    environment = {"PYTHONPATH": str(folder)}
    where = installed.output(installed.python, "-c", "import mullama; print(mullama.__path__[0])", env=environment)
    expect("whether the package of links is the one in use", where.strip(), str(folder / "mullama"))
    expect("the text of a package whose files are links", installed.poem(env=environment), poem)


def check_beside(installed: Installed, poem: str) -> None:
    """Another llama.cpp in the process, under its own names, is not called: each of its functions aborts."""
    folder = installed.folder / "beside"
    folder.mkdir()
    paths = []
    for name in ("ggml-base", "ggml", "llama"):
        offered = symbols.offered(installed.libraries / f"lib{name}.so.mullama")
        functions = [f"void {symbol.removeprefix(names.PREFIX)}(void) {{ abort(); }}" for symbol in sorted(offered)]
        paths.append(folder / f"lib{name}.so.0")
        command = ["cc", "-shared", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{paths[-1].name}", "-o"]
        program = "\n".join(["void abort(void);", *functions])
        subprocess.run([*command, str(paths[-1]), "-x", "c", "-"], input=program, text=True, check=True)
    for when in ("before", "after"):
        text = installed.output(installed.python, "-c", BESIDE, when, ":".join(map(str, paths)), *PROMPT)
        expect(f"the text with another llama.cpp that was loaded {when} mullama", text, poem)


def check_foreign(installed: Installed) -> None:
    """A library of another build is refused, with both build ids."""
    library = installed.libraries / f"libggml-cpu-{installed.variant()}.so"
    marker = installed.folder / "id"
    marker.write_text("mullama 99.0.0", encoding="utf-8")
    subprocess.run(["objcopy", f"--update-section=.mullama.build={marker}", library], check=True)
    done = installed.run(installed.python, "-m", "mullama", *PROMPT)
    own = (installed.libraries / "build-id").read_text(encoding="utf-8")
    expect("whether a library of another build ends the command", done.returncode != 0, True)
    text = " ".join(done.stderr.split())
    expect("whether the error names both builds", "mullama 99.0.0" in text and own in text, True)


def expect(what: str, found: object, wanted: object) -> None:
    """Prints a result, and ends the process if it is not the right one."""
    if found != wanted:
        sys.exit(f"{what}: {found!r}, but must be {wanted!r}")
    print(f"{what}: {found!r}")


if __name__ == "__main__":
    main(next(Path(sys.argv[1]).resolve().glob("mullama-*.whl")))
