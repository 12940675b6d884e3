"""Frames that wait for the next call, by the sizes of the named dimensions: a steady call allocates nothing."""

from __future__ import annotations

import threading

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

    def take(self, sizes: Sizes) -> Frame | None:
        """A frame for these sizes that waits, if any."""
        frames = self._free.get(sizes)
        try:
            return frames.pop() if frames else None
        except IndexError:  # another thread was first
            return None

    def give(self, sizes: Sizes, frame: Frame) -> None:
        """Keep a frame for the next call with these sizes."""
        frames = self._free.get(sizes)
        if frames is None:
            with self._lock:
                if sizes not in self._free and len(self._free) >= FRAMES_KEPT:
                    # The oldest sizes go first: a changing batch size must not collect arenas.
                    del self._free[next(iter(self._free))]
                frames = self._free.setdefault(sizes, [])
        if len(frames) < FRAMES_KEPT:
            frames.append(frame)
