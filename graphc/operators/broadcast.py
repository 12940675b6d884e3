"""Operators that stretch, repeat, turn round or pad a tensor: broadcast_to, tile, repeat, reverse, Pad."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.graph import Value
from graphc.operators.axes import normalize_axes, normalize_axis
from graphc.operators.declare import Context, Operator, declare
from graphc.operators.inference import BrokenRuleError, same_dtype_but, same_shape_rule
from graphc.operators.parameters import (
    INTEGER,
    Parameter,
    Parameters,
    choice,
    ignored,
    integer,
    integers,
    number,
    optional,
)
from graphc.primitives.builder import Builder
from graphc.types import Dim, dimension, format_dim, same_dim


def _stretch(builder: Builder, x: Value, target: Sequence[Dim]) -> Value:
    """Return x broadcast to a shape of the same rank; each axis is equal there, or 1."""
    for axis, (dim, wanted) in enumerate(zip(x.type.shape, target, strict=True)):
        if dim != 1 and not same_dim(dim, wanted):
            raise BrokenRuleError(
                f"axis {axis} has {format_dim(dim)} elements and cannot have {format_dim(wanted)}",
                help="only an axis of 1 can be broadcast",
            )
    return builder.broadcast_to(x, tuple(target))


def _broadcast_to(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    x, shape = inputs[0], parameters.shape
    if len(shape) != x.type.rank:
        raise BrokenRuleError(f"shape {shape} has {len(shape)} axes and data {x.type.rank}")
    return _stretch(builder, x, [wanted or dim for dim, wanted in zip(x.type.shape, shape, strict=True)])


declare(
    Operator(
        "broadcast_to",
        "Stretches axes of size 1.",
        _broadcast_to,
        parameters=(integers("shape", "Shape of the result; 0 keeps a dimension.", minimum=0),),
    )
)


def _broadcast_axis(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    x, axes, sizes = inputs[0], parameters.axis, parameters.size
    if len(axes) != len(sizes):
        raise BrokenRuleError(f"axis {axes} and size {sizes} have different lengths")
    target = list(x.type.shape)
    for axis, size in zip(axes, sizes, strict=True):
        target[normalize_axis(axis, x.type.rank)] = size
    return _stretch(builder, x, target)


declare(
    Operator(
        "broadcast_axis",
        "Stretches the axes named, which have size 1.",
        _broadcast_axis,
        parameters=(integers("axis", "The axes.", ()), integers("size", "Their sizes.", (), minimum=1)),
        aliases=("broadcast_axes",),
    )
)


def _broadcast_like(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    x, like = inputs
    if x.type.rank != like.type.rank:
        raise BrokenRuleError("operands must have the same number of axes")
    return _stretch(builder, x, like.type.shape)


declare(
    Operator(
        "broadcast_like",
        "Stretches axes of size 1 to the shape of rhs.",
        _broadcast_like,
        arguments=("lhs", "rhs"),
        dtypes=same_dtype_but("rhs"),
    )
)


# Repeating


def _tile(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    x, reps = inputs[0], parameters.reps
    rank = max(x.type.rank, len(reps))
    shape = (*(1,) * (rank - x.type.rank), *x.type.shape)
    counts = (*(1,) * (rank - len(reps)), *reps)
    return repeated(builder, builder.reshape(x, shape), counts, before=True)


def repeated(builder: Builder, x: Value, counts: Sequence[int], before: bool) -> Value:
    """Each axis repeated as a whole (before) or element by element, by a broadcast over a new axis beside it."""
    wide: list[Dim] = []
    axes = []
    for dim, count in zip(x.type.shape, counts, strict=True):
        pair = (count, dim) if before else (dim, count)
        axes.append(len(wide) + (count != 1 and before))
        wide += pair if count != 1 else (dim,)
    result = [dimension(dim * count) for dim, count in zip(x.type.shape, counts, strict=True)]
    return builder.reshape(builder.broadcast(x, wide, axes), result)


declare(
    Operator(
        "tile",
        "The tensor repeated as a whole along each axis.",
        _tile,
        parameters=(integers("reps", "Number of copies along each trailing axis.", minimum=1),),
    )
)


def _repeat(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    x = inputs[0]
    if parameters.axis is None:
        x = builder.reshape(x, (x.type.size,))
    axis = normalize_axis(parameters.axis or 0, x.type.rank)
    counts = [parameters.repeats if k == axis else 1 for k in range(x.type.rank)]
    return repeated(builder, x, counts, before=False)


declare(
    Operator(
        "repeat",
        "Each element repeated along an axis.",
        _repeat,
        parameters=(
            integer("repeats", "Number of copies of each element.", minimum=1),
            Parameter("axis", optional(INTEGER), "The axis; all elements in one row by default.", None),
        ),
    )
)


def _reverse(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    x = inputs[0]
    return builder.emit("reverse", x, axes=normalize_axes(parameters.axis, x.type.rank))


declare(
    Operator(
        "reverse",
        "The order of elements reversed along axes.",
        _reverse,
        parameters=(integers("axis", "The axes."),),
        shapes=same_shape_rule,
        aliases=("flip",),
    )
)


def _up_sampling(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    x = inputs[0]
    if x.type.rank != 4:
        raise BrokenRuleError("data needs batch, channels, rows and columns")
    return repeated(builder, x, (1, 1, parameters.scale, parameters.scale), before=False)


declare(
    Operator(
        "UpSampling",
        "Each pixel of [batch, channels, rows, columns] repeated along rows and columns (nearest neighbour).",
        _up_sampling,
        parameters=(
            integer("scale", "Number of copies along each axis.", minimum=1),
            choice("sample_type", "How new pixels are made.", ("nearest",)),
            ignored("num_args"),
            ignored("workspace"),
        ),
    )
)


# Pad


def _pad(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    x, width = inputs[0], parameters.pad_width
    if len(width) != 2 * x.type.rank:
        raise BrokenRuleError(
            f"pad_width {width} has not two numbers for each of the {x.type.rank} axes of data"
        )
    low, high = width[0::2], width[1::2]
    if parameters.mode == "constant":
        dtype = x.type.dtype
        value = float(parameters.constant_value) if dtype.is_float else int(parameters.constant_value)
        return builder.emit("pad", x, low=low, high=high, value=value) if any(width) else x
    for axis, (before, after) in enumerate(zip(low, high, strict=True)):
        x = _extended(builder, x, axis, before, after, parameters.mode)
    return x


def _extended(builder: Builder, x: Value, axis: int, before: int, after: int, mode: str) -> Value:
    """One axis padded with its end elements, or with the elements next to them in reverse."""
    size = x.type.shape[axis]
    if mode == "reflect" and isinstance(size, int) and max(before, after) >= size:
        raise BrokenRuleError(f"axis {axis} has {size} elements and cannot reflect {max(before, after)}")
    parts = [x]
    if before:
        parts.insert(0, _border(builder, x, axis, 0, before, mode))
    if after:
        parts.append(_border(builder, x, axis, dimension(size - 1), after, mode))
    return builder.emit("concat", *parts, axis=axis) if len(parts) > 1 else x


def _border(builder: Builder, x: Value, axis: int, edge: Dim, count: int, mode: str) -> Value:
    if mode == "edge":
        end = builder.slice_axis(x, axis, edge, dimension(edge + 1))
        return builder.broadcast_to(end, [count if k == axis else dim for k, dim in enumerate(x.type.shape)])
    start = 1 if edge == 0 else dimension(edge - count)
    return builder.emit("reverse", builder.slice_axis(x, axis, start, dimension(start + count)), axes=(axis,))


declare(
    Operator(
        "Pad",
        "Elements added around a tensor: a constant, its edge, or its reflection.",
        _pad,
        parameters=(
            choice("mode", "What is added.", ("constant", "edge", "reflect")),
            integers("pad_width", "Elements before and after, for each axis in turn.", minimum=0),
            number("constant_value", "The constant.", 0.0),
        ),
        aliases=("pad",),
    )
)
