"""Cuts a map where its guards change: the parts of a concatenation become loops of their own, without conditions.

   for j < 207: y[j] = j < 130 ? a[j] : b[j - 130]      guards on j
becomes
   for j < 130: y[j] = a[j]
   for j < 77: y[j + 130] = b[j]
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

from graphc.codegen.cpp.nests import prune_guards, rewrite_expressions, without_dead
from graphc.ir.kernel import (
    Affine,
    Axis,
    Compute,
    Constant,
    Guard,
    IndexValue,
    Load,
    Nest,
    Reduce,
    Statement,
    Store,
)
from graphc.types import DType

SHORTEST = 16  # elements of the vector axis that make a loop of their own worthwhile
MOST_RANGES = 8

Bounds = tuple[int, int]


def split_ranges(nest: Nest, vector: str | None) -> tuple[Nest, ...]:
    """The nest, or one for each range of the vector axis in which all its guards along it hold or fail."""
    axis = next((axis for axis in nest.parallel if axis.name == vector), None)
    if axis is None or not isinstance(axis.extent, int):
        return (nest,)
    cuts = {0, axis.extent}
    for statement in nest.body:
        if isinstance(statement, Load):
            for guard in statement.guards:
                cuts.update(_cuts(guard, axis))
    places = sorted(cuts)
    ranges = list(itertools.pairwise(places))
    if not 1 < len(ranges) <= MOST_RANGES or any(stop - start < SHORTEST for start, stop in ranges):
        return (nest,)
    return tuple(_part(nest, axis, start, stop) for start, stop in ranges)


def _cuts(guard: Guard, axis: Axis) -> list[int]:
    """Where along the axis a guard on it alone begins and ceases to hold."""
    expression = guard.expression
    numbers = (expression.offset, guard.low, guard.high)
    if expression.terms != ((axis.name, 1),) or not all(isinstance(number, int) for number in numbers):
        return []
    assert isinstance(axis.extent, int) and isinstance(expression.offset, int)
    assert isinstance(guard.low, int) and isinstance(guard.high, int)
    ends = (guard.low - expression.offset, guard.high - expression.offset)
    return [end for end in ends if 0 < end < axis.extent]


def _part(nest: Nest, axis: Axis, start: int, stop: int) -> Nest:
    table = {axis.name: Affine(start, ((axis.name, 1),))}
    body = tuple(rewrite_expressions(s, lambda expression: expression.substitute(table)) for s in nest.body)
    axes = tuple(replace(a, extent=stop - start) if a is axis else a for a in nest.axes)
    return resolve(Nest(axes, body))


def resolve(nest: Nest) -> Nest:
    """The nest without guards that always hold, and without what those that never hold leave out."""
    return _Resolver(prune_guards(nest)).run()


class _Resolver:
    """Replaces what the extents of the axes decide: loads outside their guards, comparisons, choices."""

    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self.bounds: dict[str, Bounds] = {}
        self.known: dict[str, bool] = {}
        self.same: dict[str, str] = {}

    def run(self) -> Nest:
        body: list[Statement] = []
        for statement in self.nest.body:
            body += self._resolved(_reading(statement, self.same))
        return replace(self.nest, body=without_dead(body))

    def _resolved(self, statement: Statement) -> list[Statement]:
        match statement:
            case Load() if any(self._fails(guard) for guard in statement.guards):
                return [Constant(statement.name, statement.dtype, statement.other, statement.origins)]
            case IndexValue():
                self._note(statement.name, self._range(statement.expression))
            case Constant(dtype=dtype, value=value) if dtype.is_integer:
                self._note(statement.name, (int(value), int(value)))
            case Compute(operation="where", arguments=(condition, x, y)) if condition in self.known:
                self.same[statement.name] = x if self.known[condition] else y
                return []
            case Compute(dtype=DType.BOOL):
                decided = self._decided(statement)
                if decided is not None:
                    self.known[statement.name] = decided
                    return [Constant(statement.name, DType.BOOL, decided, statement.origins)]
            case _:
                pass
        return [statement]

    def _note(self, name: str, bounds: Bounds | None) -> None:
        if bounds is not None:
            self.bounds[name] = bounds

    def _range(self, expression: Affine) -> Bounds | None:
        extents = {axis.name: axis.extent for axis in self.nest.axes}
        if not isinstance(expression.offset, int):
            return None
        low = high = expression.offset
        for name, stride in expression.terms:
            extent = extents.get(name)
            if not isinstance(extent, int) or not isinstance(stride, int) or extent < 1:
                return None
            reach = stride * (extent - 1)
            low, high = low + min(reach, 0), high + max(reach, 0)
        return low, high

    def _fails(self, guard: Guard) -> bool:
        bounds = self._range(guard.expression)
        if bounds is None or not isinstance(guard.low, int) or not isinstance(guard.high, int):
            return False
        return bounds[1] < guard.low or bounds[0] >= guard.high

    def _decided(self, statement: Compute) -> bool | None:
        """The value of a comparison of positions, or of a conjunction, that is the same at every point."""
        if statement.operation == "logical_and":
            values = [self.known.get(name) for name in statement.arguments]
            return False if False in values else True if values == [True, True] else None
        if len(statement.arguments) != 2 or any(name not in self.bounds for name in statement.arguments):
            return None
        (a, b), (c, d) = (self.bounds[name] for name in statement.arguments)
        always: Mapping[str, tuple[bool, bool]] = {
            "lt": (b < c, a >= d),
            "le": (b <= c, a > d),
            "gt": (a > d, b <= c),
            "ge": (a >= d, b < c),
        }
        holds, fails = always.get(statement.operation, (False, False))
        return True if holds else False if fails else None


def _reading(statement: Statement, same: Mapping[str, str]) -> Statement:
    """The statement with choices replaced by what they chose."""

    def renamed(name: str) -> str:
        return same.get(name, name)

    table = {name: Affine.axis(renamed(name)) for name in same}
    statement = rewrite_expressions(statement, lambda expression: expression.substitute(table))
    match statement:
        case Compute():
            return replace(statement, arguments=tuple(map(renamed, statement.arguments)))
        case Reduce():
            return replace(statement, argument=renamed(statement.argument))
        case Store():
            return replace(statement, value=renamed(statement.value))
        case _:
            return statement
