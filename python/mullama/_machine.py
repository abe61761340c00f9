"""Properties of this machine, and how much of it this process may use."""

from __future__ import annotations

import os
import platform
from pathlib import Path

CGROUP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")
CPUS = Path("/sys/devices/system/cpu")
MEMINFO = Path("/proc/meminfo")
STATUS = Path("/proc/self/status")
MIB = 1 << 20


def processor_name() -> str:
    """The name of the processor, or its architecture if the system does not report a name."""
    for name, value in _fields(Path("/proc/cpuinfo")):
        if name == "model name":
            return value
    return platform.machine()


def usable_cpus() -> frozenset[int]:
    """The logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def cores(cpus: frozenset[int]) -> int:
    """Number of physical cores of these logical processors; the same number if the system does not report them."""
    return len({_read(CPUS / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in cpus})


def cpu_quota() -> float | None:
    """CPU quota of this process in CPUs, if control groups set one."""
    quotas = []
    for directory in _cgroups():
        allowed, _, period = _read(directory / "cpu.max").partition(" ")
        allowed = allowed or _read(directory / "cpu.cfs_quota_us")  # version 1, in which -1 is no limit
        period = period or _read(directory / "cpu.cfs_period_us")
        if allowed.isdecimal() and period.isdecimal() and int(period):
            quotas.append(int(allowed) / int(period))
    return min(quotas, default=None)


def memory() -> tuple[int, int] | None:
    """Total and available memory in bytes; None if the system does not report them."""
    sizes = {name: int(value.split()[0]) << 10 for name, value in _fields(MEMINFO) if value.endswith(" kB")}
    try:
        return sizes["MemTotal"], sizes["MemAvailable"]
    except KeyError:
        return None


def memory_limit() -> int | None:
    """Memory limit of this process in bytes, if control groups set one."""
    limits = []
    for directory in _cgroups():
        limit = _read(directory / "memory.max") or _read(directory / "memory.limit_in_bytes")
        # Version 1 reports no limit as a number close to the largest one.
        if limit.isdecimal() and int(limit) < 1 << 60:
            limits.append(int(limit))
    return min(limits, default=None)


def resident() -> int | None:
    """Resident memory of this process in bytes; None if the system does not report it."""
    for name, value in _fields(STATUS):
        if name == "VmRSS":
            return int(value.split()[0]) << 10
    return None


def _cgroups() -> list[Path]:
    """The directories of this process's control groups and their parents: each may set a limit."""
    found = []
    for line in _read(CGROUP).splitlines():
        _, controllers, path = line.split(":", 2)
        # Version 2 lists no controllers; version 1 has a tree per controller.
        for root in [CGROUPS / each for each in controllers.split(",")]:
            inner = root / path.lstrip("/")
            found += [inner, *(each for each in inner.parents if each.is_relative_to(root))]
    return found


def _fields(file: Path) -> list[tuple[str, str]]:
    lines = (line.partition(":") for line in _read(file).splitlines())
    return [(name.strip(), value.strip()) for name, _, value in lines]


def _read(file: Path) -> str:
    """The content of a file of the system; empty if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
