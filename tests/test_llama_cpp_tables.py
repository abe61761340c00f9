"""The check of model files knows the llama.cpp that is built, and a llama.cpp that differs is noticed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import compare_llama_cpp
import pytest
from compare_llama_cpp import Sources, differences, pinned

HPARAMS = "src/llama-hparams.h"


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Copies of both sides, which a test may change."""
    folder, theirs = tmp_path_factory.mktemp("sources"), pinned()
    shutil.copytree(compare_llama_cpp.GGUF, folder / "gguf")
    for part in ("src", "ggml/include"):
        shutil.copytree(theirs / part, folder / "llama.cpp" / part)
    (folder / "llama.cpp/ggml/src").mkdir()
    for file in (theirs / "ggml/src").glob("gg*.*"):
        shutil.copy(file, folder / "llama.cpp/ggml/src")
    shutil.copy(compare_llama_cpp.REVIEWED, folder / "reviewed.json")
    return Sources(ours=folder / "gguf", theirs=folder / "llama.cpp", reviewed=folder / "reviewed.json")


def test_the_tables_agree_with_the_pinned_llama_cpp() -> None:
    script = Path(compare_llama_cpp.__file__)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("The tables agree with llama.cpp.\n", "", 0)


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("arch.rs", '    "jais",\n', "", "arch.rs: WITHOUT_ROTATION lacks jais"),
        ("arch.rs", '"qwen2vl", "paddleocr"', '"paddleocr"', "arch.rs: ROTATING_SECTIONS lacks qwen2vl"),
        ("arch.rs", '"mamba2", "rwkv6"', '"mamba2", "jamba", "rwkv6"', "arch.rs: WITHOUT_ATTENTION has jamba"),
        ("arch.rs", '    "xverse",\n', '    "xversed",\n', "arch.rs: PLAIN_DECODERS names xversed"),
        ("hparams.rs", "BLOCKS_MOST: u32 = 512", "BLOCKS_MOST: u32 = 513", "hparams.rs: BLOCKS_MOST is 513"),
        (
            "tensors.rs",
            "10 => (256, 84,",
            "10 => (256, 85,",
            "tensors.rs: tensor type 10: (elements, bytes) are (256, 85)",
        ),
        ("tensors.rs", "42 => (64, 18,", "44 => (64, 18,", "tensors.rs: tensor type 42: (elements, bytes) are None"),
        ("vocab.rs", '"t5" => (None, Some(1)', '"t5" => (None, Some(2)', "vocab.rs: tokenizer t5: (BOS, EOS)"),
    ],
)
def test_a_table_that_differs_is_told(copies: Sources, file: str, old: str, new: str, told: str) -> None:
    path = copies.ours / file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    try:
        assert [line for line in differences(copies) if line.startswith(told)]
    finally:
        path.write_text(text)
    assert differences(copies) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("src/llama-arch.cpp", "case LLM_ARCH_RWKV7:\n", "", "arch.rs: WITHOUT_ATTENTION has rwkv7"),
        (
            "src/llama-model.cpp",
            "        case LLM_ARCH_GPTJ:\n        case LLM_ARCH_MPT:\n",
            "",
            "arch.rs: WITHOUT_ROTATION has gptj, mpt",
        ),
        (HPARAMS, "LLAMA_MAX_EXPERTS 1024", "LLAMA_MAX_EXPERTS 2048", "hparams.rs: EXPERTS_MOST is 1024"),
        ("ggml/src/ggml-common.h", "#define QK4_0 32", "#define QK4_0 64", "tensors.rs: tensor type 2:"),
        ("ggml/include/ggml.h", "GGML_TYPE_COUNT   = 43", "GGML_TYPE_NEW = 43, // x", None),
        ("src/llama-vocab.cpp", 'tokenizer_model == "t5"', 'tokenizer_model == "t6"', "vocab.rs: tokenizer t6"),
        ("src/models/llama.cpp", "\n", "\n// a new assertion\n", "src/models/llama.cpp has changed"),
    ],
)
def test_a_llama_cpp_that_differs_is_told(copies: Sources, file: str, old: str, new: str, told: str | None) -> None:
    path = copies.theirs / file
    text = path.read_text()
    path.write_text(text.replace(old, new, 1))
    try:
        lines = differences(copies)
    finally:
        path.write_text(text)
    assert text.replace(old, new, 1) != text
    if told is None:
        assert lines == []  # a type without an entry in the table of types packs nothing
    else:
        assert [line for line in lines if line.startswith(told)]


def test_a_new_and_a_lost_file_are_told(copies: Sources) -> None:
    reviewed = json.loads(copies.reviewed.read_text())
    changed = {name: digest for name, digest in reviewed.items() if name != HPARAMS} | {"src/models/old.cpp": "0"}
    copies.reviewed.write_text(json.dumps(changed))
    lines = differences(copies)
    copies.reviewed.write_text(json.dumps(reviewed))
    assert [line.partition(":")[0] for line in lines] == [f"{HPARAMS} is new", "src/models/old.cpp is gone"]
