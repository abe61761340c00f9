"""Compares the tables of `crates/mullama-core/src/gguf` with the llama.cpp sources that Cargo.lock pins.

The tables repeat what llama.cpp knows: which architectures rotate, how a tensor type packs its elements, how many
layers a model may have. A new version of llama.cpp may change any of that without notice. Two checks find out:

1. Tables that can be read from llama.cpp's sources must be equal to them.
2. Other rules were learnt by reading, such as divisions that nothing guards. The files that were read are recorded with
   their digests in `reviewed_llama_cpp.json`. One that has changed must be read again; `--accept` records that it was.

Run it from anywhere: `.venv/bin/python tools/compare_llama_cpp.py`. It exits with 1 where something differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
GGUF = ROOT / "crates" / "mullama-core" / "src" / "gguf"
REVIEWED = Path(__file__).with_name("reviewed_llama_cpp.json")

# Files whose assertions, divisions and indices the check of a model file guards against.
READ = (
    "ggml/src/gguf.cpp",
    "src/llama-arch.cpp",
    "src/llama-hparams.cpp",
    "src/llama-hparams.h",
    "src/llama-model-loader.cpp",
    "src/llama-model.cpp",
    "src/llama-vocab.cpp",
    "src/models/*.cpp",
)

# Ours, llama.cpp's, and what ours is less than theirs by: a name's length counts the NUL there.
CONSTANTS = (
    ("hparams.rs", "BLOCKS_MOST", "src/llama-hparams.h", "LLAMA_MAX_LAYERS", 0),
    ("hparams.rs", "EXPERTS_MOST", "src/llama-hparams.h", "LLAMA_MAX_EXPERTS", 0),
    ("tensors.rs", "NAME_LEN_MOST", "ggml/include/ggml.h", "GGML_MAX_NAME", 1),
    ("tensors.rs", "DIMS_MOST", "ggml/include/ggml.h", "GGML_MAX_DIMS", 0),
    ("tensors.rs", "BUFFER_ALIGNMENT", "ggml/src/ggml-impl.h", "TENSOR_ALIGNMENT", 0),
    ("header.rs", "ALIGNMENT_DEFAULT", "ggml/include/gguf.h", "GGUF_DEFAULT_ALIGNMENT", 0),
)

# What sizeof says where a tensor type is not made of a block.
SIZES = {"int8_t": 1, "uint8_t": 1, "int16_t": 2, "uint16_t": 2, "ggml_half": 2, "ggml_fp16_t": 2, "ggml_bf16_t": 2}
SIZES |= {"int32_t": 4, "uint32_t": 4, "float": 4, "int64_t": 8, "double": 8}


@dataclass(frozen=True)
class Sources:
    """Where the two sides of a comparison are.

    Attributes:
        ours: The folder of our check of GGUF files.
        theirs: The folder of llama.cpp.
        reviewed: The digests of the files that were read.
    """

    ours: Path = GGUF
    theirs: Path = Path()
    reviewed: Path = REVIEWED

    def our(self, name: str) -> str:
        """The text of one of our files."""
        return (self.ours / name).read_text(encoding="utf-8")

    def their(self, name: str) -> str:
        """The text of one of llama.cpp's files."""
        return (self.theirs / name).read_text(encoding="utf-8")

    def names(self, table: str) -> set[str]:
        """A list of architectures in `arch.rs`."""
        body = re.search(rf"const {table}: &\[&str\] =\s*&\[(.*?)\];", self.our("arch.rs"), re.DOTALL)
        return set(re.findall(r'"([^"]+)"', found(body, table)[1]))


def found(match: re.Match[str] | None, what: str) -> re.Match[str]:
    """The match, or an end with what this script has to learn."""
    if match is None:
        sys.exit(f"{what} was not found: the sources are laid out in a new way, and this script must follow them")
    return match


def pinned() -> Path:
    """The folder of the llama.cpp that Cargo.lock pins."""
    cargo = shutil.which("cargo") or str(Path.home() / ".cargo" / "bin" / "cargo")
    command = [cargo, "metadata", "--locked", "--format-version", "1"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    packages = {package["name"]: package for package in json.loads(told)["packages"]}
    return Path(packages["llama-cpp-sys-2"]["manifest_path"]).parent / "llama.cpp"


def architectures(sources: Sources) -> dict[str, str]:
    """llama.cpp's architectures: the names in files, by the names in the source."""
    table = re.search(r"LLM_ARCH_NAMES = \{(.*?)\n\};", sources.their("src/llama-arch.cpp"), re.DOTALL)
    pairs = re.findall(r"\{ (LLM_ARCH_\w+), +\"([^\"]+)\"", found(table, "LLM_ARCH_NAMES")[1])
    return {symbol: name for symbol, name in pairs if symbol != "LLM_ARCH_UNKNOWN"}


def cases(text: str, function: str) -> Iterator[tuple[set[str], str]]:
    """The groups of a switch over architectures: the cases, and the statement that answers them."""
    body = found(re.search(rf"\b{function}\(.*?\n\}}", text, re.DOTALL), function)[0]
    for group in re.finditer(r"((?:\s*(?://[^\n]*|case LLM_ARCH_\w+:))+)\s*(return [^;]+;|if )", body):
        yield set(re.findall(r"LLM_ARCH_\w+", group[1])), group[2]


def compare_architectures(sources: Sources) -> Iterator[str]:
    """The lists of `arch.rs` that llama.cpp has a switch for, and names that it does not know."""
    known = architectures(sources)
    rope = list(cases(sources.their("src/llama-model.cpp"), "llama_rope_type llama_model_rope_type"))
    recurrent = list(cases(sources.their("src/llama-arch.cpp"), "llm_arch_is_recurrent"))

    def answered(groups: list[tuple[set[str], str]], *answers: str) -> set[str]:
        symbols = {symbol for cases_of, answer in groups if answer in answers for symbol in cases_of}
        return {known[symbol] for symbol in symbols & known.keys()}

    sections = ("return LLAMA_ROPE_TYPE_MROPE;", "return LLAMA_ROPE_TYPE_IMROPE;")
    wanted = {
        # A picture encoder is checked by nobody, and its rotation does not matter.
        "WITHOUT_ROTATION": answered(rope, "return LLAMA_ROPE_TYPE_NONE;") - {"clip"},
        "ROTATING_SECTIONS": answered(rope, *sections),
        # The decoder of sound is convolutions; llama.cpp has no function that says so.
        "WITHOUT_ATTENTION": answered(recurrent, "return true;") | {"wavtokenizer-dec"},
    }
    for table, theirs in wanted.items():
        yield from different(f"arch.rs: {table}", sources.names(table), theirs)
    for table in re.findall(r"const (\w+): &\[&str\]", sources.our("arch.rs")):
        for name in sorted(sources.names(table) - set(known.values())):
            yield f"arch.rs: {table} names {name}, which llama.cpp does not know"


def different(what: str, ours: set[str], theirs: set[str]) -> Iterator[str]:
    """What one set has and the other has not."""
    if missing := sorted(theirs - ours):
        yield f"{what} lacks {', '.join(missing)}"
    if extra := sorted(ours - theirs):
        yield f"{what} has {', '.join(extra)}, which llama.cpp's has not"


def compare_constants(sources: Sources) -> Iterator[str]:
    """Limits that both sides have a name for."""
    for file, ours, header, theirs, less in CONSTANTS:
        our = found(re.search(rf"const {ours}: \w+ = (\d+);", sources.our(file)), ours)[1]
        their = found(re.search(rf"#\s*define {theirs}\s+(\d+)", sources.their(header)), theirs)[1]
        if int(our) != int(their) - less:
            yield f"{file}: {ours} is {our}, but {theirs} is {their}"


def compare_types(sources: Sources) -> Iterator[str]:
    """How each tensor type packs its elements: `Block::of` in `tensors.rs` beside `type_traits` in `ggml.c`."""
    ours: dict[int, tuple[int, int]] = {}
    row = r"^ +([\d |]+) => \((\d+), (\d+), \w+\),"
    for ids, elements, size in re.findall(row, sources.our("tensors.rs"), re.MULTILINE):
        ours |= {int(number): (int(elements), int(size)) for number in ids.split("|")}
    theirs = packings(sources)
    for number in sorted(ours.keys() | theirs.keys()):
        if ours.get(number) != theirs.get(number):
            packing = f"(elements, bytes) are {ours.get(number)}, llama.cpp's {theirs.get(number)}"
            yield f"tensors.rs: tensor type {number}: {packing}"


def packings(sources: Sources) -> dict[int, tuple[int, int]]:
    """Elements and bytes of a block of each tensor type, as llama.cpp computes them."""
    common = sources.their("ggml/src/ggml-common.h")
    numbers = {name: int(value) for name, value in re.findall(r"#define (\w+) (\d+)", common)}
    numbers["IQ3S_N_SCALE"] = numbers["QK_K"] // 64
    sizes = dict(SIZES)
    for block, formula in re.findall(r"static_assert\(sizeof\((block_\w+)\) == (.*), \"wrong", common):
        sizes[block] = evaluated(formula, numbers, sizes)
    pairs = re.findall(r"^ +(GGML_TYPE_\w+) += (\d+),", sources.their("ggml/include/ggml.h"), re.MULTILINE)
    ids = {name: int(number) for name, number in pairs}
    entry = r"\[(GGML_TYPE_\w+)\] = \{[^}\[]*?\.blck_size += (\w+),\s*\.type_size += sizeof\((\w+)\)"
    traits = re.findall(entry, sources.their("ggml/src/ggml.c"))
    return {ids[name]: (evaluated(elements, numbers, sizes), sizes[kind]) for name, elements, kind in traits}


def evaluated(formula: str, numbers: dict[str, int], sizes: dict[str, int]) -> int:
    """The value of a sum of products in C."""
    formula = re.sub(r"sizeof\((\w+)\)", lambda name: str(sizes[name[1]]), formula)
    formula = re.sub(r"\b[A-Z]\w*", lambda name: str(numbers[name[0]]), formula)
    if not re.fullmatch(r"[\d+\-*/() ]+", formula):
        sys.exit(f"{formula} is not a formula that this script can evaluate")
    return int(eval(formula.replace("/", "//"), {"__builtins__": {}}))  # noqa: S307  # nothing but numbers and signs


def compare_tokenizers(sources: Sources) -> Iterator[str]:
    """Default ids of the special tokens of each tokenizer: `Ends::of` in `vocab.rs` beside `llama-vocab.cpp`."""
    ours: dict[str, list[str]] = {}
    special = r"(None|Some\(\d+\))"
    row = rf'^ +((?:"\w+"[ |]*)+) => \({special}, {special}, \w+, \w+\),'
    for names, *tokens in re.findall(row, sources.our("vocab.rs"), re.MULTILINE):
        values = [value.removeprefix("Some(").removesuffix(")") for value in tokens]
        ours |= dict.fromkeys(re.findall(r"\w+", names), values)
    branches = re.split(r"(?=if \(tokenizer_model == )", sources.their("src/llama-vocab.cpp"))[2:]
    theirs: dict[str, list[str]] = {}
    for branch in reversed(branches):  # the first mention of a name is the one that counts
        ids = [re.search(rf"special_{which}_id +?= +?(\w+);", branch) for which in ("bos", "eos")]
        condition = branch.split("{", 1)[0]
        values = ["None" if number is None or not number[1].isdecimal() else number[1] for number in ids]
        theirs |= dict.fromkeys(re.findall(r'tokenizer_model == "(\w+)"', condition), values)
    # The first needs none and the second is checked on its own; a file cannot ask for the third.
    for name in ("rwkv", "test"):
        theirs.pop(name, None)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            yield f"vocab.rs: tokenizer {name}: (BOS, EOS) are {ours.get(name)}, llama.cpp's {theirs.get(name)}"


def digests(sources: Sources) -> dict[str, str]:
    """A digest of each file that was read."""
    files = sorted(file for pattern in READ for file in sources.theirs.glob(pattern))
    names = [file.relative_to(sources.theirs).as_posix() for file in files]
    return {name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for name, file in zip(names, files, strict=True)}


def compare_digests(sources: Sources) -> Iterator[str]:
    """Files that are not those that were read."""
    reviewed = json.loads(sources.reviewed.read_text(encoding="utf-8"))
    now = digests(sources)
    for file in sorted(reviewed.keys() | now.keys()):
        if file not in reviewed:
            yield f"{file} is new: read it, then run this script with --accept"
        elif file not in now:
            yield f"{file} is gone: see whether a rule of ours was made for it, then run this script with --accept"
        elif reviewed[file] != now[file]:
            yield f"{file} has changed: read what is new in it, then run this script with --accept"


def differences(sources: Sources) -> list[str]:
    """Everything in which the two sides differ."""
    checks = (compare_architectures, compare_constants, compare_types, compare_tokenizers, compare_digests)
    return [line for check in checks for line in check(sources)]


def main() -> int:
    """Writes what differs; the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--accept", action="store_true", help="record that the changed files were read")
    parser.add_argument("--llama-cpp", type=Path, help="llama.cpp's sources, instead of the pinned ones")
    arguments = parser.parse_args()
    sources = Sources(theirs=arguments.llama_cpp or pinned())
    if arguments.accept:
        REVIEWED.write_text(json.dumps(digests(sources), indent=1) + "\n", encoding="utf-8")
    found_differences = differences(sources)
    sys.stdout.write("".join(f"{line}\n" for line in found_differences) or "The tables agree with llama.cpp.\n")
    return int(bool(found_differences))


if __name__ == "__main__":
    sys.exit(main())
