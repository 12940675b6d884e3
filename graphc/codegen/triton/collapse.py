"""Fewer, longer axes: addresses instead of indices, and axes that are always walked together merged into one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain, count

from graphc.ir.kernel import Affine, Axis, Guard, IndexValue, Load, Nest, Random, Statement, Store
from graphc.types import TensorType, row_major_strides, same_dim


def collapse(nest: Nest, types: Mapping[str, TensorType], *, keep_axes: bool = False) -> Nest:
    """The same nest with one-dimensional buffers, no axis of extent 1, adjacent axes merged where that is exact.

    Two axes merge when every expression of the nest steps through them as through one. `keep_axes` only makes the
    indices one-dimensional.
    """
    body = tuple(_with_addresses(statement, types) for statement in nest.body)
    nest = replace(nest, body=body)
    if keep_axes:
        return nest
    single = [axis for axis in nest.axes if axis.extent == 1]
    axes = tuple(axis for axis in nest.axes if axis.extent != 1)
    nest = Nest(axes, tuple(substitute(s, {axis.name: Affine(0) for axis in single}) for s in nest.body))
    while (pair := _mergeable(nest)) is not None:
        nest = _merge(nest, *pair)
    return _with_letters(nest)


def _with_letters(nest: Nest) -> Nest:
    """Axes by the letters of loop indices: i, j, k ... for parallel ones, r, s, t ... for reductions."""
    taken = {statement.name for statement in nest.body if not isinstance(statement, Store)}
    table: dict[str, str] = {}
    for kind, letters in ((nest.parallel, "ijklmn"), (nest.reductions, "rstuvw")):
        wanted = chain(letters, (f"{letters[0]}{number}" for number in count(2)))
        names = (name for name in wanted if name not in taken)
        table |= {axis.name: name for axis, name in zip(kind, names, strict=False)}
    # By way of names that no axis has, since the old and the new ones may overlap.
    away = {name: Affine.axis(f"axis {name}") for name in table}
    back = {f"axis {name}": Affine.axis(new) for name, new in table.items()}
    axes = tuple(replace(axis, name=table[axis.name]) for axis in nest.axes)
    return Nest(axes, tuple(substitute(substitute(s, away), back) for s in nest.body))


def expressions(nest: Nest) -> Iterator[Affine]:
    """Every index expression of the nest."""
    for statement in nest.body:
        yield from _expressions(statement)


def _expressions(statement: Statement) -> Iterator[Affine]:
    match statement:
        case Load() | Store():
            yield from statement.index
            yield from (guard.expression for guard in statement.guards)
        case IndexValue():
            yield statement.expression
        case Random():
            yield statement.index
        case _:
            return


def _with_addresses(statement: Statement, types: Mapping[str, TensorType]) -> Statement:
    if not isinstance(statement, (Load, Store)):
        return statement
    address = Affine(0)
    for index, stride in zip(statement.index, row_major_strides(types[statement.buffer].shape), strict=True):
        address = address + index.scale(stride)
    return replace(statement, index=(address,))


def substitute(statement: Statement, table: Mapping[str, Affine]) -> Statement:
    """The statement with axes replaced by expressions."""
    if not table:
        return statement
    match statement:
        case Load() | Store():
            return replace(
                statement,
                index=tuple(index.substitute(table) for index in statement.index),
                guards=tuple(
                    Guard(guard.expression.substitute(table), guard.low, guard.high)
                    for guard in statement.guards
                ),
            )
        case IndexValue():
            return replace(statement, expression=statement.expression.substitute(table))
        case Random():
            return replace(statement, index=statement.index.substitute(table))
        case _:
            return statement


def _mergeable(nest: Nest) -> tuple[Axis, Axis] | None:
    table = list(expressions(nest))
    for outer, inner in zip(nest.axes, nest.axes[1:], strict=False):
        if outer.reduction == inner.reduction and all(
            same_dim(e.stride(outer.name), e.stride(inner.name) * inner.extent) for e in table
        ):
            return outer, inner
    return None


def _merge(nest: Nest, outer: Axis, inner: Axis) -> Nest:
    merged = Axis(f"{outer.name}_{inner.name}", outer.extent * inner.extent, outer.reduction)
    axes = tuple(merged if axis is outer else axis for axis in nest.axes if axis is not inner)
    table = {outer.name: Affine(0), inner.name: Affine.axis(merged.name)}
    return Nest(axes, tuple(substitute(statement, table) for statement in nest.body))
