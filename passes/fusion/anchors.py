"""Fit the epilogue nest of a contraction to the dimensions of its result."""

from __future__ import annotations

from graphc.ir.graph import Node
from graphc.ir.kernel import Axis, Nest
from graphc.passes.fusion.index import NotAffineError, exact_quotient
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
from graphc.types import Dim, Shape, same_dim

_MISFIT = "the epilogue runs through the contraction's result in another order"


def fit_axes(nest: Nest, shapes: Shapes, anchor: Node) -> tuple[Nest, Shapes]:
    """The nest with one axis a dimension of the anchor's result, in order; a dot may have its batch axes cut finer.

    Raises NotAffineError when several axes of the nest make up one dimension and some access does not run through them
    contiguously; such an anchor cannot have this epilogue.
    """
    nest = drop_unit_axes(nest)
    joins: Joins = {}
    position = 0
    for number, dim in enumerate(anchor.output.type.shape):
        if isinstance(dim, int) and dim == 1:
            axes = (*nest.axes[:position], Axis(f"u{position}", 1), *nest.axes[position:])
            nest, position = Nest(axes, nest.body), position + 1
        else:
            nest, position = _fit(nest, shapes, joins, position, dim, number < batch_axes(anchor))
    if len(nest.axes) != position:
        raise NotAffineError(_MISFIT)
    (settled,), shapes = settle((nest,), shapes, joins)
    return number_axes(settled), shapes


def _fit(nest: Nest, shapes: Shapes, joins: Joins, position: int, dim: Dim, batch: bool) -> tuple[Nest, int]:
    """Merge axes from a position on until they make up a dimension; the nest and the position behind them."""
    while position < len(nest.axes) and not same_dim(nest.axes[position].extent, dim):
        if position + 1 >= len(nest.axes):
            raise NotAffineError(_MISFIT)
        outer, inner = nest.axes[position : position + 2]
        rest = exact_quotient(dim, outer.extent)
        if can_merge(nest, shapes, outer, inner):
            nest = merge_pair(nest, outer, inner, joins)
        elif batch and rest is not None:
            dim, position = rest, position + 1
        else:
            raise NotAffineError(_MISFIT)
    return nest, position + 1


def batch_axes(anchor: Node) -> int:
    """How many leading axes an anchor and all its operands share, one product for each index."""
    return anchor.output.type.rank - 2 if anchor.primitive == "dot" else 0


def with_batch(shape: Shape, anchor: Node, nest: Nest) -> Shape:
    """An operand's or result's shape with the batch axes of the fitted nest."""
    own = batch_axes(anchor)
    extra = len(nest.axes) - anchor.output.type.rank
    return (*(axis.extent for axis in nest.axes[: own + extra]), *shape[own:]) if extra else shape


def epilogue_fits(lowered: Lowered, anchor: Node) -> bool:
    """True when `fit_axes` can do with the nest, buffers still named by values, or the anchor has no epilogue."""
    if not lowered.nest.body:
        return True
    values = {**lowered.sources, **lowered.targets}
    try:
        fit_axes(lowered.nest, {name: value.type.shape for name, value in values.items()}, anchor)
    except NotAffineError:
        return False
    return True
