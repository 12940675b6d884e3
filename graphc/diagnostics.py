"""One diagnostic for every error a user can cause: a code, the operator, shapes, the rule, the user's line, help.

    error[G203] FullyConnected 'fc2': inner dimensions differ
      mlp.py:14   fc2 = sym.FullyConnected(relu1, weight=w, num_hidden=10)
      data    f32[64,128]   from relu1, mlp.py:13
      weight  f32[10,100]   from w, mlp.py:9        expected f32[10,128]
    help: drop weight= to let it be inferred, or give it 128 columns     (graphc explain G203)

Codes: G1xx composition (names, arguments, parameters), G2xx shapes and types, G3xx graphs, text and files,
G4xx gradients and passes, G5xx toolchain and devices, G6xx execution (bad arguments to a compiled program).
"""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType

_PACKAGE_ROOTS = tuple(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep + room + os.sep
    for room in ("graphc", "passes", "runtime", "templates")
)

EXIT_MODEL, EXIT_USAGE, EXIT_NUMBERS, EXIT_TOOLCHAIN, EXIT_BUG = 1, 2, 3, 4, 70


@dataclass(frozen=True, slots=True)
class Location:
    """A line of the user's program."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}" if self.file else "?"

    @property
    def text(self) -> str:
        """The source line, empty when the file cannot be read."""
        return linecache.getline(self.file, self.line).strip() if self.file else ""


def user_location() -> Location | None:
    """The innermost frame of the caller's stack that lies outside graphc."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_PACKAGE_ROOTS) and not file.startswith("<"):
            return Location(file, frame.f_lineno)
        frame = frame.f_back
    return None


@dataclass(frozen=True, slots=True)
class Operand:
    """One row of a diagnostic: an argument's name, its type or shape as text, and where it came from."""

    name: str
    type: str
    origin: str = ""
    expected: str = ""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """What went wrong, in the words of the user's program."""

    code: str
    message: str
    operator: str = ""
    name: str = ""
    location: Location | None = None
    operands: tuple[Operand, ...] = ()
    help: str = ""

    def __str__(self) -> str:
        subject = f"{self.operator} '{self.name}'" if self.name else self.operator
        subject = f"{subject.lstrip()}: " if subject else ""
        lines = [f"error[{self.code}] {subject}{self.message}"]
        if self.location is not None:
            lines.append(f"  {self.location}   {self.location.text}".rstrip())
        width = max((len(o.name) for o in self.operands), default=0)
        type_width = max((len(o.type) for o in self.operands), default=0)
        for operand in self.operands:
            row = f"  {operand.name:<{width}}  {operand.type:<{type_width}}"
            row += f"   from {operand.origin}" if operand.origin else ""
            row += f"   expected {operand.expected}" if operand.expected else ""
            lines.append(row.rstrip())
        if self.help:
            lines.append(f"help: {self.help}     (graphc explain {self.code})")
        return "\n".join(lines)


class GraphcError(Exception):
    """An error that the user's model, data or machine caused; `diagnostic` holds its parts."""

    exit_code: int = EXIT_MODEL

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(str(diagnostic))
        self.diagnostic = diagnostic

    def __reduce__(self) -> tuple[type[GraphcError], tuple[Diagnostic]]:
        return type(self), (self.diagnostic,)


class ToolchainError(GraphcError):
    """A compiler, a driver or a device is missing or failed."""

    exit_code = EXIT_TOOLCHAIN


def fail(
    code: str,
    message: str,
    *,
    operator: str = "",
    name: str = "",
    location: Location | None = None,
    operands: Sequence[Operand] = (),
    help: str = "",
) -> GraphcError:
    """The error to raise for a diagnostic of these parts; see `Diagnostic`."""
    return GraphcError(Diagnostic(code, message, operator, name, location, tuple(operands), help))


def closest(name: str, candidates: Sequence[str]) -> str:
    """A help phrase that names close matches, empty when there is none."""
    import difflib

    matches = difflib.get_close_matches(name, candidates, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(repr(m) for m in matches)}?" if matches else ""
