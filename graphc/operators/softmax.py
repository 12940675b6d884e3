"""Softmax and what is made of it."""

from __future__ import annotations

from graphc.ir.graph import Value
from graphc.operators.broadcasting import reduce_and_spread, spread
from graphc.primitives.builder import Builder


def shifted(builder: Builder, x: Value, axis: int) -> Value:
    """Return x - max over an axis; the maximum carries no gradient, since it cancels."""
    greatest = builder.stop_gradient(builder.reduce("reduce_max", x, (axis,)))
    return builder.sub(x, spread(builder, greatest, x.type.shape, (axis,)))


def softmax(builder: Builder, x: Value, axis: int) -> Value:
    """exp(x - max) / sum exp(x - max), in f32 for 16-bit floats."""
    dtype = x.type.dtype
    powers = builder.exp(shifted(builder, builder.cast(x, dtype.compute), axis))
    return builder.cast(builder.div(powers, reduce_and_spread(builder, "reduce_sum", powers, (axis,))), dtype)


def log_softmax(builder: Builder, x: Value, axis: int) -> Value:
    """Return x - max - log sum exp(x - max), in f32 for 16-bit floats."""
    dtype = x.type.dtype
    low = shifted(builder, builder.cast(x, dtype.compute), axis)
    total = builder.log(builder.reduce("reduce_sum", builder.exp(low), (axis,)))
    return builder.cast(builder.sub(low, spread(builder, total, x.type.shape, (axis,))), dtype)
