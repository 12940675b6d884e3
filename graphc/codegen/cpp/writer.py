"""Lines of C++ with blocks, and the loop over a vector axis as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from graphc.types import Dim


class Writer:
    """Lines of text at an indentation."""

    def __init__(self, depth: int = 0) -> None:
        self.lines: list[str] = []
        self.scratch: list[Dim] = []
        """Bytes of a thread's scratch that the lines use, one after the other."""
        self._depth = depth

    def line(self, text: str) -> None:
        self.lines.append("  " * self._depth + text)

    @contextmanager
    def block(self, header: str, end: str = "}") -> Iterator[None]:
        self.line(f"{header} {{".lstrip())
        self._depth += 1
        yield
        self._depth -= 1
        self.line(end)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True, slots=True)
class Lanes:
    """A loop over the vector axis: its variable, trip count, and the axis' value as text."""

    variable: str
    count: str
    value: str
    start: str
