"""Operators on batches of sequences of different lengths: SequenceMask, SequenceLast, SequenceReverse."""

from __future__ import annotations

from graphc.ir.graph import Value
from graphc.operators.declare import Context, Operator, declare
from graphc.operators.indexing import as_index
from graphc.operators.inference import BrokenRuleError, ShapeFrame, is_known, same_dtype_but
from graphc.operators.parameters import Parameters, boolean, integer, number
from graphc.primitives.builder import Builder
from graphc.types import Dim, DType, TensorType, product


def _length(b: Builder, length: Value) -> Value:
    """Lengths as i64."""
    return b.cast(as_index(b, length), DType.I64)


def _steps(b: Builder, data: Value) -> Value:
    """The step of each element [T, N]."""
    return b.iota(0, TensorType(DType.I64, data.type.shape[:2]))


def masked(b: Builder, data: Value, length: Value, value: float) -> Value:
    """Data [T, N, ...] with `value` behind the end of each sequence."""
    inside = b.lt(_steps(b, data), _length(b, length))
    wide = b.broadcast(inside, data.type.shape, (0, 1))
    return b.where(wide, data, b.full_like(value, data))


def _chosen(b: Builder, data: Value, step: Value) -> Value:
    """data[step[s, n], n] as [S, N, ...], for steps [S, N]."""
    steps, batch = data.type.shape[:2]
    rest = data.type.shape[2:]
    sequence = b.iota(1, step.type)
    rows = b.add(b.mul(step, b.dim(batch, DType.I64)), sequence)
    flat = b.reshape(data, (steps * batch, product(rest)))
    count: Dim = product(step.type.shape)
    found = b.emit("gather", flat, b.reshape(rows, (count,)), axis=0)
    return b.reshape(found, (*step.type.shape, *rest))


def reversed_sequences(b: Builder, data: Value, length: Value) -> Value:
    """Data [T, N, ...] with each sequence reversed; what lies behind its end stays."""
    step = _steps(b, data)
    last = b.sub(_length(b, length), 1)
    mirrored = b.sub(b.broadcast_to(last, step.type.shape), step)
    return _chosen(b, data, b.where(b.lt(mirrored, 0), step, mirrored))


def last_of_sequences(b: Builder, data: Value, length: Value) -> Value:
    """The last element of each sequence of data [T, N, ...], as [1, N, ...]."""
    last = b.sub(_length(b, length), 1)
    return _chosen(b, data, b.reshape(last, (1, *last.type.shape)))


def _by_steps(b: Builder, data: Value, axis: int) -> Value:
    """Data with its axis of steps first, that of sequences second; the same call undoes it."""
    return b.transpose(data, (axis, 1 - axis, *range(2, data.type.rank)))


def _arguments(parameters: Parameters) -> tuple[str, ...]:
    return ("data", "sequence_length") if parameters.use_sequence_length else ("data",)


def _data_shape(frame: ShapeFrame) -> tuple[Dim, ...] | None:
    data, axis = frame["data"], frame.parameters.axis
    if axis not in (0, 1):
        raise BrokenRuleError("the axis of steps is 0 or 1", help="transpose data")
    if data is None:
        return None
    if len(data) < 2:
        raise BrokenRuleError("data needs an axis of steps and one of sequences", {"data": (0, 0)})
    frame.expect("sequence_length", (data[1 - axis],), "there is one length for each sequence")
    return data


def _same_shapes(frame: ShapeFrame) -> None:
    frame.unify(("data",), "data and output have one shape")
    _data_shape(frame)


def _last_shapes(frame: ShapeFrame) -> None:
    data = _data_shape(frame)
    if data is not None and is_known(data[0]):
        frame.expect_output((data[1 - frame.parameters.axis], *data[2:]))


def _mask(b: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    data, *length = inputs
    if not length:
        return data
    axis = parameters.axis
    return _by_steps(b, masked(b, _by_steps(b, data, axis), length[0], parameters.value), axis)


def _last(b: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    data, *length = inputs
    data = _by_steps(b, data, parameters.axis)
    steps, rest = data.type.shape[0], data.type.shape[1:]
    if length:
        return b.reshape(last_of_sequences(b, data, length[0]), rest)
    return b.reshape(b.slice_axis(data, 0, steps - 1, steps), rest)


def _reverse(b: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    data, *length = inputs
    if not length:
        return b.emit("reverse", data, axes=(parameters.axis,))
    axis = parameters.axis
    return _by_steps(b, reversed_sequences(b, _by_steps(b, data, axis), length[0]), axis)


_USE_LENGTH = boolean("use_sequence_length", "Take the length of each sequence as an input.", False)
_AXIS = integer("axis", "The axis of steps, 0 or 1; the other one is that of sequences.", 0)

declare(
    Operator(
        "SequenceMask",
        "Writes a value behind the end of each sequence.",
        _mask,
        parameters=(_USE_LENGTH, number("value", "What is written.", 0.0), _AXIS),
        arguments=_arguments,
        shapes=_same_shapes,
        dtypes=same_dtype_but("sequence_length"),
    )
)

declare(
    Operator(
        "SequenceLast",
        "The last element of each sequence.",
        _last,
        parameters=(_USE_LENGTH, _AXIS),
        arguments=_arguments,
        shapes=_last_shapes,
        dtypes=same_dtype_but("sequence_length"),
    )
)

declare(
    Operator(
        "SequenceReverse",
        "Each sequence from its last element to its first; what lies behind its end stays.",
        _reverse,
        parameters=(_USE_LENGTH, _AXIS),
        arguments=_arguments,
        shapes=_same_shapes,
        dtypes=same_dtype_but("sequence_length"),
    )
)
