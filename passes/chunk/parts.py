"""Kernels over a part of the rows: the same loops with a shorter row axis, and sums that go on from part to part.

The first part of a sum over rows stores it, the parts between add to it, the last adds and does what the whole kernel
did with it. Parts are added in order, so the result does not depend on anything but the cut.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from graphc.ir.kernel import (
    Access,
    Affine,
    Anchor,
    Compute,
    Kernel,
    Load,
    Nest,
    Parameter,
    Random,
    Reduce,
    Statement,
    Store,
    expressions,
)
from graphc.passes.chunk.rows import Rows
from graphc.types import TensorType, dimension


class Position(enum.Enum):
    """Where a part lies among all of them."""

    FIRST = "first"
    BETWEEN = "between"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Sum:
    """Where the sums of one statement wait for the next part: a parameter of its own, or an output that holds them."""

    statement: str
    parameter: str
    type: TensorType
    own: bool


def running_sums(kernel: Kernel, rows: Rows) -> tuple[Sum, ...]:
    """The sums over rows that a kernel makes, by nest and in order."""
    found: list[Sum] = []
    taken = {parameter.name for parameter in kernel.parameters}
    for nest, axis in zip(kernel.nests, rows.axes, strict=True):
        if not _summed(nest, axis):
            continue
        for statement in nest.body:
            if isinstance(statement, (Reduce, Anchor)):
                home = _home(kernel, nest, statement)
                name, count = f"{statement.name}_rows", 1
                while name in taken:
                    name, count = f"{statement.name}_rows{count}", count + 1
                taken.add(name)
                type = TensorType(statement.dtype, tuple(axis.extent for axis in nest.parallel))
                found.append(Sum(statement.name, home or name, type, not home))
    return tuple(found)


def _summed(nest: Nest, axis: str | None) -> bool:
    return axis is None or any(a.name == axis for a in nest.reductions)


def _home(kernel: Kernel, nest: Nest, statement: Reduce | Anchor) -> str:
    """The output that is the sum itself, element for element."""
    place = tuple(Affine.axis(axis.name) for axis in nest.parallel)
    for store in nest.body:
        if isinstance(store, Store) and store.value == statement.name and not store.guards:
            parameter = kernel.parameter(store.buffer)
            plain = parameter.access is Access.OUT and parameter.type.dtype is statement.dtype
            if (
                plain
                and store.index == place
                and parameter.type.shape == tuple(a.extent for a in nest.parallel)
            ):
                return store.buffer
    return ""


def part_of(
    kernel: Kernel, rows: Rows, sums: Sequence[Sum], numerator: int, denominator: int, position: Position
) -> Kernel:
    """The kernel over numerator / denominator of its rows (whole numbers of them)."""
    table = {total.statement: total for total in sums}
    parameters = [
        replace(p, type=_shorter(p.type, numerator, denominator)) if p.name in rows.parameters else p
        for p in kernel.parameters
    ]
    nests = []
    for nest, axis in zip(kernel.nests, rows.axes, strict=True):
        axes = tuple(
            replace(a, extent=dimension(a.extent * numerator // denominator)) if a.name == axis else a
            for a in nest.axes
        )
        body = _continued(nest, table, rows, position) if _summed(nest, axis) else nest.body
        nests.append(Nest(axes, body))
    parameters += [Parameter(total.parameter, total.type, Access.OUT) for total in sums if total.own]
    anchor = kernel.anchor
    if anchor is not None and rows.result is not None:
        shape = list(anchor.result.shape)
        shape[rows.result] = dimension(shape[rows.result] * numerator // denominator)
        anchor = replace(anchor, result=replace(anchor.result, shape=tuple(shape)))
    name = f"{kernel.name}_{position.value}" if sums else kernel.name
    made = replace(kernel, name=name, nests=tuple(nests), anchor=anchor, parameters=tuple(parameters))
    return replace(made, parameters=_accessed(made))


def _shorter(type: TensorType, numerator: int, denominator: int) -> TensorType:
    first, *rest = type.shape
    return replace(type, shape=(dimension(first * numerator // denominator), *rest))


def _continued(nest: Nest, sums: Mapping[str, Sum], rows: Rows, position: Position) -> tuple[Statement, ...]:
    """The body of a summing nest for one part."""
    place = tuple(Affine.axis(axis.name) for axis in nest.parallel)
    body: list[Statement] = []
    homes = {total.parameter for total in sums.values()}
    for statement in nest.body:
        if not isinstance(statement, (Reduce, Anchor)):
            if position is Position.LAST or not (isinstance(statement, Store) and statement.buffer in homes):
                body.append(statement)
            continue
        total = sums[statement.name]
        if position is Position.FIRST:
            body += [statement, Store(total.parameter, place, statement.name, (), statement.origins)]
            continue
        before, part = f"{statement.name}_before", f"{statement.name}_part"
        body += [
            Load(before, statement.dtype, total.parameter, place, (), 0, statement.origins),
            replace(statement, name=part),
            Compute(statement.name, statement.dtype, "add", (before, part), statement.origins),
        ]
        if position is Position.BETWEEN:
            body.append(Store(total.parameter, place, statement.name, (), statement.origins))
    if position is Position.LAST:
        return tuple(body)
    # What is done with the finished sum waits for the last part; rows written on the way are written in each.
    stores = [s for s in body if isinstance(s, Store) and (s.buffer in homes or s.buffer in rows.parameters)]
    return _needed(body, list(dict.fromkeys(stores)))


def _needed(body: Sequence[Statement], stores: Sequence[Store]) -> tuple[Statement, ...]:
    """The stores and what they need."""
    wanted = {store.value for store in stores}
    for store in stores:
        wanted |= {v for e in store.index for v in e.variables}
    kept: list[Statement] = []
    for statement in reversed(body):
        if isinstance(statement, Store):
            if statement in stores and statement not in kept:
                kept.append(statement)
            continue
        if statement.name not in wanted:
            continue
        kept.append(statement)
        wanted |= _reads(statement)
    return tuple(reversed(kept))


def _reads(statement: Statement) -> set[str]:
    names = {v for expression, _ in expressions(statement) for v in expression.variables}
    match statement:
        case Compute():
            names |= set(statement.arguments)
        case Reduce():
            names.add(statement.argument)
        case _:
            pass
    return names


def _accessed(kernel: Kernel) -> tuple[Parameter, ...]:
    """The parameters that the kernel still uses, with how it does."""
    read = set(kernel.anchor.operands) if kernel.anchor is not None else set()
    written: set[str] = set()
    for nest in kernel.nests:
        for statement in nest.body:
            if isinstance(statement, (Load, Random)):
                read.add(statement.buffer)
            elif isinstance(statement, Store):
                written.add(statement.buffer)
    kinds = {(True, True): Access.INOUT, (True, False): Access.IN, (False, True): Access.OUT}
    return tuple(
        replace(p, access=kinds[p.name in read, p.name in written])
        for p in kernel.parameters
        if p.name in read | written
    )
