"""Unrolls short axes into the body of a nest, so that strided accesses become groups of contiguous ones.

x[2 * i + k] for k in 0, 1 is strided along i; with both k in one iteration a compiler loads two whole vectors and
interleaves. Pooling, its gradient and interleaved channels have this form. A window of few elements is unrolled as a
whole: its reduction then happens in registers.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

from graphc.codegen.cpp.nests import analyse, rewrite_expressions
from graphc.ir.graph import Origins
from graphc.ir.kernel import (
    Affine,
    Axis,
    Compute,
    Constant,
    Load,
    Nest,
    Reduce,
    Reduction,
    Statement,
    Store,
)
from graphc.types import Dim, DType, product

LARGEST, LARGEST_GROUP = 4, 16
LARGEST_WINDOW, MOST_STATEMENTS = 16, 64
_JOINS = {
    Reduction.SUM: "add",
    Reduction.PROD: "mul",
    Reduction.MAX: "maximum",
    Reduction.MIN: "minimum",
    Reduction.ANY: "logical_or",
}


def interleaved_axes(nest: Nest, vector: str) -> tuple[Axis, ...]:
    """The axes to unroll beside the vector axis: those that fill a store's stride, or the one of most accesses.

    y[16 * vector + 8 * i + 2 * j + k] with 2, 4 and 2 values of i, j and k is written in whole vectors once all of
    them are unrolled; what threads share out is then the vector axis, and no two write to the same cache line.
    """
    for store in nest.body:
        if isinstance(store, Store) and not store.guards and (group := _filling(nest, store, vector)):
            return group
    axis = interleaved_axis(nest, vector)
    return () if axis is None else (axis,)


def _filling(nest: Nest, store: Store, vector: str) -> tuple[Axis, ...]:
    """The parallel axes whose values are all places of a store between two of the vector axis."""
    (index,) = store.index
    stride = index.stride(vector)
    if not isinstance(stride, int) or stride not in (4, 8, LARGEST_GROUP) or nest.reductions:
        return ()
    inside: list[tuple[int, Axis]] = []
    for axis in nest.axes:
        step = index.stride(axis.name)
        if axis.name != vector and isinstance(step, int) and 0 < step < stride:
            inside.append((step, axis))
    place = 1
    for step, axis in sorted(inside, key=lambda pair: pair[0]):
        if step != place or not isinstance(axis.extent, int):
            return ()
        place *= axis.extent
    stores = sum(isinstance(statement, Store) for statement in nest.body)
    fills = place == stride and stores * stride <= 2 * LARGEST_GROUP
    return tuple(axis for _, axis in inside) if fills else ()


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
    names = {name: numbered[value] for name, numbered in copies.items()}
    return _renamed(statement, {axis.name: Affine(value)}, names, f".{value}")


def _renamed(
    statement: Statement, place: Mapping[str, Affine], names: Mapping[str, str], suffix: str
) -> Statement:
    """The statement at fixed values of some axes, reading the scalars of that place."""
    table = {**place, **{name: Affine.axis(new) for name, new in names.items()}}

    def renamed(name: str) -> str:
        return names.get(name, name)

    copied = rewrite_expressions(statement, lambda expression: expression.substitute(table))
    match copied:
        case Compute():
            copied = replace(copied, arguments=tuple(map(renamed, copied.arguments)))
        case Reduce():
            copied = replace(copied, argument=renamed(copied.argument))
        case Store():
            return replace(copied, value=renamed(copied.value))
        case _:
            pass
    return replace(copied, name=f"{copied.name}{suffix}")


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


# Windows


def unroll_window(nest: Nest, vector: str) -> Nest | None:
    """The nest with all reduction axes unrolled, where they have few points and the vector axis is another one."""
    axes = nest.reductions
    points = product(axis.extent for axis in axes)
    if not axes or any(axis.name == vector for axis in axes) or not isinstance(points, int):
        return None
    analysis = analyse(nest)
    inner = sum(1 for name in analysis.inner if analysis.inner[name])
    if not 1 <= points <= LARGEST_WINDOW or points * inner > MOST_STATEMENTS:
        return None
    return _Window(nest, axes).run()


class _Window:
    """Every inner scalar once a point of the window, every reduce a chain over them."""

    def __init__(self, nest: Nest, axes: tuple[Axis, ...]) -> None:
        self.nest = nest
        self.inner = analyse(nest).inner
        ranges = [range(guess_int(axis.extent)) for axis in axes]
        self.places = [
            {axis.name: Affine(value) for axis, value in zip(axes, values, strict=True)}
            for values in itertools.product(*ranges)
        ]
        self.reductions = frozenset(axis.name for axis in axes)
        self.copies: dict[str, list[str]] = {}
        self.body: list[Statement] = []

    def run(self) -> Nest:
        analysis = analyse(self.nest)
        for statement in self.nest.body:
            if isinstance(statement, Reduce):
                self._reduce(statement)
            elif isinstance(statement, Store):
                repeated = analysis.is_inner(statement, self.reductions)
                self._copies(statement) if repeated else self.body.append(statement)
            elif self.inner[statement.name]:
                self._copies(statement)
                self.copies[statement.name] = [f"{statement.name}.{k}" for k in range(len(self.places))]
            else:
                self.body.append(statement)
        return Nest(self.nest.parallel, tuple(self.body))

    def _copies(self, statement: Statement) -> None:
        for number, place in enumerate(self.places):
            names = {name: copies[number] for name, copies in self.copies.items()}
            self.body.append(_renamed(statement, place, names, f".{number}"))

    def _values(self, name: str) -> list[str]:
        return self.copies.get(name, [name] * len(self.places))

    def _compute(
        self, name: str, dtype: DType, operation: str, *arguments: str, origins: Origins = ()
    ) -> str:
        self.body.append(Compute(name, dtype, operation, arguments, origins))
        return name

    def _reduce(self, reduce: Reduce) -> None:
        values = self._values(reduce.argument)
        if reduce.operation in _JOINS:
            self._chain(reduce.name, reduce.dtype, _JOINS[reduce.operation], values, reduce.origins)
            return
        dtype = next(
            s.dtype for s in self.nest.body if not isinstance(s, Store) and s.name == reduce.argument
        )
        join = "maximum" if reduce.operation is Reduction.ARGMAX else "minimum"
        best = self._chain(f"{reduce.name}.best", dtype, join, values, reduce.origins)
        self._search(reduce, dtype, best, values)

    def _chain(self, name: str, dtype: DType, operation: str, values: list[str], origins: Origins) -> str:
        """Values joined one after another; the last joint has the name."""
        joined = values[0]
        for number, value in enumerate(values[1:], 1):
            last = number == len(values) - 1
            step = name if last else f"{name}.join{number}"
            joined = self._compute(step, dtype, operation, joined, value, origins=origins)
        if len(values) == 1:
            self._compute(name, dtype, "cast", joined, origins=origins)
        return name

    def _search(self, reduce: Reduce, dtype: DType, best: str, values: list[str]) -> None:
        """The first position whose value is the best one, found from the last backwards; any NaN is the best."""
        name, origins = reduce.name, reduce.origins
        position = f"{name}.at{len(values) - 1}"
        self.body.append(Constant(position, DType.I32, len(values) - 1))
        for number in range(len(values) - 2, -1, -1):
            hit = self._compute(f"{name}.equal{number}", DType.BOOL, "eq", values[number], best)
            if dtype.is_float:
                nan = self._compute(f"{name}.nan{number}", DType.BOOL, "is_nan", values[number])
                hit = self._compute(f"{name}.hit{number}", DType.BOOL, "logical_or", hit, nan)
            self.body.append(Constant(f"{name}.c{number}", DType.I32, number))
            position = self._compute(
                f"{name}.at{number}", DType.I32, "where", hit, f"{name}.c{number}", position
            )
        self._compute(name, reduce.dtype, "cast", position, origins=origins)


def guess_int(dim: Dim) -> int:
    """A dimension that is known to be a number."""
    assert isinstance(dim, int)
    return dim
