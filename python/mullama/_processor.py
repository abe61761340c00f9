"""Refuses a processor that lacks what the native module was compiled for, before such an instruction ends the process.

A source build uses the whole instruction set of its machine, so a package carried to an older one has to say no.
"""

from __future__ import annotations

from mullama._build import TARGET_FEATURES

TYPE_CHECKING = False
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
    """Raises `ImportError` where this processor lacks a feature that the native module was compiled for.

    Takes well under a millisecond. Where the system does not list its processor's features, nothing is compared.
    """
    lacking = missing(TARGET_FEATURES, feature_line())
    if lacking:
        message = (
            f"mullama was compiled for a processor with {', '.join(lacking)}, which this one lacks. Install it again "
            "from source on this machine, or build it with MULLAMA_PORTABLE=1 in the environment: then any x86-64-v3 "
            "processor will do (Intel's from 2013 on, AMD's from 2015 on)."
        )
        raise ImportError(message)


def missing(target_features: Iterable[str], feature_line: str) -> list[str]:
    """The features, by rustc's names, that /proc/cpuinfo ought to list and does not; none where it lists nothing."""
    present = frozenset(feature_line.split())
    if not present:
        return []
    return [feature for feature in target_features if KERNEL_NAMES.get(feature, "") not in present | {""}]


def feature_line() -> str:
    """The names after `flags` (x86) or `Features` (Arm) of the first processor; empty where there is no such line."""
    try:
        # The file grows with the number of processors and the first one is enough. Importing pathlib takes longer.
        with open(CPUINFO, encoding="ascii", errors="replace") as lines:  # noqa: PTH123
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() in {"flags", "Features"}:
                    return value
    except OSError:
        pass
    return ""
