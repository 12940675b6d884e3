"""The order of passes over a nest's reduction axes: what a reduce gives is at hand only once a pass is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphc.ir.kernel import (
    Affine,
    Compute,
    Definition,
    IndexValue,
    Load,
    Nest,
    Random,
    Reduce,
    Statement,
    Store,
    levels,
)


@dataclass(frozen=True)
class Stages:
    """How many passes over the reduction axes a nest needs, and what runs when.

    `passes`: reduces and inner stores (by id) to the pass that they run in. `outer`: outer statements to the number of
    passes that must be done before them.
    """

    count: int
    passes: Mapping[int, int]
    outer: Mapping[int, int]

    def statements(self, nest: Nest, number: int, inner: Mapping[str, bool]) -> tuple[Statement, ...]:
        """The reduces and stores of a pass with all inner statements that they need, in the order of the nest."""
        table: dict[str, Definition] = {s.name: s for s in nest.body if not isinstance(s, Store)}
        wanted: set[int] = set()
        work: list[Statement] = [s for s in nest.body if self.passes.get(id(s)) == number]
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


def stages_of(nest: Nest) -> Stages:
    """When each statement can run: a reduce ends a pass, and what reads its result needs that pass done."""
    inner = levels(nest)
    done: dict[str, int] = {axis.name: 0 for axis in nest.axes}
    passes: dict[int, int] = {}
    outer: dict[int, int] = {}
    reduction = {axis.name for axis in nest.reductions}
    stores: list[Store] = []
    for statement in nest.body:
        level = max((done[name] for name in names_read(statement)), default=0)
        if isinstance(statement, Reduce):
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
    return Stages(count, passes, outer)
