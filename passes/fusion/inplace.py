"""When may a kernel write over a buffer that it reads: every element is read only at the point that writes it."""

from __future__ import annotations

from collections.abc import Iterator

from graphc.ir.kernel import Compute, IndexValue, Load, Nest, Random, Reduce, Statement, Store, levels
from graphc.passes.fusion import index as ix
from graphc.types import Shape


class Timeline:
    """When the statements of a nest run: 2p before the loop of pass p over the reduction axes, 2p + 1 inside it."""

    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self.inner = levels(nest)
        self.passes = passes(nest)
        reduction = {axis.name for axis in nest.reductions}
        self.times = {id(s): 2 * self.passes[id(s)] + self._inside(s, reduction) for s in nest.body}

    def _inside(self, statement: Statement, reduction: set[str]) -> bool:
        if isinstance(statement, (Reduce, Store)):
            return any(name in reduction or self.inner.get(name, False) for name in operands(statement))
        return self.inner[statement.name]

    def reads_only_where_it_writes(self, source: str, target: str, read: Shape, written: Shape) -> bool:
        """True when `target` may lie in the memory of `source`, whose shapes are `read` and `written`.

        Every load of the source must be at the element that the only store of the target writes, and nothing that runs
        after that store may need the old value.
        """
        body = self.nest.body
        stores = [s for s in body if isinstance(s, Store) and s.buffer == target]
        loads = [s for s in body if isinstance(s, Load) and s.buffer == source]
        if any(isinstance(s, (Random, Store)) and s.buffer == source for s in body) or len(stores) != 1:
            return False
        (store,) = stores
        place = ix.flatten(store.index, written)
        if any(ix.flatten(load.index, read) != place for load in loads):
            return False
        return self.last_use({load.name for load in loads}) <= self.times[id(store)]

    def last_use(self, names: set[str]) -> int:
        """When these scalars are needed last, or scalars made from them that are computed again where they are needed.

        Loops load and compute again what follows from no reduction; what follows from one is kept between the passes.
        """
        tainted = set(names)
        last = 0
        for statement in self.nest.body:
            if tainted.isdisjoint(operands(statement)):
                continue
            last = max(last, self.times[id(statement)])
            if isinstance(statement, (Reduce, Store)):
                continue
            if self.inner[statement.name] or not self.passes[id(statement)]:
                tainted.add(statement.name)
        return last


def passes(nest: Nest) -> dict[int, int]:
    """For each statement (by id) the pass over the reduction axes in or before which it runs.

    Inner statements that need no reduce run in pass 0; a reduce of pass p is known in pass p + 1.
    """
    known: dict[str, int] = {}
    result: dict[int, int] = {}
    for statement in nest.body:
        at = max((known[name] for name in operands(statement) if name in known), default=0)
        if isinstance(statement, Reduce):
            known[statement.name] = at + 1
        elif not isinstance(statement, Store):
            known[statement.name] = at
        result[id(statement)] = at
    return result


def operands(statement: Statement) -> Iterator[str]:
    """The scalars that a statement needs."""
    match statement:
        case Compute():
            yield from statement.arguments
        case Reduce():
            yield statement.argument
        case Store():
            yield statement.value
            for place in statement.index:
                yield from place.variables
        case Load():
            for place in statement.index:
                yield from place.variables
        case IndexValue():
            yield from statement.expression.variables
        case _:
            pass
