"""Simplify loop nests: drop axes of extent 1, merge adjacent axes that all accesses run through contiguously.

Buffers are dense, so a parameter may be declared with merged dimensions; printers then see few long axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from graphc.ir.kernel import Affine, Axis, IndexValue, Load, Nest, Random, Reduce, Statement, Store
from graphc.passes.fusion import index as ix
from graphc.passes.fusion.rewrite import map_nest, substitute
from graphc.types import Dim, Shape, dimension, product, same_dim

Shapes = dict[str, Shape]


def simplify(
    nests: tuple[Nest, ...], shapes: Shapes, fixed: frozenset[str] = frozenset()
) -> tuple[tuple[Nest, ...], Shapes]:
    """Simplified nests and the buffers' new shapes; axes of nests with buffers in `fixed` keep these' dimensions."""
    merged = tuple(merge_axes(drop_unit_axes(nest), shapes) for nest in nests)
    return settle(merged, shapes, fixed)


def drop_unit_axes(nest: Nest) -> Nest:
    """Without axes of extent 1; one reduction axis stays where something is reduced."""
    units = [axis for axis in nest.axes if axis.extent == 1]
    reduces = any(isinstance(statement, Reduce) for statement in nest.body)
    if reduces and all(axis.extent == 1 for axis in nest.reductions):
        units = [axis for axis in units if axis != nest.reductions[-1]]
    if not units:
        return nest
    body = substitute(nest, {axis.name: ix.ZERO for axis in units}).body
    return Nest(tuple(axis for axis in nest.axes if axis not in units), body)


def merge_axes(nest: Nest, shapes: Mapping[str, Shape]) -> Nest:
    """Merge neighbouring axes as often as possible; indices stay multi-dimensional and may now run past a dimension
    until `settle` merges the dimensions too.
    """
    position = 0
    while position + 1 < len(nest.axes):
        outer, inner = nest.axes[position], nest.axes[position + 1]
        if outer.reduction == inner.reduction and can_merge(nest, shapes, outer, inner):
            nest = merge_pair(nest, outer, inner)
        else:
            position += 1
    return nest


def can_merge(nest: Nest, shapes: Mapping[str, Shape], outer: Axis, inner: Axis) -> bool:
    seen: set[tuple[object, ...]] = set()
    for statement in nest.body:
        if isinstance(statement, (Load, Store)):
            key = (statement.buffer, statement.index)
            if key in seen:
                continue
            seen.add(key)
        for expression in linear_expressions(statement, shapes):
            a, b = expression.stride(outer.name), expression.stride(inner.name)
            if (a != 0 or b != 0) and not same_dim(a, dimension(b * inner.extent)):
                return False
    return True


def linear_expressions(statement: Statement, shapes: Mapping[str, Shape]) -> Iterator[Affine]:
    """The affine expressions of a statement, an access as one row-major number."""
    match statement:
        case Load() | Store():
            yield ix.flatten(statement.index, shapes[statement.buffer])
            for guard in statement.guards:
                yield guard.expression
        case IndexValue():
            yield statement.expression
        case Random():
            yield statement.index
        case _:
            pass


def merge_pair(nest: Nest, outer: Axis, inner: Axis) -> Nest:
    """One axis, named as the outer one, in place of two; the inner one's coefficient is the new one's.

    An access that has the two in different dimensions keeps the inner term alone: its row-major number is right.
    """
    merged = Axis(outer.name, dimension(outer.extent * inner.extent), outer.reduction)

    def expression(affine: Affine) -> Affine:
        if not any(name in (outer.name, inner.name) for name in affine.variables):
            return affine
        terms = [
            (outer.name if name == inner.name else name, s) for name, s in affine.terms if name != outer.name
        ]
        return Affine(affine.offset, tuple(terms))

    axes = tuple(merged if axis == outer else axis for axis in nest.axes if axis != inner)
    return replace(map_nest(nest, expression), axes=axes)


def settle(nests: tuple[Nest, ...], shapes: Shapes, fixed: frozenset[str]) -> tuple[tuple[Nest, ...], Shapes]:
    """Merge the dimensions of each buffer that an axis now runs across, in all its accesses."""
    joins: dict[str, set[int]] = {}
    for nest in nests:
        extents = {axis.name: axis.extent for axis in nest.axes}
        for statement in nest.body:
            if isinstance(statement, (Load, Store)):
                shape = shapes[statement.buffer]
                joins.setdefault(statement.buffer, set()).update(_crossed(statement.index, shape, extents))
    for name in fixed:
        joins.pop(name, None)
    shapes = dict(shapes)
    groups = {name: _groups(len(shapes[name]), joined) for name, joined in joins.items() if joined}

    def settled(statement: Statement) -> Statement:
        if not isinstance(statement, (Load, Store)) or statement.buffer not in groups:
            return statement
        old = shapes[statement.buffer]
        index = tuple(
            ix.flatten([statement.index[k] for k in group], [old[k] for k in group])
            for group in groups[statement.buffer]
        )
        return replace(statement, index=index)

    result = tuple(replace(nest, body=tuple(map(settled, nest.body))) for nest in nests)
    for name, cut in groups.items():
        shapes[name] = tuple(product(shapes[name][k] for k in group) for group in cut)
    return result, shapes


def _crossed(index: tuple[Affine, ...], shape: Shape, extents: Mapping[str, Dim]) -> Iterator[int]:
    """Dimensions d that must be merged with d - 1 because an axis runs past their size."""
    for d in range(len(index) - 1, 0, -1):
        span: Dim = 1
        for name, stride in index[d].terms:
            if name in extents and stride != 0:
                span = dimension(span + abs(stride) * (extents[name] - 1))
        if not _at_most(span, shape[d]):
            yield d
            yield from _above(index, shape, extents, d)


def _above(index: tuple[Affine, ...], shape: Shape, extents: Mapping[str, Dim], d: int) -> Iterator[int]:
    """Dimensions further out over which the axis in dimension d still runs."""
    names = [name for name in index[d].variables if name in extents]
    reach = max((dimension(extents[n] * abs(index[d].stride(n))) for n in names), key=_size, default=1)
    held: Dim = shape[d]
    while d > 1:
        held = dimension(held * shape[d - 1])
        d -= 1
        if _at_most(reach, held):
            return
        yield d


def _size(dim: Dim) -> int:
    return dim if isinstance(dim, int) else int(abs(dim.subs(dict.fromkeys(dim.free_symbols, 97))))


def _at_most(a: Dim, b: Dim) -> bool:
    return same_dim(a, b) or ix.is_less(a, b)


def _groups(rank: int, joined: set[int]) -> list[list[int]]:
    groups: list[list[int]] = []
    for d in range(rank):
        if d in joined and groups:
            groups[-1].append(d)
        else:
            groups.append([d])
    return groups
