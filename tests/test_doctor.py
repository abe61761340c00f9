"""The command `mullama doctor`: what it finds out, and what it says of a model."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mullama import Model, __version__, _doctor, _introduction, _machine, _model, _mullama, _versions
from mullama._build import TARGET_FEATURES
from mullama._doctor import Device

pytestmark = pytest.mark.slow

GIB = 1 << 30


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command."""
    command = [sys.executable, "-m", "mullama", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_it_tells_versions_processor_threads_and_memory() -> None:
    done = doctor()
    assert (done.returncode, done.stderr) == (0, "")
    assert __version__ in done.stdout
    assert "llama-cpp-sys-2" in done.stdout
    for name in (
        "llama.cpp",
        "Python",
        "platform",
        "built with",
        "processor",
        "usable",
        "threads",
        "compiled for",
        "verdict",
        "memory",
        "GPU",
    ):
        assert f"\n{name} " in done.stdout
    assert "has all features that mullama was compiled for" in done.stdout


def test_it_tells_what_a_model_is() -> None:
    done = doctor("demo")
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        "mullama demo",
        "llama",
        "2.16M parameters (2,164,800) in Q8_0, 2.2 MiB",
        "1,024 tokens",
        "trained for 1024 tokens",
        "yes",
        "are valid",
    ):
        assert words in done.stdout


def test_in_json_it_tells_the_same_as_values() -> None:
    facts = json.loads(doctor("demo", "--json").stdout)
    assert facts["mullama"] == __version__
    assert facts["threads"] == _mullama.usable_cores()
    assert facts["memory"] >= facts["memory_available"] > 0
    assert [device["kind"] for device in facts["devices"]][-1] == "cpu"
    model = facts["model"]
    assert (model["name"], model["architecture"], model["quantization"]) == ("mullama demo", "llama", "Q8_0")
    assert (model["parameters"], model["layers"], model["context_length"]) == (2_164_800, 5, 1024)
    assert model["size"] == Model.load("demo").size
    assert model["has_chat_template"] is True
    assert "model" not in json.loads(doctor("--json").stdout)


def test_in_json_a_file_that_is_no_model_is_an_event() -> None:
    done = doctor("/nowhere/model.gguf", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["code"] == "MODEL_NOT_FOUND"


def test_the_version_of_llama_cpp_is_the_pinned_one() -> None:
    manifest = (Path(__file__).parents[1] / "Cargo.toml").read_text(encoding="utf-8")
    assert f'llama-cpp-sys-2 = {{ version = "={_versions.LLAMA_CPP_CRATE}"' in manifest
    for source in Path.home().glob(f".cargo/registry/src/*/llama-cpp-sys-2-{_versions.LLAMA_CPP_CRATE}/llama.cpp"):
        cmake = (source / "CMakeLists.txt").read_text(encoding="utf-8")
        parts = re.findall(r"^set\(LLAMA_VERSION_(?:MAJOR|MINOR|PATCH) +(\d+)\)", cmake, re.MULTILINE)
        assert ".".join(parts) == _versions.LLAMA_CPP


def test_a_quantization_that_the_file_does_not_name_is_unknown(model: Model) -> None:
    assert _introduction.quantization(replace(model, metadata={"general.file_type": "15"})) == "Q4_K_M"
    assert _introduction.quantization(replace(model, metadata={})) == "unknown"


@pytest.mark.parametrize(
    ("beginning", "words"), [(b"no model", "cannot load"), (b"", "cannot load"), (None, "no model at")]
)
def test_a_file_that_is_no_model_is_told_in_one_line(tmp_path: Path, beginning: bytes | None, words: str) -> None:
    file = tmp_path / "model.gguf"
    if beginning is not None:
        file.write_bytes(beginning)
    done = doctor(str(file))
    assert done.returncode == 3
    assert done.stderr.startswith("mullama: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_model_that_was_cut_off_in_its_header_is_told(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(Path(_model.DEMO).read_bytes()[:4096])
    done = doctor(str(file))
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


def test_a_model_without_a_template_is_told_that_it_cannot_chat(tmp_path: Path) -> None:
    file = tmp_path / "plain.gguf"
    file.write_bytes(Path(_model.DEMO).read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.chat_somethin", 1))
    model = Model.load(file, vocab_only=True)
    assert dict(_doctor.described(model))["chat template"].startswith("none")


def test_what_the_processor_lacks_is_named() -> None:
    assert TARGET_FEATURES
    assert _doctor.verdict("fpu").startswith("features missing: ")
    assert _doctor.verdict("").startswith("unknown")


@pytest.mark.parametrize(
    ("available", "words"), [(None, "are valid"), (GIB, "need 4.0 GiB and only 1.0 GiB is"), (8 * GIB, "fit into")]
)
def test_whether_the_weights_fit_is_told(available: int | None, words: str) -> None:
    assert words in _doctor.fit(4 * GIB, available)


CPU = Device("CPU", "Some processor", "cpu", GIB, 2 * GIB)
GPU = Device("CUDA0", "Some GPU", "gpu", 6 * GIB, 8 * GIB)


def test_devices_are_listed_with_their_memory() -> None:
    assert [device.name for device in _doctor.devices()][-1] == "CPU"
    told = dict(_doctor.gpus([GPU, CPU]))
    assert told == {"device CUDA0": "Some GPU (gpu), 8.0 GiB, of which 6.0 GiB are free"}
    assert dict(_doctor.gpus([CPU]))["GPU"].startswith("none that this build")


@pytest.mark.parametrize(
    ("size", "layers", "devices", "words"),
    [
        (4 * GIB, 32, [CPU], "none: there is no GPU"),
        (4 * GIB, 32, [GPU, CPU], "all 33 layers fit into the 6.0 GiB"),
        (12 * GIB, 31, [GPU, CPU], "about 16 of 32 layers"),
        (12 * GIB, 31, [GPU, GPU, CPU], "all 32 layers fit into the 12.0 GiB"),
        (4 * GIB, None, [GPU, CPU], "unknown"),
    ],
)
def test_how_many_layers_fit_on_the_gpus_is_told(
    model: Model, size: int, layers: int | None, devices: list[Device], words: str
) -> None:
    assert words in _doctor.offload(replace(model, size=size), layers, devices)


def test_the_system_information_names_the_devices() -> None:
    assert " | devices: " in _mullama.system_info()
    assert "CPU (" in _mullama.system_info()


@pytest.mark.parametrize(
    ("line", "files", "quota", "limit"),
    [
        ("0::/pod/job", {"pod/cpu.max": "150000 100000", "pod/job/memory.max": "1073741824"}, 1.5, GIB),
        ("0::/", {"cpu.max": "max 100000", "memory.max": "max"}, None, None),
        ("1:cpu,cpuacct:/a", {"cpu/a/cpu.cfs_quota_us": "50000", "cpu/a/cpu.cfs_period_us": "100000"}, 0.5, None),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None, None),
        ("4:memory:/gone", {"memory/memory.limit_in_bytes": "1073741824"}, None, GIB),
        ("4:memory:/", {"memory/memory.limit_in_bytes": "9223372036854771712"}, None, None),
    ],
)
def test_the_limits_of_control_groups_count(  # noqa: PLR0913, PLR0917  # a table
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    line: str,
    files: dict[str, str],
    quota: float | None,
    limit: int | None,
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    group = tmp_path / "cgroup"
    group.write_text(line + "\n")
    monkeypatch.setattr(_machine, "CGROUP", group)
    monkeypatch.setattr(_machine, "CGROUPS", tmp_path)
    assert (_machine.cpu_quota(), _machine.memory_limit()) == (quota, limit)


def test_a_system_that_tells_nothing_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CGROUP", "CGROUPS", "CPUS", "MEMINFO", "STATUS"):
        monkeypatch.setattr(_machine, name, tmp_path / "nothing")
    assert (_machine.memory(), _machine.memory_limit(), _machine.cpu_quota(), _machine.resident()) == (None,) * 4
    assert _machine.cores(frozenset({0, 1})) == 2
    assert dict(_doctor.memories()) == {"memory": "unknown"}
