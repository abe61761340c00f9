"""The processor check: what it names, what it lets pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mullama import _build, _processor

if TYPE_CHECKING:
    from pathlib import Path

HASWELL = "fpu sse sse2 pni ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand abm bmi1 avx2 bmi2"
NEOVERSE = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"


def test_a_processor_that_has_everything_passes() -> None:
    wanted = ["avx2", "bmi2", "cmpxchg16b", "f16c", "fma", "lzcnt", "sse3", "sse4.1", "sse4.2"]
    assert _processor.missing(wanted, HASWELL) == []
    assert _processor.missing(["crc", "dotprod", "fp16", "lse", "neon", "rcpc", "rdm", "sha2"], NEOVERSE) == []


def test_what_a_processor_lacks_is_named_as_rustc_names_it() -> None:
    assert _processor.missing(["avx2", "avx512f", "avx512vnni", "gfni"], HASWELL) == ["avx512f", "avx512vnni", "gfni"]
    assert _processor.missing(["neon", "i8mm", "sve"], NEOVERSE) == ["i8mm", "sve"]


def test_features_that_no_compiler_emits_by_itself_are_not_compared() -> None:
    assert _processor.missing(["fxsr", "rdseed", "xsaves", "a-feature-of-tomorrow"], HASWELL) == []


def test_a_system_that_lists_no_features_is_not_refused() -> None:
    assert _processor.missing(["avx2"], "") == []


def test_the_processor_that_runs_this_passes() -> None:
    assert _build.TARGET_FEATURES
    _processor.check()


def test_an_older_processor_gets_an_import_error_that_says_how_to_rebuild(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: Old\nflags\t\t: {HASWELL}\n\nprocessor\t: 1\nflags\t\t: none\n")
    monkeypatch.setattr(_processor, "CPUINFO", str(cpuinfo))
    monkeypatch.setattr(_processor, "TARGET_FEATURES", ("avx2", "avx512f"))
    with pytest.raises(ImportError, match=r"with avx512f, which this one lacks.*MULLAMA_PORTABLE=1"):
        _processor.check()
