"""Cut a program's functions into units that compile side by side.

A unit compiles the templates that its functions use anew, so functions of the same templates stand together: the fewer
units share a template, the less is compiled twice.
"""

from __future__ import annotations

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
    "winograd_gradient.h": Cost(350, 10),
    "winograd_last.h": Cost(450, 25),
    "winograd.h": Cost(500, 25),
    "winograd_weight.h": Cost(100, 10),
    "depthwise.h": Cost(300, 100),
    "conv.h": Cost(700, 25),
    "channels_last.h": Cost(600, 25),
    "recurrence_gradient.h": Cost(300, 100),
    "recurrence.h": Cost(300, 100),
    "attention_gradient.h": Cost(400, 200),
    "attention.h": Cost(400, 200),
    "gemm.h": Cost(250, 100),
    "tile.h": Cost(50, 10),
    "scatter.h": Cost(20, 10),
}
"""The templates by what they cost, the dearest of a family first: each includes those of its family that follow it."""
LINE = 1.2
"""Milliseconds a line of a kernel's own loops."""
UNIT = 500
"""Milliseconds of a unit that is worth a process of its own."""


def units(functions: Sequence[Function], target: CpuTarget) -> list[list[Function]]:
    """The functions in units of about equal cost, two a core at most."""
    families = list(TEMPLATES)

    def family(function: Function) -> list[int]:
        return sorted(families.index(name) for name in _templates(function)) or [len(families)]

    ordered = sorted(functions, key=family)
    total = _first_uses(ordered) + sum(map(cost, ordered))
    count = max(1, min(round(total / UNIT), 2 * target.cores))
    result: list[list[Function]] = [[]]
    left = total
    spent = 0.0
    for function in ordered:
        own = cost(function)
        fresh = _first_uses([*result[-1], function]) - _first_uses(result[-1])
        room = left / (count - len(result) + 1)
        if result[-1] and len(result) < count and spent + (own + fresh) / 2 > room:
            left -= spent
            result.append([])
            spent, fresh = 0.0, _first_uses([function])
        result[-1].append(function)
        spent += own + fresh
    return result


def cost(function: Function) -> float:
    """Milliseconds that a function takes besides the templates that its unit has already."""
    lines = sum(1 for line in function.text.splitlines() if not line.lstrip().startswith("//"))
    return LINE * lines + sum(TEMPLATES[name].each for name in _templates(function))


def _first_uses(functions: Iterable[Function]) -> int:
    return sum(TEMPLATES[name].once for name in {name for f in functions for name in _templates(f)})


def _templates(function: Function) -> tuple[str, ...]:
    return tuple(name for name in function.headers if name in TEMPLATES)
