"""Maps that compute several dear functions one of another, cut into stages: one loop over a block for each.

    z[i] = sigmoid(x[i] / sqrt(|tanh(y[i])|))
 becomes, block by block,
    a[i] = tanh(y[i]);    b[i] = x[i] / sqrt(|a[i]|);    z[i] = sigmoid(b[i])

A processor looks ahead some hundred instructions. Where one element's chain of dependent ones is as long, few elements
are under way at a time, and the loop waits for latencies; short chains run at the rate of the arithmetic units.
"""

from __future__ import annotations

from collections.abc import Iterable

from graphc.codegen.cpp.costs import KEEP_COST, statement_cost
from graphc.codegen.cpp.nests import Analysis
from graphc.ir.kernel import Compute, Nest, Random
from graphc.primitives import primitive
from graphc.types import DType

LONGEST_CHAIN = 24  # additions that a stage does one after another
DEAR = 6  # the least cost of a scalar that begins a stage


def stages(nest: Nest, analysis: Analysis, wanted: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """For every stage but the last one, the scalars that it leaves in tiles for later ones, of those wanted."""
    chosen = set(wanted)
    stage: dict[str, int] = {}
    chain: dict[str, float] = {}
    for statement in nest.body:
        if not isinstance(statement, (Compute, Random)) or statement.name not in chosen:
            continue
        read = [name for name in analysis.reads(statement) if name in stage]
        number = max((stage[name] for name in read), default=0)
        cost = statement_cost(statement)
        length = cost + max((chain[name] for name in read if stage[name] == number), default=0.0)
        if cost >= DEAR and length > LONGEST_CHAIN and length > cost:
            number, length = number + 1, cost
        stage[statement.name], chain[statement.name] = number, length
    _move_products(stage, nest, analysis)
    last = max(stage.values(), default=0)
    kept: list[list[str]] = [[] for _ in range(last)]
    again: dict[str, float] = {}
    for name, number in stage.items():
        statement = analysis.definitions[name]
        again[name] = statement_cost(statement) + sum(again.get(n, 1.0) for n in analysis.reads(statement))
        later = any(
            stage.get(s.name, -1) > number
            for s in nest.body
            if isinstance(s, Compute) and name in analysis.reads(s)
        )
        if statement.dtype in (DType.F16, DType.BF16):
            continue
        if number < last and again[name] > KEEP_COST and (later or _is_stored(name, nest, analysis)):
            kept[number].append(name)
            again[name] = 1.0
    return tuple(map(tuple, kept))


def _move_products(stage: dict[str, int], nest: Nest, analysis: Analysis) -> None:
    """Put what a sum of a later stage reads into that stage: a product is added up unrounded there, as in one loop."""
    readers: dict[str, list[Compute]] = {}
    for statement in nest.body:
        if isinstance(statement, Compute) and statement.name in stage:
            for name in analysis.reads(statement):
                readers.setdefault(name, []).append(statement)
    for name in reversed(stage):
        statement = analysis.definitions[name]
        if not isinstance(statement, Compute) or statement_cost(statement) >= DEAR:
            continue
        summed = any(primitive(reader.operation).rounded for reader in readers.get(name, ()))
        if summed and not primitive(statement.operation).rounded:
            stage[name] = max(stage[name], min(stage[reader.name] for reader in readers[name]))


def _is_stored(name: str, nest: Nest, analysis: Analysis) -> bool:
    """True when something other than a computation reads the scalar."""
    return any(name in analysis.reads(s) for s in nest.body if not isinstance(s, Compute))
