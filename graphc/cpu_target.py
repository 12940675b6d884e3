"""The CPU that code is generated for: vector width, cores, cache sizes. Part of the cache key."""

from __future__ import annotations

import functools
import glob
import os
import platform
from dataclasses import dataclass
from pathlib import Path

# Widest first: (flag of /proc/cpuinfo, name, bytes of a vector register).
_X86 = (("avx512f", "avx512", 64), ("avx2", "avx2", 32), ("sse2", "sse2", 16))


@dataclass(frozen=True, slots=True)
class CpuTarget:
    """What schedules depend on; sizes in bytes, l1 and l2 of one core, llc shared.

    `cores` is for information and for splitting sources into units; no generated order of arithmetic depends on it.
    """

    isa: str = "generic"
    vector_bytes: int = 16
    cores: int = 1
    l1: int = 32 << 10
    l2: int = 512 << 10
    llc: int = 8 << 20
    model: str = ""
    packets: bool = False
    """Instructions that multiply packets of two bf16 or four bytes: AVX512_BF16 and AVX512_VNNI."""

    def lanes(self, itemsize: int) -> int:
        """Elements of that size in one vector register."""
        return max(1, self.vector_bytes // itemsize)


def available_cores() -> int:
    """Cores that this process may use: the affinity mask, or fewer by OMP_NUM_THREADS or a container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if limit.isdigit() and int(limit) > 0:
        return min(cores, int(limit))
    return min(cores, core_quota() or cores)


def core_quota(proc: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> int | None:
    """Cores whose time a control group grants this process, rounded up; None without a limit.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst (version 1).
    """
    try:
        lines = Path(proc).read_text().splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = Path(root, "cpu") if controllers else Path(root)
        # A group is bound by those around it; inside a container the path may be one that only the host sees.
        own = base / path.lstrip("/")
        around = [folder for folder in (own, *own.parents) if folder.is_relative_to(base)]
        found += [quota for folder in around if (quota := _quota_of(folder))]
    return min(found, default=None)


def _quota_of(folder: Path) -> int | None:
    """The cores of one control group, of version 2 or 1."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )
        return -(-int(quota) // int(period)) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


@functools.cache
def detect() -> CpuTarget:
    """The machine that runs; what cannot be read has the defaults of CpuTarget."""
    flags, model = _cpu_information()
    isa, width = "generic", 16
    if platform.machine() in ("aarch64", "arm64"):
        isa = "neon"
    for flag, name, size in _X86:
        if flag in flags:
            isa, width = name, size
            break
    caches = _caches()
    default = CpuTarget()
    return CpuTarget(
        isa,
        width,
        available_cores(),
        caches.get(1, default.l1),
        caches.get(2, default.l2),
        max(caches.values(), default=default.llc) if max(caches, default=0) > 2 else default.llc,
        model,
        isa == "avx512" and {"avx512_bf16", "avx512_vnni"} <= flags,
    )


def _cpu_information() -> tuple[frozenset[str], str]:
    """(flags, model name) of the first core in /proc/cpuinfo."""
    flags: frozenset[str] = frozenset()
    model = platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return flags, model
    for line in text.split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            flags = frozenset(value.split())
        elif key.strip() == "model name":
            model = value.strip()
    return flags, model


def _caches() -> dict[int, int]:
    """Bytes of the data or unified cache at each level of core 0."""
    sizes: dict[int, int] = {}
    for folder in glob.glob("/sys/devices/system/cpu/cpu0/cache/index*"):
        try:
            level = int(Path(folder, "level").read_text())
            kind = Path(folder, "type").read_text().strip()
            text = Path(folder, "size").read_text().strip()
        except (OSError, ValueError):
            continue
        if kind != "Instruction" and text[:-1].isdigit():
            sizes[level] = int(text[:-1]) * {"K": 1 << 10, "M": 1 << 20}.get(text[-1], 1)
    return sizes
