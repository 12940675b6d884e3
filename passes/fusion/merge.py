"""Merge two spaces that touch one value at matching positions, so that it is read once or not stored at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphc.ir.graph import Value
from graphc.ir.kernel import Affine
from graphc.passes.fusion import index as ix
from graphc.passes.fusion.reach import Reachability
from graphc.passes.fusion.space import Access, Sink, Space, Substitution
from graphc.passes.limits import FusionOptions
from graphc.types import product, same_dim


class UnmergeableError(Exception):
    """Two spaces may not become one; the message is the reason in plain words."""


@dataclass(slots=True)
class _Rewritten:
    """A space's tables in the axes of another one."""

    accesses: dict[str, list[Access]]
    bindings: dict[str, tuple[Affine, ...]]
    sinks: list[Sink]
    rows: dict[str, tuple[Affine, ...]]


def merge_spaces(
    a: Space, b: Space, value: Value, reach: Reachability, options: FusionOptions
) -> Space | str:
    """Move one space into the other, matched at their accesses to `value`; return the one that stays, or the reason."""
    into, other = (a, b) if _rank(a) >= _rank(b) else (b, a)
    try:
        _check_limits(into, other, options)
        if reach.has_detour(into.number, other.number) or reach.has_detour(other.number, into.number):
            raise UnmergeableError("a third kernel must run between the two")
        table = _matched(into, other, value)
        _check_rows(into, other, value, options)
        rewritten = _rewrite(other, table)
        _check_conflicts(into, other, rewritten)
    except UnmergeableError as reason:
        return str(reason)
    except ix.NotAffineError as reason:
        return str(reason)
    _move(into, other, rewritten)
    return into


def _rank(space: Space) -> tuple[bool, bool, int]:
    return space.anchor is not None, bool(space.reduction), len(space.members)


def _check_limits(into: Space, other: Space, options: FusionOptions) -> None:
    if other.anchor is not None:
        raise UnmergeableError("each has a contraction of its own")
    if into.anchor is not None and other.reduction:
        raise UnmergeableError("the epilogue of a contraction holds no reduction")
    if len(into.members) + len(other.members) > options.max_nodes:
        raise UnmergeableError(f"together they have more than {options.max_nodes} nodes")
    if into.guards or other.guards:
        raise UnmergeableError("one of them runs past the end of an axis")


def _matched(into: Space, other: Space, value: Value) -> Mapping[str, Affine]:
    """The axes of `other` in those of `into`, splitting axes of `into` where needed."""
    while True:
        try:
            return _match(into, other, value)
        except ix.SplitNeededError as need:
            if into.anchor is not None:
                raise UnmergeableError("the axes of a contraction's result would be cut") from None
            into.split(need.axis, need.inner)


def _match(into: Space, other: Space, value: Value) -> Mapping[str, Affine]:
    (goal,), (source,) = into.accesses[value.name], other.accesses[value.name]
    table: dict[str, Affine] = {name: ix.ZERO for name in other.axes if other.extents[name] == 1}
    for place, found in zip(source.index, goal.index, strict=True):
        names = [name for name, _ in sorted(place.terms, key=lambda t: ix._order(t[1]), reverse=True)]
        if len(names) == 1:
            table[names[0]] = found
        elif names:
            shape = [other.extents[name] for name in names]
            table.update(zip(names, ix.unflatten(found, shape, into.extents), strict=True))
    if other.reduction:
        _match_reductions(into, other, table)
    return table


def _match_reductions(into: Space, other: Space, table: dict[str, Affine]) -> None:
    missing = [name for name in other.reductions if name not in table]
    if missing:
        _match_by_order(into, other, table)
    for name in other.axes:
        inside = set(table[name].variables) if name in table else set()
        if not inside <= (into.reduction if name in other.reduction else set(into.parallel)):
            raise UnmergeableError("they reduce over different axes")


def _match_by_order(into: Space, other: Space, table: dict[str, Affine]) -> None:
    ours = [into.extents[name] for name in into.reductions]
    theirs = [other.extents[name] for name in other.reductions]
    if not ours or not same_dim(product(ours), product(theirs)):
        raise UnmergeableError("they reduce over different numbers of elements")
    number = ix.flatten([Affine.axis(name) for name in into.reductions], ours)
    table.update(zip(other.reductions, ix.unflatten(number, theirs, into.extents), strict=True))


def _check_rows(into: Space, other: Space, value: Value, options: FusionOptions) -> None:
    """A space without reductions that runs over whole rows of the other: that needs short rows, and enough of them."""
    if not into.reduction or other.reduction or into.level(value) != "full":
        return
    row = options.elements(into.extents[name] for name in into.reductions)
    rows = options.elements(into.extents[name] for name in into.parallel)
    if rows < options.min_parallel and row * rows > options.max_serial_elements:
        raise UnmergeableError("too few rows to share out")
    follows = any(sink.target.name in other.accesses for sink in into.sinks)
    if follows and row > options.max_row_elements:
        raise UnmergeableError("the row is too long to compute it and its readers in one pass")


def _rewrite(space: Space, table: Mapping[str, Affine]) -> _Rewritten:
    rewrite = Substitution(table)
    return _Rewritten(
        {name: [rewrite.access(a) for a in known] for name, known in space.accesses.items()},
        {name: rewrite.index(found) for name, found in space.bindings.items()},
        [rewrite.sink(sink) for sink in space.sinks],
        {name: rewrite.index(found) for name, found in space.rows.items()},
    )


def _check_conflicts(into: Space, other: Space, rewritten: _Rewritten) -> None:
    """What one stores the other may read only at the point that stores it."""
    if not all(into.runs_along(row) for row in rewritten.rows.values()):
        raise UnmergeableError("one belongs to the rows of a reduction along other axes")
    for sinks, accesses, whole in (
        (rewritten.sinks, into.accesses, into.whole),
        (into.sinks, rewritten.accesses, other.whole),
    ):
        for sink in sinks:
            name = sink.target.name
            if name in whole:
                raise UnmergeableError("one reads all of what the other writes")
            if name in accesses and (name != sink.value.name or accesses[name] != [sink.access]):
                raise UnmergeableError("one reads what the other writes at another point")
    if other.reduction and not _share_rows(into, rewritten):
        raise UnmergeableError("they read nothing in common along their reductions")


def _share_rows(into: Space, rewritten: _Rewritten) -> bool:
    return any(
        access in into.accesses.get(name, ()) and access.variables & into.reduction
        for name, known in rewritten.accesses.items()
        for access in known
    )


def _move(into: Space, other: Space, rewritten: _Rewritten) -> None:
    for name, known in rewritten.accesses.items():
        ours: Sequence[Access] = into.accesses.setdefault(name, [])
        into.accesses[name] = [*ours, *(access for access in known if access not in ours)]
    into.bindings.update(rewritten.bindings)
    into.rows.update(rewritten.rows)
    into.members.update(other.members)
    into.whole.update(other.whole)
    into.moved.update(other.moved)
    targets = {(sink.target.name, sink.index) for sink in into.sinks}
    into.sinks += [sink for sink in rewritten.sinks if (sink.target.name, sink.index) not in targets]
