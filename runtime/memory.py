"""Host memory for the CPU backend: page-backed blocks, and outputs that the caller owns and gives back by dropping.

A fresh output a call costs a page fault every 4 KiB, more than most fused kernels take. Blocks here are reused once
nobody holds them, lie on 64-byte boundaries and ask for huge pages, so a steady loop faults no page.
"""

from __future__ import annotations

import mmap
import threading
import weakref
from typing import Any

import numpy

ALIGNMENT = 64
_HUGE_PAGE = 2 << 20
_POOL_LIMIT = 1 << 30
"""Bytes of free blocks that the pool keeps for the next call."""

Bytes = numpy.ndarray[Any, numpy.dtype[numpy.uint8]]


def allocate(nbytes: int) -> Bytes:
    """A zeroed block of at least one byte, aligned to 64 bytes; MemoryError states the size."""
    size = max(int(nbytes), 1)
    try:
        if size < _HUGE_PAGE:
            raw = numpy.zeros(size + ALIGNMENT, numpy.uint8)
            start = -raw.ctypes.data % ALIGNMENT
            return raw[start : start + size]
        # From a huge-page boundary on; a mapping only promises small pages.
        mapping = mmap.mmap(-1, size + _HUGE_PAGE, flags=mmap.MAP_PRIVATE)
    except (MemoryError, OSError, ValueError) as error:
        raise MemoryError(f"cannot allocate {size:,} bytes of host memory") from error
    raw = numpy.frombuffer(mapping, numpy.uint8)
    start = -raw.ctypes.data % _HUGE_PAGE
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # The rest in small pages: a huge one that is touched counts whole, and the plan does not have it.
        mapping.madvise(mmap.MADV_HUGEPAGE, start, size // _HUGE_PAGE * _HUGE_PAGE)
    return raw[start : start + size]


class OutputPool:
    """Blocks for outputs: `take` lends one, and it returns by itself when the last array over it is gone."""

    def __init__(self, limit: int = _POOL_LIMIT) -> None:
        self._limit = limit
        self._free: dict[int, list[Bytes]] = {}
        self._kept = 0
        # A finalizer may run at any allocation of this thread, so also while it holds the lock.
        self._lock = threading.RLock()

    def take(self, nbytes: int) -> Bytes:
        """A block of `nbytes` (contents undefined), yours until the array and all views of it are dropped."""
        size = max(nbytes, 1)
        with self._lock:
            blocks = self._free.get(size)
            block = blocks.pop() if blocks else None
            if block is not None:
                self._kept -= size
        if block is None:
            block = allocate(size)
        lent = numpy.frombuffer(block.data, numpy.uint8)
        weakref.finalize(lent, self._give_back, block).atexit = False
        return lent

    def _give_back(self, block: Bytes) -> None:
        with self._lock:
            if self._kept + block.size <= self._limit:
                self._free.setdefault(block.size, []).append(block)
                self._kept += block.size

    def clear(self) -> None:
        """Return all free blocks to the system."""
        with self._lock:
            self._free.clear()
            self._kept = 0
