"""Reductions along short dense rows: a block of rows is turned in cache, so that every row is a lane.

for i: y[i, :] = softmax(x[i, :])                  ten classes fill no vector, and folding lanes costs more than they do
becomes
for block of 64 rows: turn x's rows; columns of 64 lanes, ten rows of them; turn y's rows back
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.codegen.cpp.nests import Analysis
from graphc.ir.kernel import Load, Nest, Reduce, Reduction, Store
from graphc.types import DType

SHORT_ROW, SHORT_SEARCH = (
    32,
    64,
)  # elements of the longest rows that are turned: of sums, and where positions are searched
FEWEST_ROWS, ROW_BLOCK = 256, 64
_POSITIONS = (Reduction.ARGMAX, Reduction.ARGMIN)
_TURNED = frozenset((DType.F32, DType.F64, DType.I32, DType.I64))


@dataclass(frozen=True, slots=True)
class ShortRows:
    """The axis that counts the rows, and the names of loads and buffers of stores that go along them."""

    axis: str
    loads: frozenset[str]
    stores: frozenset[str]


def short_rows(nest: Nest, analysis: Analysis) -> ShortRows | None:
    """The short rows of a nest, None where it has other axes or reads and writes otherwise, too."""
    if len(nest.reductions) != 1 or not nest.parallel:
        return None
    (row,), item = nest.reductions, nest.parallel[-1]
    searches = any(isinstance(s, Reduce) and s.operation in _POSITIONS for s in nest.body)
    longest = SHORT_SEARCH if searches else SHORT_ROW
    if not isinstance(row.extent, int) or not isinstance(item.extent, int):
        return None
    if not 2 <= row.extent <= longest or item.extent < FEWEST_ROWS:
        return None
    loads, stores = set(), set()
    for statement in nest.body:
        if not isinstance(statement, (Load, Store)):
            continue
        (index,) = statement.index
        along, across = index.stride(row.name), index.stride(item.name)
        indirect = any(variable in analysis.definitions for variable in index.variables)
        if along == 1 and across == row.extent and not indirect and not statement.guards:
            name = statement.value if isinstance(statement, Store) else statement.name
            if analysis.definitions[name].dtype not in _TURNED:
                return None
            stores.add(statement.buffer) if isinstance(statement, Store) else loads.add(statement.name)
        elif across not in (0, 1) or (along != 0 and across != 0):
            return None
    return ShortRows(item.name, frozenset(loads), frozenset(stores)) if loads else None
