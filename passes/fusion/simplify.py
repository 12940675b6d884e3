"""Simplify loop nests: drop axes of extent 1, merge adjacent axes that all accesses run through contiguously.

Buffers are dense, so a parameter may be declared with merged dimensions; printers then see few long axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from graphc.ir.kernel import Affine, Axis, IndexValue, Load, Nest, Random, Reduce, Statement, Store
from graphc.passes.fusion import index as ix
from graphc.passes.fusion.rewrite import map_nest, rename_axes, substitute
from graphc.types import Shape, dimension, product, same_dim

Shapes = dict[str, Shape]
Joins = dict[str, set[int]]
"""For each buffer, the dimensions that must be merged with the one before."""


def simplify(nests: tuple[Nest, ...], shapes: Shapes) -> tuple[tuple[Nest, ...], Shapes]:
    """Simplified nests, and the shapes under which they see their buffers."""
    joins: Joins = {}
    merged = tuple(merge_axes(drop_unit_axes(nest), shapes, joins) for nest in nests)
    settled, shapes = settle(merged, shapes, joins)
    return tuple(map(number_axes, settled)), shapes


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


def merge_axes(nest: Nest, shapes: Mapping[str, Shape], joins: Joins) -> Nest:
    """Merge neighbouring axes as often as possible.

    `joins` receives the dimensions that the merged axes run across; `settle` must merge these.
    """
    position = 0
    while position + 1 < len(nest.axes):
        outer, inner = nest.axes[position], nest.axes[position + 1]
        if outer.reduction == inner.reduction and can_merge(nest, shapes, outer, inner):
            nest = merge_pair(nest, outer, inner, joins)
        else:
            position += 1
    return nest


def can_merge(nest: Nest, shapes: Mapping[str, Shape], outer: Axis, inner: Axis) -> bool:
    """True when every expression steps by the outer axis as by the inner one's extent."""
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


def merge_pair(nest: Nest, outer: Axis, inner: Axis, joins: Joins) -> Nest:
    """One axis, named as the outer one, in place of two; the inner one's coefficient is the new one's.

    An access that has the two in different dimensions keeps the inner term alone, which then runs across them.
    """
    merged = Axis(outer.name, dimension(outer.extent * inner.extent), outer.reduction)
    for statement in nest.body:
        if isinstance(statement, (Load, Store)):
            places = [
                d
                for d, at in enumerate(statement.index)
                for n in at.variables
                if n in (outer.name, inner.name)
            ]
            if places:
                joins.setdefault(statement.buffer, set()).update(range(min(places) + 1, max(places) + 1))

    def expression(affine: Affine) -> Affine:
        if not any(name in (outer.name, inner.name) for name in affine.variables):
            return affine
        terms = [
            (outer.name if name == inner.name else name, s) for name, s in affine.terms if name != outer.name
        ]
        return Affine(affine.offset, tuple(terms))

    axes = tuple(merged if axis == outer else axis for axis in nest.axes if axis != inner)
    return replace(map_nest(nest, expression), axes=axes)


def settle(nests: tuple[Nest, ...], shapes: Shapes, joins: Joins) -> tuple[tuple[Nest, ...], Shapes]:
    """Merge dimensions of buffers in all accesses."""
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


def _groups(rank: int, joined: set[int]) -> list[list[int]]:
    groups: list[list[int]] = []
    for d in range(rank):
        if d in joined and groups:
            groups[-1].append(d)
        else:
            groups.append([d])
    return groups


def number_axes(nest: Nest) -> Nest:
    """Axes named i0, i1 ... and r0, r1 ... in order."""
    table: dict[str, str] = {}
    for prefix, axes in (("i", nest.parallel), ("r", nest.reductions)):
        table.update((axis.name, f"{prefix}{k}") for k, axis in enumerate(axes))
    return rename_axes(nest, table)
