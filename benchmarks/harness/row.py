"""What a row of the tables is, what a peer makes of it, and how far an answer is from float64.

Suites are packages beside this one. `<suite>/rows.py` holds ROWS; `<suite>/<forms>.py` holds one function for each peer
that it serves, `peer(row, inputs) -> {form: Job}` (harness/peers.py names module and function of each peer). This file
is imported in every peer's process and needs numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]


class CannotRun(Exception):  # noqa: N818 - what a form says, not what went wrong
    """Raised by a form: this peer has no way to do the row; the text says why and stands in the report."""


@dataclass(frozen=True, slots=True)
class Job:
    """One way to do a row's work.

    call: what is timed, again and again; it returns when the work is done. results: makes the calls that a check
    needs and gives the answers, arrays in the order of the reference's; it runs once, before any timing.
    """

    call: Callable[[], object]
    results: Callable[[], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    key: what the forms know the row by; name: what the tables print. inputs: fresh arrays from a generator, the same
    ones in every process. nbytes: least bytes that must be read and written; flops: floating-point operations that
    must be done; 0 where it does not bound. tolerance: the largest error that is right; `norm` says of which kind:
    "largest" (difference over the largest magnitude of the reference, array by array) or "whole" (root mean square of
    all differences over that of all references). options: whatever the forms need, a model's name or its batch.
    """

    suite: str
    key: str
    name: str
    inputs: Callable[[np.random.Generator], Arrays]
    nbytes: int = 0
    flops: int = 0
    tolerance: float = 1e-4
    norm: str = "largest"
    options: Mapping[str, Any] = field(default_factory=dict)

    def floor(self, bandwidth: float, peak: float) -> float:
        """The least seconds on a machine of so many bytes and operations a second."""
        return max(self.nbytes / bandwidth, self.flops / peak)

    def bound(self, bandwidth: float, peak: float) -> str:
        """Which of the two the floor is."""
        return "memory" if self.nbytes / bandwidth >= self.flops / peak else "arithmetic"


def relative_error(results: Sequence[Any], references: Sequence[Array], norm: str = "largest") -> float:
    """How far results are from float64 references; infinite for a NaN or another shape. `norm` as in Row."""
    arrays = [np.asarray(result) for result in results]
    if [array.shape for array in arrays] != [reference.shape for reference in references]:
        return math.inf
    if norm == "largest":
        return max((_largest(*pair) for pair in zip(arrays, references, strict=True)), default=math.inf)
    return _whole(arrays, references)


# Elements compared at once: a reference may be larger than what a process should hold twice.
CHUNK = 1 << 20


def _largest(result: Array, reference: Array) -> float:
    difference = scale = 0.0
    for given, exact in _chunks(result, reference):
        gap = float(np.abs(given - exact).max(initial=0.0))
        if not math.isfinite(gap):
            return math.inf
        difference, scale = max(difference, gap), max(scale, float(np.abs(exact).max(initial=0.0)))
    return difference / max(scale, 1e-30)


def _whole(results: Sequence[Array], references: Sequence[Array]) -> float:
    difference = scale = 0.0
    for result, reference in zip(results, references, strict=True):
        for given, exact in _chunks(result, reference):
            difference += float(np.square(given - exact).sum())
            scale += float(np.square(exact).sum())
    return math.sqrt(difference / max(scale, 1e-60)) if math.isfinite(difference) else math.inf


def _chunks(result: Array, reference: Array) -> Any:
    flat, exact = result.reshape(-1), reference.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        part = slice(start, start + CHUNK)
        yield flat[part].astype(np.float64), exact[part].astype(np.float64)
