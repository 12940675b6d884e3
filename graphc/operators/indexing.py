"""Operators that choose elements by their positions: Embedding, take, pick, one_hot, where."""

from __future__ import annotations

from graphc.ir.graph import Value
from graphc.operators.axes import normalize_axis
from graphc.operators.broadcasting import along_axis
from graphc.operators.declare import Context, Operator, declare
from graphc.operators.inference import (
    BrokenRuleError,
    DTypeFrame,
    ShapeFrame,
    fixed_output_dtype,
    is_complete,
    same_dtype_but,
)
from graphc.operators.parameters import (
    DTYPE,
    INTEGER,
    Parameter,
    Parameters,
    boolean,
    choice,
    ignored,
    integer,
    number,
    optional,
)
from graphc.primitives.builder import Builder
from graphc.types import Dim, DType, TensorType, same_shape

_MODE = choice("mode", "Indices outside are held at the ends, or counted around.", ("clip", "wrap"), "clip")


def as_index(builder: Builder, value: Value) -> Value:
    """Positions as integers; MXNet keeps them in floating-point tensors."""
    return value if value.type.dtype in (DType.I32, DType.I64) else builder.cast(value, DType.I32)


def _wrapped(builder: Builder, index: Value, size: Dim, mode: str) -> Value:
    return builder.mod(index, builder.dim(size, index.type.dtype)) if mode == "wrap" else index


# Embedding and take


def _embedding(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    data, weight = inputs
    return builder.emit("gather", weight, as_index(builder, data), axis=0)


def _embedding_shapes(frame: ShapeFrame) -> None:
    rows, width = frame.parameters.input_dim, frame.parameters.output_dim
    frame.expect("weight", (rows, width), "weight has input_dim rows and output_dim columns", "drop weight=")
    data, output = frame["data"], frame.outputs[0]
    if data is not None:
        frame.expect_output((*data, width))
    elif output is not None:
        frame.expect("data", output[:-1], "the output has the shape of data and one axis more")


def _embedding_dtypes(frame: DTypeFrame) -> None:
    if frame.parameters.dtype is not None:
        frame.expect("weight", frame.parameters.dtype, "weight has the element type that dtype= says")
    frame.unify(("weight",), "weight and output have one element type")


declare(
    Operator(
        "Embedding",
        "Rows of a learned table, one for each number in data; numbers outside it give the first or last row.",
        _embedding,
        parameters=(
            integer("input_dim", "Number of rows.", minimum=1),
            integer("output_dim", "Length of a row.", minimum=1),
            Parameter("dtype", optional(DTYPE), "Element type of the table.", None),
            ignored("sparse_grad"),
        ),
        arguments=("data", "weight"),
        shapes=_embedding_shapes,
        dtypes=_embedding_dtypes,
    )
)


def _take(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    data, indices = inputs
    axis = normalize_axis(parameters.axis, data.type.rank)
    index = _wrapped(builder, as_index(builder, indices), data.type.shape[axis], parameters.mode)
    return builder.emit("gather", data, index, axis=axis)


declare(
    Operator(
        "take",
        "Slices of `a` along an axis, one for each index.",
        _take,
        parameters=(integer("axis", "The axis.", 0), _MODE),
        arguments=("a", "indices"),
        dtypes=same_dtype_but("indices"),
    )
)


# pick and one_hot


def picked(builder: Builder, data: Value, index: Value, axis: int) -> Value:
    """The element at `index` along an axis: a masked sum, which fuses with what made the data."""
    shape = data.type.shape
    others = [other for other in range(len(shape)) if other != axis]
    wide = builder.broadcast(index, shape, others)
    hit = builder.eq(builder.iota(axis, TensorType(index.type.dtype, shape)), wide)
    return builder.sum(builder.where(hit, data, 0.0), (axis,))


def _pick(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    data, given = inputs
    if parameters.axis is None:
        data = builder.reshape(data, (data.type.size,))
    axis = normalize_axis(-1 if parameters.axis is None else parameters.axis, data.type.rank)
    shape = data.type.shape
    rest = (*shape[:axis], *shape[axis + 1 :])
    if not any(same_shape(given.type.shape, wanted) for wanted in (rest, _kept(shape, axis), rest or (1,))):
        raise BrokenRuleError("index has not one number for each row of data", {"index": rest or (1,)})
    size = shape[axis]
    index = builder.reshape(as_index(builder, given), rest)
    if parameters.mode == "wrap":
        index = _wrapped(builder, index, size, "wrap")
    elif isinstance(size, int):
        index = builder.minimum(builder.maximum(index, 0), size - 1)
    else:
        index = builder.minimum(builder.maximum(index, 0), builder.dim(size - 1, index.type.dtype))
    result = picked(builder, data, index, axis)
    return builder.reshape(result, _kept(shape, axis) if parameters.keepdims else rest or (1,))


def _kept(shape: tuple[Dim, ...], axis: int) -> tuple[Dim, ...]:
    return (*shape[:axis], 1, *shape[axis + 1 :])


def _pick_shapes(frame: ShapeFrame) -> None:
    data = frame["data"]
    if data and is_complete(data) and frame["index"] is None and frame.parameters.axis is not None:
        axis = normalize_axis(frame.parameters.axis, len(data))
        frame.expect(
            "index", (*data[:axis], *data[axis + 1 :]) or (1,), "index has one number for each row of data"
        )


declare(
    Operator(
        "pick",
        "One element of each row of data, chosen by index.",
        _pick,
        parameters=(
            Parameter("axis", optional(INTEGER), "The axis that is indexed; all elements for None.", -1),
            boolean("keepdims", "Leave the axis in the shape, with size 1.", False),
            _MODE,
        ),
        arguments=("data", "index"),
        shapes=_pick_shapes,
        dtypes=same_dtype_but("index"),
        aliases=("choose_element_0index",),
    )
)


def _one_hot(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    index = as_index(builder, inputs[0])
    shape = (*index.type.shape, parameters.depth)
    rank = len(index.type.shape)
    classes = builder.iota(rank, TensorType(index.type.dtype, shape))
    hit = builder.eq(classes, builder.broadcast(index, shape, range(rank)))
    target = TensorType(parameters.dtype, shape)
    return builder.where(
        hit, builder.full(parameters.on_value, target), builder.full(parameters.off_value, target)
    )


declare(
    Operator(
        "one_hot",
        "on_value at each index along a new last axis, off_value elsewhere; no gradient.",
        _one_hot,
        parameters=(
            integer("depth", "Size of the new axis.", minimum=1),
            number("on_value", "Value at the index.", 1.0),
            number("off_value", "Value elsewhere.", 0.0),
            Parameter("dtype", DTYPE, "Element type of the result.", DType.F32),
        ),
        arguments=("indices",),
        dtypes=fixed_output_dtype("dtype"),
    )
)


# where


def _where(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    condition, x, y = inputs
    truth = condition if condition.type.dtype is DType.BOOL else builder.ne(condition, 0)
    if condition.type.rank == 1 and x.type.rank > 1:
        truth = along_axis(builder, truth, x, 0)
    return builder.where(truth, x, y)


def _where_shapes(frame: ShapeFrame) -> None:
    common = frame.unify(("x", "y"), "x and y must have one shape")
    condition = frame["condition"]
    if common is None:
        return
    if condition is not None and len(condition) == 1 and len(common) > 1:
        frame.expect("condition", common[:1], "a condition of one axis has one element for each row")
    else:
        frame.expect("condition", common, "the condition has the shape of x, or one element for each row")


declare(
    Operator(
        "where",
        "x where the condition is not 0, y elsewhere.",
        _where,
        arguments=("condition", "x", "y"),
        shapes=_where_shapes,
        dtypes=same_dtype_but("condition"),
    )
)
