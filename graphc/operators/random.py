"""Operators that draw random numbers: Dropout, uniform and normal tensors."""

from __future__ import annotations

import math
from collections.abc import Collection

from graphc.ir.graph import Value
from graphc.operators.axes import normalize_axis
from graphc.operators.declare import Context, Operator, declare
from graphc.operators.inference import fixed_output_dtype, forward_only, same_shape_rule
from graphc.operators.parameters import DTYPE, Parameter, Parameters, choice, ignored, integers, number
from graphc.primitives.builder import Builder
from graphc.types import DType


def _dropout(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    """Return x * mask / keep in training, so that the expected value stays (inverted dropout)."""
    (x,) = inputs
    if not (context.is_train or parameters.mode == "always"):
        return x
    shared = {normalize_axis(axis, x.type.rank) for axis in parameters.axes}
    return dropped(builder, x, parameters.p, context, shared)


def dropped(
    builder: Builder, x: Value, p: float, context: Context, shared: Collection[int] = frozenset()
) -> Value:
    """The value with elements dropped with probability p and the others scaled; `shared` axes have one draw."""
    keep = 1.0 - p
    if keep == 1.0:
        return x
    if keep == 0.0:
        return builder.mul(x, 0.0)
    shape = tuple(1 if axis in shared else dim for axis, dim in enumerate(x.type.shape))
    kept = builder.lt(context.random_uniform(builder, shape), keep)
    mask = builder.mul(builder.cast(kept, x.type.dtype), 1.0 / keep)
    return builder.mul(x, mask)


declare(
    Operator(
        "Dropout",
        "In training, sets elements to zero with probability p and divides the others by 1 - p.",
        _dropout,
        parameters=(
            number("p", "Probability that an element is dropped.", 0.5, minimum=0.0, maximum=1.0),
            choice("mode", "When to drop.", ("always", "training"), "training"),
            integers("axes", "Axes that share one draw (variational dropout).", ()),
            ignored("cudnn_off"),
        ),
        shapes=same_shape_rule,
    )
)


_SHAPE = integers("shape", "Shape of the result.", minimum=1)
_DTYPE = Parameter("dtype", DTYPE, "Element type of the result.", DType.F32)


def _uniform(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    uniform = context.random_uniform(builder, parameters.shape)
    scaled = builder.add(builder.mul(uniform, parameters.high - parameters.low), parameters.low)
    return builder.cast(scaled, parameters.dtype)


def _normal(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    """The Box-Muller transform; 1 - u lies in (0, 1], where the logarithm is finite."""
    first = builder.add(builder.neg(context.random_uniform(builder, parameters.shape)), 1.0)
    angle = builder.mul(context.random_uniform(builder, parameters.shape), 2.0 * math.pi)
    radius = builder.sqrt(builder.mul(builder.log(first), -2.0))
    normal = builder.mul(radius, builder.cos(angle))
    return builder.cast(builder.add(builder.mul(normal, parameters.scale), parameters.loc), parameters.dtype)


declare(
    Operator(
        "_random_uniform",
        "Random numbers, uniform in [low, high).",
        _uniform,
        parameters=(number("low", "Lower bound.", 0.0), number("high", "Upper bound.", 1.0), _SHAPE, _DTYPE),
        arguments=(),
        shapes=forward_only,
        dtypes=fixed_output_dtype("dtype"),
        aliases=("random_uniform", "uniform"),
    )
)
declare(
    Operator(
        "_random_normal",
        "Random numbers of the normal distribution.",
        _normal,
        parameters=(number("loc", "Mean.", 0.0), number("scale", "Standard deviation.", 1.0), _SHAPE, _DTYPE),
        arguments=(),
        shapes=forward_only,
        dtypes=fixed_output_dtype("dtype"),
        aliases=("random_normal", "normal"),
    )
)
