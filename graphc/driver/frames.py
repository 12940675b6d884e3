"""Frames that wait for the next call, by the sizes of the named dimensions: a steady call allocates nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable

from graphc.driver.backend import Frame

FRAMES_KEPT = 8  # sizes, and frames of each

Sizes = tuple[int, ...]


class FramePool:
    """Frames by sizes; several threads may take and give at once, and each has a frame of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: dict[Sizes, list[Frame]] = {}

    def __len__(self) -> int:
        return len(self._free)

    def take(self, sizes: Sizes, make: Callable[[], Frame]) -> Frame:
        """A frame for these sizes: one that waits, else what `make` gives."""
        with self._lock:
            frames = self._free.get(sizes)
            if frames:
                return frames.pop()
        return make()

    def give(self, sizes: Sizes, frame: Frame) -> None:
        """Keep a frame for the next call with these sizes."""
        with self._lock:
            if sizes not in self._free and len(self._free) >= FRAMES_KEPT:
                # The oldest sizes go first: a changing batch size must not collect arenas.
                del self._free[next(iter(self._free))]
            frames = self._free.setdefault(sizes, [])
            if len(frames) < FRAMES_KEPT:
                frames.append(frame)
