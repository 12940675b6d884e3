"""Running results along an axis: cumsum."""

from __future__ import annotations

from graphc.ir.graph import Value
from graphc.operators.axes import normalize_axis
from graphc.operators.declare import Context, Operator, declare
from graphc.operators.inference import BrokenRuleError, DTypeFrame, ShapeFrame
from graphc.operators.parameters import DTYPE, INTEGER, Parameter, Parameters, optional
from graphc.primitives.builder import Builder


def running_sum(builder: Builder, x: Value, axis: int) -> Value:
    """The sum of all elements up to each, by doubling: after k rounds each holds the 2**k before it.

    log2 of the extent passes over the data, each elementwise; sums are as exact as in a tree.
    """
    extent = x.type.shape[axis]
    if not isinstance(extent, int):
        raise BrokenRuleError(
            f"axis {axis} has the symbolic size {extent}", help="cumsum needs an axis of fixed size"
        )
    zero = 0.0 if x.type.dtype.is_float else 0
    distance = 1
    while distance < extent:
        low = [0] * x.type.rank
        low[axis] = distance
        before = builder.slice_axis(x, axis, 0, extent - distance)
        shifted = builder.emit("pad", before, low=tuple(low), high=(0,) * x.type.rank, value=zero)
        x = builder.add(x, shifted)
        distance *= 2
    return x


def _cumsum(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    data = inputs[0]
    dtype = parameters.dtype or data.type.dtype
    # 16-bit sums of many elements keep the digits of f32.
    wide = builder.cast(data, dtype.compute)
    if parameters.axis is None:
        flat = builder.reshape(wide, (data.type.size,))
        return builder.cast(running_sum(builder, flat, 0), dtype)
    axis = normalize_axis(parameters.axis, data.type.rank)
    return builder.cast(running_sum(builder, wide, axis), dtype)


def _shapes(frame: ShapeFrame) -> None:
    if frame.parameters.axis is not None:
        frame.unify(("a",), "a and output have one shape")


def _dtypes(frame: DTypeFrame) -> None:
    if frame.parameters.dtype is None:
        frame.unify(("a",), "a and output have one element type")
    else:
        frame.expect_output(frame.parameters.dtype)


declare(
    Operator(
        "cumsum",
        "The sum of the elements of an axis up to each of them; of all elements in order without an axis.",
        _cumsum,
        parameters=(
            Parameter("axis", optional(INTEGER), "The axis; all elements, flattened, by default.", None),
            Parameter("dtype", optional(DTYPE), "Element type of the result and the sums.", None),
        ),
        arguments=("a",),
        shapes=_shapes,
        dtypes=_dtypes,
        aliases=("_np_cumsum",),
    )
)
