"""Builds a program's C++ sources to one shared library and calls its entry point.

    native = load(sources)
    native = find(name, native.key)  # the same library again, in a later process
    native.run(pointers, sizes)      # char* buffers[], int64_t sizes[]; the GIL is released while it runs
    native.profile(pointers, sizes, steps)      # the same, and the seconds of each step

The library keeps nothing between calls: scratch lies in the frame of each, so several threads may run one program.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from graphc.cpu_target import core_quota
from graphc.diagnostics import Diagnostic, GraphcError
from graphc.runtime.cache import content_key, get_or_build
from graphc.runtime.cache import find as find_entry
from graphc.runtime.compilers import Compilers
from graphc.runtime.toolchain import build_library, find_toolchain

LIBRARY = "program.so"
ENTRY_POINT = "graphc_run"
PROFILE_POINT = "graphc_profile"
_KIND = "cpp"
_PAUSE_HARD = 2  # omp_pause_hard: threads and all


class Sources(Protocol):
    """What is to be built: named files (every .cpp is a unit), compiler flags, and what each unit holds."""

    @property
    def name(self) -> str: ...
    @property
    def files(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def flags(self) -> tuple[str, ...]: ...
    @property
    def labels(self) -> tuple[tuple[str, str], ...]: ...


class NativeProgram:
    """A loaded library: `path`, its `key` in the cache, seconds that getting it took, and whether it was there."""

    def __init__(self, name: str, key: str, path: Path, build_seconds: float, cached: bool) -> None:
        self.name, self.key, self.path = name, key, path
        self.build_seconds, self.cached = build_seconds, cached
        self._library = ctypes.CDLL(str(path))
        self._entry = self._library[ENTRY_POINT]
        self._entry.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        self._entry.restype = ctypes.c_int32
        self._limit_threads = _thread_limit(self._library)
        with suppress(AttributeError):  # before OpenMP 5.0
            _end_threads_before_forks(
                ctypes.cast(self._library.omp_pause_resource_all, ctypes.c_void_p).value
            )

    def run(self, pointers: Any, sizes: Any) -> None:
        """Run the whole program on the addresses of its buffers and the sizes of its symbolic dimensions.

        Takes ctypes arrays (nothing is copied) or sequences of integers. Error G601 when the program reports one.
        """
        table, dims = _array(ctypes.c_void_p, pointers), _array(ctypes.c_int64, sizes)
        if self._limit_threads is not None:
            self._limit_threads()
        status = self._entry(ctypes.addressof(table), ctypes.addressof(dims))
        if status != 0:
            raise self._failed(status)

    def prepared(
        self, table: ctypes.Array[ctypes.c_void_p], sizes: ctypes.Array[ctypes.c_int64]
    ) -> Callable[[], None]:
        """`run` on these two arrays, again and again; the caller keeps them alive and may write into them."""
        entry, failed = self._entry, self._failed
        addresses = ctypes.addressof(table), ctypes.addressof(sizes)

        def run() -> None:
            status = entry(*addresses)
            if status != 0:
                raise failed(status)

        return run if self._limit_threads is None else _after(self._limit_threads, run)

    def _failed(self, status: int) -> GraphcError:
        return GraphcError(Diagnostic("G601", f"program {self.name} stopped with status {status}"))

    def profile(self, pointers: Any, sizes: Any, steps: int) -> list[float]:
        """Run the whole program of so many steps; the seconds that each took."""
        table, dims, seconds = (
            _array(ctypes.c_void_p, pointers),
            _array(ctypes.c_int64, sizes),
            _array(ctypes.c_double, [0.0] * steps),
        )
        entry = self._library[PROFILE_POINT]
        entry.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
        entry.restype = ctypes.c_int32
        entry(ctypes.addressof(table), ctypes.addressof(dims), ctypes.addressof(seconds))
        return list(seconds)[:steps]


@cache
def _end_threads_before_forks(pause: int | None) -> None:
    """Let OpenMP's threads end before each fork, once for each OpenMP library, told by its function's address.

    A forked child has none of them, and would wait for them for ever. Both processes start new ones when needed.
    """
    if pause is not None and hasattr(os, "register_at_fork"):
        call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(pause)
        os.register_at_fork(before=lambda: call(_PAUSE_HARD))


def _thread_limit(library: ctypes.CDLL) -> Callable[[], None] | None:
    """What keeps OpenMP within a container's quota of cores, for each thread that calls; None where there is none.

    OpenMP heeds the affinity mask, which a quota leaves alone: more threads than it grants would be halted for most of
    the time, while those that run wait for them.
    """
    quota = core_quota()
    if quota is None or "OMP_NUM_THREADS" in os.environ:
        return None
    done = threading.local()

    def limit() -> None:
        # Once, so that a later choice of the user's holds.
        if not hasattr(done, "limited"):
            done.limited = True
            if library.omp_get_max_threads() > quota:
                library.omp_set_num_threads(quota)

    return limit


def _after(first: Callable[[], None], then: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        first()
        then()

    return both


def _array(kind: Any, values: Sequence[Any]) -> Any:
    return values if isinstance(values, ctypes.Array) else (kind * max(len(values), 1))(*values)


def load(sources: Sources, compilers: Compilers | None = None) -> NativeProgram:
    """Build the sources, or find them in the cache, and load the library; `compilers` as in `build_library`.

    Raises ToolchainError: G501 no compiler, G502 it failed, G503 no space.
    """
    start = time.perf_counter()
    toolchain = find_toolchain()
    parts = [part for name, text in sources.files for part in (name, text)]
    key = content_key([*parts, *sources.flags, toolchain.key])

    def build(folder: Path) -> None:
        for name, text in sources.files:
            (folder / name).write_text(text, encoding="utf-8")
        build_library(toolchain, folder, sources.flags, dict(sources.labels), LIBRARY, compilers)

    entry = get_or_build(_KIND, key, build)
    return NativeProgram(sources.name, key, entry.folder / LIBRARY, time.perf_counter() - start, entry.cached)


def find(name: str, key: str) -> NativeProgram | None:
    """The library that `load` built under this key, loaded; None when it is not in the cache."""
    start = time.perf_counter()
    folder = find_entry(_KIND, key)
    if folder is None:
        return None
    return NativeProgram(name, key, folder / LIBRARY, time.perf_counter() - start, cached=True)
