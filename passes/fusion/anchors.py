"""Fit the epilogue nest of a contraction to the dimensions of its result."""

from __future__ import annotations

from graphc.ir.graph import Node
from graphc.ir.kernel import Axis, Nest
from graphc.passes.fusion.index import NotAffine
from graphc.passes.fusion.simplify import Shapes, can_merge, merge_pair, settle
from graphc.types import dimension, same_dim


def fit_axes(nest: Nest, shapes: Shapes, anchor: Node) -> tuple[Nest, Shapes]:
    """The nest with one axis a dimension of the anchor's result, in order.

    Raises NotAffine when two axes of the nest make up one dimension and some access does not run through both
    contiguously; such an anchor cannot have this epilogue.
    """
    axes = list(nest.axes)
    for position, dim in enumerate(anchor.output.type.shape):
        if isinstance(dim, int) and dim == 1:
            if position >= len(axes) or axes[position].extent != 1:
                axes.insert(position, Axis(f"u{position}", 1))
                nest = Nest(tuple(axes), nest.body)
            continue
        while not same_dim(axes[position].extent, dim):
            if position + 1 >= len(axes) or not can_merge(nest, shapes, axes[position], axes[position + 1]):
                raise NotAffine("the epilogue runs through the contraction's result in another order")
            nest = merge_pair(nest, axes[position], axes[position + 1])
            axes = list(nest.axes)
            assert isinstance(dimension(axes[position].extent), object)
    if len(nest.axes) != anchor.output.type.rank:
        raise NotAffine("the epilogue has other axes than the contraction's result")
    (settled,), shapes = settle((nest,), shapes, frozenset())
    return settled, shapes
