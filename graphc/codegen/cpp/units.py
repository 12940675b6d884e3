"""Cut a program's functions into units that compile side by side.

A unit compiles the templates that its functions use anew, so functions of the same templates stand together: the fewer
units share a template, the less is compiled twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from graphc.codegen.cpp.kernels import Function
from graphc.codegen.cpp.target import CpuTarget


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of g++ 12 on a Zen 5 core: for a template's first use in a unit, and for each use."""

    once: int
    each: int


TEMPLATES: Mapping[str, Cost] = {
    "winograd_gradient.h": Cost(560, 5),
    "winograd_last.h": Cost(450, 25),
    "winograd.h": Cost(560, 25),
    "winograd_weight.h": Cost(100, 10),
    "depthwise.h": Cost(300, 100),
    "conv.h": Cost(480, 25),
    "channels_last.h": Cost(600, 25),
    "recurrence_gradient.h": Cost(100, 130),
    "recurrence.h": Cost(100, 100),
    "attention_gradient.h": Cost(50, 50),
    "attention.h": Cost(300, 550),
    "gemm.h": Cost(600, 160),
    "tile.h": Cost(50, 10),
    "scatter.h": Cost(20, 10),
}
"""The templates by what they cost, the dearest of a family first: each includes those of its family that follow it."""
LINE = 0.9
"""Milliseconds a line of a kernel's own loops."""
UNIT = 100
"""Milliseconds that a unit of its own costs."""
PROCESS = 500
"""Milliseconds of a unit that is worth a process of its own."""
_MOST_TRIED = 16


@dataclass(frozen=True, slots=True)
class _Piece:
    """A function, what it takes by itself, and the templates that its unit compiles for it."""

    function: Function
    own: float
    templates: frozenset[str]


_Parts = Sequence[Sequence[_Piece]]


def units(functions: Sequence[Function], target: CpuTarget) -> list[list[Function]]:
    """The functions in as many units as are compiled soonest on the target's cores, the longest first."""
    families = list(TEMPLATES)

    def family(function: Function) -> list[int]:
        return sorted(families.index(name) for name in _templates(function)) or [len(families)]

    pieces = [_Piece(f, cost(f), frozenset(_templates(f))) for f in sorted(functions, key=family)]
    if not pieces:
        return [[]]
    worth = max(1, round(_unit_cost(pieces) / PROCESS))
    most = min(2 * target.cores, len(pieces), worth)
    counts = sorted({*range(1, min(most, _MOST_TRIED) + 1), min(most, target.cores), most})
    best = min((_cut(pieces, count) for count in counts), key=lambda parts: _ready(parts, target.cores))
    return [[piece.function for piece in part] for part in sorted(best, key=_unit_cost, reverse=True)]


def _cut(pieces: Sequence[_Piece], count: int) -> _Parts:
    """At most so many units of neighbours, the dearest as cheap as can be."""
    low, high = 0.0, _unit_cost(pieces)
    parts: _Parts = [pieces]
    while high - low > UNIT / 10:
        limit = (low + high) / 2
        tried = _filled(pieces, limit)
        if len(tried) <= count:
            parts, high = tried, limit
        else:
            low = limit
    return parts


def _filled(pieces: Sequence[_Piece], limit: float) -> _Parts:
    """Units that are filled one after the other, up to a cost; a piece that is dearer has one to itself."""
    parts: list[list[_Piece]] = []
    spent, known = 0.0, frozenset[str]()
    for piece in pieces:
        more = piece.own + _once(piece.templates - known)
        if not parts or spent + more > limit:
            parts.append([])
            spent, known = float(UNIT), frozenset()
            more = piece.own + _once(piece.templates)
        parts[-1].append(piece)
        spent, known = spent + more, known | piece.templates
    return parts


def _ready(parts: _Parts, cores: int) -> float:
    """When the last unit is compiled, each core taking the longest that is left."""
    busy = [0.0] * max(1, cores)
    for spent in sorted(map(_unit_cost, parts), reverse=True):
        heapq.heapreplace(busy, busy[0] + spent)
    return max(busy)


def _unit_cost(pieces: Sequence[_Piece]) -> float:
    used = frozenset[str]().union(*(piece.templates for piece in pieces))
    return UNIT + _once(used) + sum(piece.own for piece in pieces)


def _once(templates: Iterable[str]) -> int:
    return sum(TEMPLATES[name].once for name in templates)


def cost(function: Function) -> float:
    """Milliseconds that a function takes besides the templates that its unit has already."""
    lines = sum(1 for line in function.text.splitlines() if not line.lstrip().startswith("//"))
    return LINE * lines + sum(TEMPLATES[name].each for name in _templates(function))


def _templates(function: Function) -> tuple[str, ...]:
    return tuple(name for name in function.headers if name in TEMPLATES)
