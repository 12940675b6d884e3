"""Bringing a vector or the result of a reduction back to the shape that it is used in."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from graphc.ir.graph import Value
from graphc.primitives.builder import Builder
from graphc.types import Dim


def along_axis(builder: Builder, vector: Value, like: Value, axis: int) -> Value:
    """A vector broadcast to the shape of `like`, its elements along `axis`."""
    return builder.broadcast(vector, like.type.shape, (axis,))


def spread(builder: Builder, reduced: Value, shape: Sequence[Dim], axes: Collection[int]) -> Value:
    """The result of a reduction over `axes` of a tensor of that shape, broadcast back to it."""
    return builder.broadcast(reduced, shape, [axis for axis in range(len(shape)) if axis not in axes])


def reduce_and_spread(builder: Builder, name: str, x: Value, axes: Collection[int]) -> Value:
    """A reduction primitive over `axes`, in the shape of x."""
    return spread(builder, builder.reduce(name, x, axes), x.type.shape, axes)
