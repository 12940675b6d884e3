"""Unrolls a short axis into the body of a nest, so that strided accesses become groups of contiguous ones.

x[2 * i + k] for k in 0, 1 is strided along i; with both k in one iteration a compiler loads two whole vectors and
interleaves. Pooling, its gradient and interleaved channels have this form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from graphc.codegen.cpp.nests import analyse, rewrite_expressions
from graphc.ir.kernel import (
    Affine,
    Axis,
    Compute,
    Load,
    Nest,
    Reduce,
    Reduction,
    Statement,
    Store,
)

LARGEST = 4
_JOINS = {
    Reduction.SUM: "add",
    Reduction.PROD: "mul",
    Reduction.MAX: "maximum",
    Reduction.MIN: "minimum",
    Reduction.ANY: "logical_or",
}


def interleaved_axis(nest: Nest, vector: str) -> Axis | None:
    """The axis to unroll beside the vector axis: most memory is read or written at vector * extent + axis."""
    best: tuple[int, Axis] | None = None
    for axis in nest.axes:
        extent = axis.extent
        if axis.name == vector or not isinstance(extent, int) or not 2 <= extent <= LARGEST:
            continue
        grouped = lonely = 0
        for statement in nest.body:
            if isinstance(statement, (Load, Store)):
                (index,) = statement.index
                if index.stride(vector) == extent and index.stride(axis.name) == 1:
                    grouped += 1
                elif index.stride(vector) not in (0, 1):
                    lonely += 1
        if grouped > lonely and (best is None or grouped > best[0]) and _unrollable(nest, axis):
            best = (grouped, axis)
    return best[1] if best else None


def _unrollable(nest: Nest, axis: Axis) -> bool:
    """True unless a position is searched along the axis, or the nest would lose its last reduction axis."""
    reduces = [s for s in nest.body if isinstance(s, Reduce)]
    if any(r.operation not in _JOINS for r in reduces) and axis.reduction:
        return False
    return not axis.reduction or len(nest.reductions) > 1


def unroll(nest: Nest, axis: Axis) -> Nest:
    """The nest without that axis: what depends on it is there once for each of its values."""
    assert isinstance(axis.extent, int)
    copies: dict[str, tuple[str, ...]] = {}
    body: list[Statement] = []
    depends = _dependents(nest, axis)
    for statement in nest.body:
        if isinstance(statement, Reduce) and axis.reduction and statement.name not in depends:
            body += _joined_reduce(statement, axis.extent, copies)
        elif not _depends(statement, axis, depends):
            body.append(statement)
        else:
            for value in range(axis.extent):
                body.append(_copy(statement, axis, value, copies))
            if not isinstance(statement, Store):
                copies[statement.name] = tuple(f"{statement.name}.{value}" for value in range(axis.extent))
    return Nest(tuple(a for a in nest.axes if a is not axis), tuple(body))


def _dependents(nest: Nest, axis: Axis) -> set[str]:
    """Scalars with one value for each value of the axis; a reduce over the axis is none."""
    analysis = analyse(nest)
    return {name for name, axes in analysis.axes.items() if axis.name in axes}


def _depends(statement: Statement, axis: Axis, depends: set[str]) -> bool:
    if not isinstance(statement, Store):
        return statement.name in depends
    expressions = (*statement.index, *(guard.expression for guard in statement.guards))
    variables = {variable for expression in expressions for variable in expression.variables}
    return statement.value in depends or axis.name in variables or bool(variables & depends)


def _copy(statement: Statement, axis: Axis, value: int, copies: Mapping[str, tuple[str, ...]]) -> Statement:
    def substitute(expression: Affine) -> Affine:
        table = {axis.name: Affine(value)}
        table |= {name: Affine.axis(names[value]) for name, names in copies.items()}
        return expression.substitute(table)

    def renamed(name: str) -> str:
        return copies[name][value] if name in copies else name

    copied = rewrite_expressions(statement, substitute)
    match copied:
        case Compute():
            copied = replace(copied, arguments=tuple(map(renamed, copied.arguments)))
        case Reduce():
            copied = replace(copied, argument=renamed(copied.argument))
        case Store():
            return replace(copied, value=renamed(copied.value))
        case _:
            pass
    return replace(copied, name=f"{copied.name}.{value}")


def _joined_reduce(reduce: Reduce, extent: int, copies: Mapping[str, tuple[str, ...]]) -> list[Statement]:
    """The reduce over the axes that are left, of the argument joined over the unrolled one."""
    names = copies.get(reduce.argument, (reduce.argument,) * extent)
    joined, body = names[0], list[Statement]()
    for value, name in enumerate(names[1:], 1):
        body.append(
            Compute(
                f"{reduce.name}.join{value}",
                reduce.dtype,
                _JOINS[reduce.operation],
                (joined, name),
                reduce.origins,
            )
        )
        joined = f"{reduce.name}.join{value}"
    return [*body, replace(reduce, argument=joined)]
