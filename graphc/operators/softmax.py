"""Softmax and what is made of it."""

from __future__ import annotations

from collections.abc import Callable

from graphc.ir.graph import Value
from graphc.operators.axes import normalize_axis
from graphc.operators.broadcasting import reduce_and_spread, spread
from graphc.operators.declare import Compose, Context, Operator, declare
from graphc.operators.indexing import as_index, picked
from graphc.operators.inference import BrokenRuleError, ShapeFrame, same_dtype_but, same_shape_rule
from graphc.operators.parameters import NUMBER, Parameter, Parameters, choice, integer, optional
from graphc.primitives.builder import Builder
from graphc.types import product


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


# Operators


def _along(function: Callable[[Builder, Value, int], Value]) -> Compose:
    def compose(
        builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
    ) -> Value:
        x = inputs[0]
        axis = normalize_axis(parameters.axis, x.type.rank)
        if parameters.temperature is not None:
            x = builder.div(x, parameters.temperature)
        return function(builder, x, axis)

    return compose


def _softmin(builder: Builder, x: Value, axis: int) -> Value:
    return softmax(builder, builder.neg(x), axis)


for _name, _doc, _function in (
    ("softmax", "exp(x) / sum exp(x) along an axis", softmax),
    ("softmin", "exp(-x) / sum exp(-x) along an axis", _softmin),
    ("log_softmax", "The logarithm of softmax, computed without it", log_softmax),
):
    declare(
        Operator(
            _name,
            f"{_doc}.",
            _along(_function),
            parameters=(
                integer("axis", "The axis.", -1),
                Parameter("temperature", optional(NUMBER), "What x is divided by first.", None),
            ),
            shapes=same_shape_rule,
        )
    )


def _softmax_activation(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    x = inputs[0]
    if parameters.mode == "channel":
        return softmax(builder, x, 1)
    flat = builder.reshape(x, (x.type.shape[0], product(x.type.shape[1:])))
    return builder.reshape(softmax(builder, flat, 1), x.type.shape)


declare(
    Operator(
        "SoftmaxActivation",
        "Softmax over all elements of an example, or over axis 1.",
        _softmax_activation,
        parameters=(choice("mode", "What is normalised over.", ("channel", "instance"), "instance"),),
        shapes=same_shape_rule,
    )
)


def _cross_entropy(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    data, label = inputs
    logs = log_softmax(builder, data, 1)
    chosen = picked(builder, logs, as_index(builder, label), 1)
    return builder.reshape(builder.neg(builder.sum(chosen)), (1,))


def _cross_entropy_shapes(frame: ShapeFrame) -> None:
    data, label = frame["data"], frame["label"]
    if data is not None and len(data) != 2:
        raise BrokenRuleError("data needs an axis of examples and one of classes", {"data": (0, 0)})
    if data is not None:
        frame.expect("label", data[:1], "label has one class for each example")
    elif label is not None:
        frame.expect("data", (*label, 0), "label has one class for each example")
    frame.expect_output((1,))


declare(
    Operator(
        "softmax_cross_entropy",
        "The sum over examples of -log softmax(data)[label], as shape (1,).",
        _cross_entropy,
        arguments=("data", "label"),
        shapes=_cross_entropy_shapes,
        dtypes=same_dtype_but("label"),
    )
)
