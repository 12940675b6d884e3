"""Fit the epilogue nest of a contraction to the dimensions of its result."""

from __future__ import annotations

from graphc.ir.graph import Node
from graphc.ir.kernel import Axis, Nest
from graphc.passes.fusion.index import NotAffine
from graphc.passes.fusion.lower import Lowered
from graphc.passes.fusion.simplify import (
    Joins,
    Shapes,
    can_merge,
    drop_unit_axes,
    merge_pair,
    number_axes,
    settle,
)
from graphc.types import same_dim


def fit_axes(nest: Nest, shapes: Shapes, anchor: Node) -> tuple[Nest, Shapes]:
    """The nest with one axis a dimension of the anchor's result, in order.

    Raises NotAffine when several axes of the nest make up one dimension and some access does not run through them
    contiguously; such an anchor cannot have this epilogue.
    """
    nest = drop_unit_axes(nest)
    joins: Joins = {}
    for position, dim in enumerate(anchor.output.type.shape):
        if isinstance(dim, int) and dim == 1:
            axes = (*nest.axes[:position], Axis(f"u{position}", 1), *nest.axes[position:])
            nest = Nest(axes, nest.body)
            continue
        while position < len(nest.axes) and not same_dim(nest.axes[position].extent, dim):
            if position + 1 >= len(nest.axes) or not can_merge(
                nest, shapes, *nest.axes[position : position + 2]
            ):
                raise NotAffine("the epilogue runs through the contraction's result in another order")
            nest = merge_pair(nest, nest.axes[position], nest.axes[position + 1], joins)
    if len(nest.axes) != anchor.output.type.rank:
        raise NotAffine("the epilogue has other axes than the contraction's result")
    (settled,), shapes = settle((nest,), shapes, joins)
    return number_axes(settled), shapes


def epilogue_fits(lowered: Lowered, anchor: Node) -> bool:
    """True when `fit_axes` can do with the nest, buffers still named by values."""
    values = {**lowered.sources, **lowered.targets}
    try:
        fit_axes(lowered.nest, {name: value.type.shape for name, value in values.items()}, anchor)
    except NotAffine:
        return False
    return True
