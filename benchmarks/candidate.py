"""What a row of the benchmark is, and how far a result is from float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

Outputs = Sequence[torch.Tensor]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to do a row's work: the call to time, and its error against float64 on inputs of its own."""

    name: str
    call: Callable[[], object]
    error: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Row:
    """What one row does at least: bytes read and written, floating-point operations; `make` builds candidates."""

    suite: str
    name: str
    nbytes: int
    flops: int
    make: Callable[[Sequence[str]], list[Candidate]]


def relative_error(results: Outputs, references: Outputs) -> float:
    """The largest difference over the largest magnitude of each reference; infinite for a NaN."""
    worst = 0.0
    for result, reference in zip(results, references, strict=True):
        difference = (result.double() - reference).abs().max().item()
        scale = max(reference.abs().max().item(), 1e-30)
        worst = max(worst, difference / scale if math.isfinite(difference) else math.inf)
    return worst
