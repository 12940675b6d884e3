"""The order of passes over a nest's reduction axes: what a reduce gives is at hand only once a pass is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from graphc.ir.kernel import (
    Affine,
    Compute,
    Definition,
    IndexValue,
    Load,
    Nest,
    Random,
    Reduce,
    Reduction,
    Statement,
    Store,
    levels,
)


@dataclass(frozen=True)
class Stages:
    """How many passes over the reduction axes a nest needs, and what runs when.

    `passes`: reduces and inner stores (by id) to the pass that they run in. `outer`: outer statements to the number of
    passes that must be done before them. `beside`: maxima (by id) to the sums of exponentials that run along with them.
    """

    count: int
    passes: Mapping[int, int]
    outer: Mapping[int, int]
    beside: Mapping[int, Reduce]

    def statements(self, nest: Nest, number: int, inner: Mapping[str, bool]) -> tuple[Statement, ...]:
        """The reduces and stores of a pass with all inner statements that they need, in the order of the nest."""
        table: dict[str, Definition] = {s.name: s for s in nest.body if not isinstance(s, Store)}
        wanted: set[int] = set()
        along = {id(total) for total in self.beside.values()}
        work: list[Statement] = [
            s for s in nest.body if self.passes.get(id(s)) == number and id(s) not in along
        ]
        while work:
            statement = work.pop()
            if id(statement) in wanted:
                continue
            wanted.add(id(statement))
            work += [table[name] for name in names_read(statement) if name in table and inner[name]]
        return tuple(s for s in nest.body if id(s) in wanted)


def names_read(statement: Statement) -> tuple[str, ...]:
    """The scalars (and axes) that a statement reads."""
    match statement:
        case Load():
            return _variables(*statement.index, *(guard.expression for guard in statement.guards))
        case Store():
            guards = (guard.expression for guard in statement.guards)
            return (statement.value, *_variables(*statement.index, *guards))
        case Reduce():
            return (statement.argument,)
        case Compute():
            return statement.arguments
        case IndexValue():
            return _variables(statement.expression)
        case Random():
            return _variables(statement.index)
        case _:
            return ()


def _variables(*expressions: Affine) -> tuple[str, ...]:
    return tuple(name for expression in expressions for name in expression.variables)


def softmax_sums(nest: Nest) -> dict[int, Reduce]:
    """Maxima m = max x (by id) to sums of exp(x - m), which one pass can give together with m.

    The sum so far is rescaled where the maximum grows (Milakov, Gimelshein: Online normalizer calculation for softmax,
    2018, arXiv:1805.02867).
    """
    table = {s.name: s for s in nest.body if not isinstance(s, Store)}
    found: dict[int, Reduce] = {}
    for total in nest.body:
        if not isinstance(total, Reduce) or total.operation is not Reduction.SUM:
            continue
        power = table[total.argument]
        difference = table[power.arguments[0]] if _is(power, "exp") else None
        if difference is None or not _is(difference, "sub"):
            continue
        x, m = difference.arguments
        maximum = table[m]
        if isinstance(maximum, Reduce) and maximum.operation is Reduction.MAX and maximum.argument == x:
            found.setdefault(id(maximum), total)
    return found


def _is(statement: Definition, operation: str) -> TypeGuard[Compute]:
    return isinstance(statement, Compute) and statement.operation == operation


def stages_of(nest: Nest, beside: Mapping[int, Reduce] | None = None) -> Stages:
    """When each statement can run: a reduce ends a pass, and what reads its result needs that pass done.

    beside: sums that run along with a maximum, as `softmax_sums` finds them.
    """
    beside = beside or {}
    partner = {id(total): key for key, total in beside.items()}
    inner = levels(nest)
    done: dict[str, int] = {axis.name: 0 for axis in nest.axes}
    passes: dict[int, int] = {}
    outer: dict[int, int] = {}
    reduction = {axis.name for axis in nest.reductions}
    stores: list[Store] = []
    for statement in nest.body:
        level = max((done[name] for name in names_read(statement)), default=0)
        if isinstance(statement, Reduce):
            level = passes[partner[id(statement)]] if id(statement) in partner else level
            passes[id(statement)] = level
            done[statement.name] = level + 1
        elif isinstance(statement, Store):
            if any(inner.get(name, False) or name in reduction for name in names_read(statement)):
                passes[id(statement)] = level
                stores.append(statement)
            else:
                outer[id(statement)] = level
        else:
            done[statement.name] = level
            if not inner[statement.name]:
                outer[id(statement)] = level
    count = max(passes.values(), default=-1) + 1
    read = {statement.buffer for statement in nest.body if isinstance(statement, Load)}
    for store in stores:
        if store.buffer in read:
            # What a pass overwrites no later pass may read again.
            passes[id(store)] = count - 1
    return Stages(count, passes, outer, beside)
