"""The machine's own limits, measured: the most bytes and the most floating-point operations a second.

Figures of other days or machines say nothing about a run; `Limits.probe` is called in every round of a benchmark and
the upper quartile of the rounds counts. A busy moment lowers a reading, and must not flatter a fraction of the limit; a
virtual machine whose cores move to other sockets may double one, and that is not the limit of the other rounds.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from graphc.runtime.cache import content_key, get_or_build
from graphc.runtime.memory import allocate
from graphc.runtime.toolchain import build_library, find_toolchain

SOURCE = Path(__file__).with_name("limits.cpp")
FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512", "-ffp-contract=fast", "-fopenmp",
    "-shared", "-fPIC",
)  # fmt: skip
# Three arrays of 128 MiB: well over any last-level cache.
COUNT = 32 << 20
FMA_STEPS = 2_000_000


def typical_limit(readings: Sequence[float]) -> float:
    """The upper quartile of the readings of all rounds."""
    if len(readings) == 1:
        return readings[0]
    return statistics.quantiles(readings, n=4, method="inclusive")[2]


class Limits:
    """The probes, and the figures so far: `bandwidth` in bytes a second, `flops` a second (f32, all threads).

    Bandwidth is the best of a copy and a triad (each with ordinary stores and with stores that bypass the cache) and a
    plain read, bytes read plus bytes written. What updates in place may exceed it by a tenth: its stores find their
    lines in the cache.
    """

    def __init__(self, count: int = COUNT) -> None:
        self._library = _load()
        self._count = count
        self._arrays = [allocate(4 * count) for _ in range(3)]
        self._sink = ctypes.c_float(0)
        for array in self._arrays:
            self._library.graphc_limit_fill(_pointer(array), ctypes.c_int64(count), ctypes.c_float(1))
        self.lanes = int(self._library.graphc_limit_lanes())
        self.threads = 0
        self._bandwidths: list[float] = []
        self._flops: list[float] = []
        self.probe()

    @property
    def bandwidth(self) -> float:
        return typical_limit(self._bandwidths)

    @property
    def flops(self) -> float:
        return typical_limit(self._flops)

    def begin(self) -> None:
        """Forget the readings of earlier rounds, when another measurement starts."""
        self._bandwidths.clear()
        self._flops.clear()
        self.probe()

    def probe(self) -> tuple[float, float]:
        """Measure once more (about 50 ms): bytes and operations a second, now."""
        a, b, c = (_pointer(array) for array in self._arrays)
        count = ctypes.c_int64(self._count)
        library, bytes_an_array = self._library, 4 * self._count
        passes: tuple[tuple[int, Callable[[], object]], ...] = (
            (2, lambda: library.graphc_limit_copy(a, b, count)),
            (3, lambda: library.graphc_limit_triad(a, b, c, count)),
            (2, lambda: library.graphc_limit_stream_copy(a, b, count)),
            (3, lambda: library.graphc_limit_stream_triad(a, b, c, count)),
            (1, lambda: library.graphc_limit_read(a, count)),
        )
        self._bandwidths.append(max(arrays * bytes_an_array / _seconds(run) for arrays, run in passes))
        start = time.perf_counter()
        self.threads = library.graphc_limit_fma(
            ctypes.c_int64(FMA_STEPS), ctypes.c_float(0.5), ctypes.byref(self._sink)
        )
        operations = FMA_STEPS * 16 * self.lanes * 2 * self.threads
        self._flops.append(operations / (time.perf_counter() - start))
        return self._bandwidths[-1], self._flops[-1]


class TorchLimits:
    """The same figures for any device of torch: its copy and its f32 product, the most that a library reaches there."""

    lanes = 0
    threads = 0

    def __init__(self, device: Any, nbytes: int = 1 << 30, order: int = 4096) -> None:
        import torch

        self._device = torch.device(device)
        self._arrays = [torch.zeros(nbytes // 4, device=self._device) for _ in range(2)]
        self._matrix = torch.ones(order, order, device=self._device)
        self._bandwidths: list[float] = []
        self._flops: list[float] = []
        # The first calls pay for libraries that are loaded on demand.
        self._copy()
        self._product()
        self.probe()

    def probe(self) -> None:
        """Measure once more."""
        source = self._arrays[0]
        moved = 2 * source.numel() * source.element_size()
        self._bandwidths.append(moved / _seconds(self._copy))
        self._flops.append(2 * self._matrix.shape[0] ** 3 / _seconds(self._product))

    @property
    def bandwidth(self) -> float:
        return typical_limit(self._bandwidths)

    @property
    def flops(self) -> float:
        return typical_limit(self._flops)

    def _copy(self) -> None:
        self._arrays[1].copy_(self._arrays[0])
        synchronize(self._device)

    def _product(self) -> None:
        self._matrix @ self._matrix
        synchronize(self._device)


def synchronize(device: Any) -> None:
    """Wait until a GPU has done what was launched; nothing to wait for on a CPU."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _pointer(array: object) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)  # type: ignore[attr-defined]


def _load() -> ctypes.CDLL:
    """Build the probes, or take them from the cache; ToolchainError G501 without a compiler, G502 when it fails."""
    toolchain = find_toolchain()
    text = SOURCE.read_text(encoding="utf-8")

    def build(folder: Path) -> None:
        (folder / SOURCE.name).write_text(text, encoding="utf-8")
        build_library(
            toolchain, folder, FLAGS, {SOURCE.name: "the probes of the machine's limits"}, "limits.so"
        )

    entry = get_or_build("limits", content_key([text, *FLAGS, toolchain.key]), build)
    library = ctypes.CDLL(str(entry.folder / "limits.so"))
    library.graphc_limit_read.restype = ctypes.c_float
    return library
