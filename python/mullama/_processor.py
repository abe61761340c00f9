"""Refuses a processor that lacks a feature that the native module was compiled for.

A source build uses all instructions of its machine. On an older one, the first missing one would kill the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mullama._build import TARGET_FEATURES

if TYPE_CHECKING:
    from collections.abc import Iterable

CPUINFO = "/proc/cpuinfo"

# What Linux lists in /proc/cpuinfo under the same name as rustc. Only what a compiler emits by itself is compared:
# kernels hide some of the rest.
SAME_NAMES = """
    adx aes avx avx2 avx512bw avx512cd avx512dq avx512f avx512ifma avx512vbmi avx512vl bmi1 bmi2 f16c fma gfni movbe
    pclmulqdq popcnt sse sse2 ssse3 vaes vpclmulqdq
    bf16 fcma flagm i8mm sha2 sha3 sve sve2
"""

KERNEL_NAMES = dict(zip(SAME_NAMES.split(), SAME_NAMES.split(), strict=True)) | {
    "avx512bf16": "avx512_bf16",
    "avx512bitalg": "avx512_bitalg",
    "avx512fp16": "avx512_fp16",
    "avx512vbmi2": "avx512_vbmi2",
    "avx512vnni": "avx512_vnni",
    "avx512vp2intersect": "avx512_vp2intersect",
    "avx512vpopcntdq": "avx512_vpopcntdq",
    "avxifma": "avx_ifma",
    "avxneconvert": "avx_ne_convert",
    "avxvnni": "avx_vnni",
    "avxvnniint8": "avx_vnni_int8",
    "cmpxchg16b": "cx16",
    "lzcnt": "abm",
    "sha": "sha_ni",
    "sse3": "pni",
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
    # Arm
    "crc": "crc32",
    "dotprod": "asimddp",
    "fhm": "asimdfhm",
    "fp16": "asimdhp",
    "frintts": "frint",
    "jsconv": "jscvt",
    "lse": "atomics",
    "neon": "asimd",
    "rcpc": "lrcpc",
    "rdm": "asimdrdm",
}


def check() -> None:
    """Raises `ImportError` if this processor lacks a feature that the native module was compiled for.

    Takes well under a millisecond. Nothing is compared if the system does not list the processor's features.
    """
    lacking = missing(TARGET_FEATURES, feature_line())
    if lacking:
        message = (
            f"mullama was compiled for a processor with {', '.join(lacking)}, which this one lacks. Reinstall it "
            "from source on this machine, or build it with MULLAMA_PORTABLE=1 in the environment for any x86-64-v3 "
            "processor (Intel since 2013, AMD since 2015)."
        )
        raise ImportError(message)


def missing(target_features: Iterable[str], feature_line: str) -> list[str]:
    """The features, by rustc's names, that /proc/cpuinfo should list and does not; none if it lists nothing."""
    present = frozenset(feature_line.split())
    if not present:
        return []
    return [feature for feature in target_features if KERNEL_NAMES.get(feature, "") not in present | {""}]


def feature_line() -> str:
    """The names after `flags` (x86) or `Features` (Arm) of the first processor; empty if there is no such line."""
    try:
        # The first processor is enough, and the file grows with their number. Importing pathlib would take longer.
        with open(CPUINFO, encoding="ascii", errors="replace") as lines:  # noqa: PTH123
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() in {"flags", "Features"}:
                    return value
    except OSError:
        pass
    return ""
