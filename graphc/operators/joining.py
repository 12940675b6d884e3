"""Operators that join tensors and cut them: Concat, stack, SliceChannel, slices."""

from __future__ import annotations

from graphc.ir.graph import Value
from graphc.operators.axes import normalize_axes, normalize_axis
from graphc.operators.declare import Composition, Context, Operator, declare
from graphc.operators.inference import BrokenRuleError, ShapeFrame, is_known, same_dtype_but
from graphc.operators.parameters import (
    COUNT,
    INTEGER,
    PARTIAL_INTEGERS,
    Parameter,
    Parameters,
    boolean,
    integer,
    integers,
    optional,
)
from graphc.primitives.builder import Builder
from graphc.types import Dim, dimension, floor_divide, format_dim, same_dim

# Joining


def _concat(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    axis = normalize_axis(parameters.dim, inputs[0].type.rank)
    return builder.emit("concat", *inputs, axis=axis) if len(inputs) > 1 else inputs[0]


def _concat_shapes(frame: ShapeFrame) -> None:
    """Inputs agree in all axes but one, where the output has their sum."""
    known = [shape for shape in (*frame.cells, frame.outputs[0]) if shape is not None]
    if not known:
        return
    axis = normalize_axis(frame.parameters.dim, len(known[0]))
    rest: tuple[Dim, ...] = (0,) * len(known[0])
    for _ in range(2):
        for name in frame.names:
            frame.expect(name, rest, f"inputs must agree in all axes but axis {axis}")
            shape = frame[name]
            assert shape is not None
            rest = (*shape[:axis], 0, *shape[axis + 1 :])
    parts = [shape[axis] if shape is not None else 0 for shape in frame.cells]
    total = dimension(sum(parts)) if all(map(is_known, parts)) else 0
    frame.expect_output((*rest[:axis], total, *rest[axis + 1 :]))


declare(
    Operator(
        "Concat",
        "Joins tensors along an axis.",
        _concat,
        parameters=(integer("dim", "The axis.", 1), COUNT),
        counted="num_args",
        shapes=_concat_shapes,
        aliases=("concat",),
    )
)


def _stack(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    shape = inputs[0].type.shape
    axis = normalize_axis(parameters.axis, len(shape) + 1)
    parts = [builder.reshape(value, (*shape[:axis], 1, *shape[axis:])) for value in inputs]
    return builder.emit("concat", *parts, axis=axis) if len(parts) > 1 else parts[0]


def _stack_shapes(frame: ShapeFrame) -> None:
    frame.unify(frame.names, "inputs must have one shape", outputs=False)


declare(
    Operator(
        "stack",
        "Joins tensors along a new axis.",
        _stack,
        parameters=(integer("axis", "Where the new axis stands in the result.", 0), COUNT),
        counted="num_args",
        shapes=_stack_shapes,
    )
)


# Cutting


def _split(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Composition:
    x, count = inputs[0], parameters.num_outputs
    axis = normalize_axis(parameters.axis, x.type.rank)
    size = x.type.shape[axis]
    part = floor_divide(size, count)
    if not same_dim(part * count, size):
        raise BrokenRuleError(
            f"axis {axis} has {format_dim(size)} elements, which do not divide into {count} parts"
        )
    if parameters.squeeze_axis and part != 1:
        raise BrokenRuleError(f"squeeze_axis needs parts of size 1, and they have {format_dim(part)}")
    parts = [builder.slice_axis(x, axis, part * k, part * (k + 1)) for k in range(count)]
    if parameters.squeeze_axis:
        shape = (*x.type.shape[:axis], *x.type.shape[axis + 1 :])
        parts = [builder.reshape(value, shape) for value in parts]
    return Composition(tuple(parts))


def _split_names(parameters: Parameters) -> tuple[str, ...]:
    count = parameters.num_outputs
    return tuple(f"output{k}" for k in range(count)) if count > 1 else ("output",)


declare(
    Operator(
        "SliceChannel",
        "Cuts a tensor into equal parts along an axis.",
        _split,
        parameters=(
            integer("num_outputs", "Number of parts.", minimum=1),
            integer("axis", "The axis.", 1),
            boolean("squeeze_axis", "Drop the axis; parts must have size 1 there.", False),
        ),
        outputs=_split_names,
        aliases=("split",),
    )
)


def _bound(value: int | None, size: Dim, default: Dim) -> Dim:
    """A slice bound as Python reads it: negative from the end, held within the axis."""
    if value is None:
        return default
    if not isinstance(size, int):
        return dimension(size + value) if value < 0 else value
    return max(0, min(size, value + size if value < 0 else value))


def strided(builder: Builder, x: Value, axis: int, start: Dim, stop: Dim, step: int) -> Value:
    """x[start:stop:step] along an axis, step >= 1: cut, filled up to whole steps, and the first of each taken."""
    cut = builder.slice_axis(x, axis, start, stop)
    if step == 1:
        return cut
    size = cut.type.shape[axis]
    count = floor_divide(dimension(size + step - 1), step)
    missing = dimension(count * step - size)
    if missing != 0:
        if not isinstance(missing, int):
            raise BrokenRuleError(f"axis {axis} has {format_dim(size)} elements, and a step needs a number")
        low, high = [0] * x.type.rank, [0] * x.type.rank
        high[axis] = missing
        cut = builder.emit("pad", cut, low=tuple(low), high=tuple(high), value=_zero(cut))
    shape = cut.type.shape
    steps = builder.reshape(cut, (*shape[:axis], count, step, *shape[axis + 1 :]))
    first = builder.slice_axis(steps, axis + 1, 0, 1)
    return builder.reshape(first, (*shape[:axis], count, *shape[axis + 1 :]))


def _zero(value: Value) -> float | int:
    return 0.0 if value.type.dtype.is_float else 0


def _slice(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    x = inputs[0]
    begin, end, steps = parameters.begin, parameters.end, parameters.step
    if len(begin) != len(end) or len(begin) > x.type.rank:
        raise BrokenRuleError(f"begin {begin} and end {end} do not fit the {x.type.rank} axes of data")
    for axis, (low, high) in enumerate(zip(begin, end, strict=True)):
        step = (steps[axis] if axis < len(steps) else None) or 1
        size = x.type.shape[axis]
        if step < 0:
            # Counted on the reversed axis, where element i is the one that was at size - 1 - i.
            if not isinstance(size, int):
                raise BrokenRuleError(
                    f"axis {axis} has {format_dim(size)} elements, and a negative step needs a number"
                )
            x = builder.emit("reverse", x, axes=(axis,))
            low = None if low is None else size - 1 - (low + size if low < 0 else low)
            high = None if high is None else size - 1 - (high + size if high < 0 else high)
            low, high = (None if v is None else max(v, 0) for v in (low, high))
        start, stop = _bound(low, size, 0), _bound(high, size, size)
        if isinstance(start, int) and isinstance(stop, int) and start >= stop:
            raise BrokenRuleError(f"axis {axis} from {start} to {stop} holds nothing")
        x = strided(builder, x, axis, start, stop, abs(step))
    return x


declare(
    Operator(
        "slice",
        "A part of a tensor: begin, end and step of each leading axis, as Python's slices.",
        _slice,
        parameters=(
            Parameter("begin", PARTIAL_INTEGERS, "First index of each axis; None is the start."),
            Parameter("end", PARTIAL_INTEGERS, "Index after the last of each axis; None is the end."),
            Parameter("step", PARTIAL_INTEGERS, "Step of each axis; None is 1.", ()),
        ),
        aliases=("crop",),
    )
)


def _slice_axis(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    x = inputs[0]
    axis = normalize_axis(parameters.axis, x.type.rank)
    size = x.type.shape[axis]
    start, stop = _bound(parameters.begin, size, 0), _bound(parameters.end, size, size)
    if isinstance(start, int) and isinstance(stop, int) and start >= stop:
        raise BrokenRuleError(f"axis {axis} from {start} to {stop} holds nothing")
    return builder.slice_axis(x, axis, start, stop)


declare(
    Operator(
        "slice_axis",
        "A part of a tensor along one axis.",
        _slice_axis,
        parameters=(
            integer("axis", "The axis."),
            integer("begin", "First index; negative ones count from the end."),
            Parameter("end", optional(INTEGER), "Index after the last; the end by default.", None),
        ),
    )
)


def _slice_like(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    x, like = inputs
    stop = list(x.type.shape)
    for axis in normalize_axes(parameters.axes, x.type.rank):
        if axis >= like.type.rank:
            raise BrokenRuleError(f"axis {axis} is not among the {like.type.rank} axes of shape_like")
        stop[axis] = like.type.shape[axis]
    return builder.slice(x, (0,) * x.type.rank, stop)


declare(
    Operator(
        "slice_like",
        "The first elements of data, as many along each axis as shape_like has.",
        _slice_like,
        parameters=(integers("axes", "The axes to cut; all by default.", ()),),
        arguments=("data", "shape_like"),
        dtypes=same_dtype_but("shape_like"),
    )
)
