"""Operators whose gradient is that of a loss which they do not compute: SoftmaxOutput, the regressions, MakeLoss.

Their forward value is a prediction. In the backward pass data receives the loss's gradient, whatever comes from above
(the primitive `with_gradient`).
"""

from __future__ import annotations

from collections.abc import Callable

from graphc.ir.graph import Value
from graphc.operators.declare import Compose, Context, Operator, declare
from graphc.operators.inference import (
    BrokenRuleError,
    PartialShape,
    ShapeFrame,
    is_complete,
    partial_product,
    same_dtype_but,
    same_shape_rule,
)
from graphc.operators.parameters import Parameters, boolean, choice, number
from graphc.operators.softmax import softmax
from graphc.primitives.builder import Builder
from graphc.types import Dim, DType, TensorType, same_dim, same_shape

# SoftmaxOutput


def _label_shapes(data: tuple[Dim, ...], parameters: Parameters) -> tuple[tuple[Dim, ...], ...]:
    """The shapes that a label may have beside data, the one to infer first."""
    if parameters.multi_output:
        return (data[0], partial_product(data[2:])), (data[0], *data[2:]), (data[0], 1, *data[2:]), data
    if parameters.preserve_shape:
        return data[:-1], data
    return data[:1], data


def _softmax_output_shapes(frame: ShapeFrame) -> None:
    data = frame.unify(("data",), "data and output have one shape")
    if data is None:
        return
    if len(data) < 2:
        raise BrokenRuleError(
            "data needs an axis of examples and one of classes", help="give data two axes or more"
        )
    label, allowed = frame["label"], _label_shapes(data, frame.parameters)
    if not is_complete(label) or not is_complete(data):
        frame.expect(
            "label", allowed[0] if label is None or len(label) == len(allowed[0]) else None, "label differs"
        )
        return
    if not any(same_shape(label or (), shape) for shape in allowed):
        raise BrokenRuleError(
            "the label has no class for each prediction", {"label": allowed[0]}, _label_help(frame, label)
        )


def _label_help(frame: ShapeFrame, label: PartialShape) -> str:
    if frame.parameters.multi_output or frame.parameters.preserve_shape:
        return "give one label for each position, or probabilities of the shape of data"
    return "give one label for each example; use multi_output or preserve_shape for one at each position"


def _softmax_output(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    data, label = inputs
    shape = data.type.shape
    if parameters.multi_output:
        work, axis = data, 1
    elif parameters.preserve_shape:
        work, axis = data, len(shape) - 1
    else:
        width = TensorType(data.type.dtype, shape[1:]).size
        work, axis = builder.reshape(data, (shape[0], width)), 1
    probability = softmax(builder, work, axis)
    if same_shape(label.type.shape, shape):
        target = builder.reshape(builder.cast(label, data.type.dtype), probability.type.shape)
        gradient = _scaled(builder, builder.sub(probability, target), parameters.grad_scale)
    else:
        gradient = _class_gradient(builder, parameters, probability, label, axis)
    gradient = builder.reshape(gradient, shape)
    return builder.with_gradient(
        builder.reshape(probability, shape), data, gradient, scaled=parameters.out_grad
    )


def _class_gradient(
    builder: Builder, parameters: Parameters, probability: Value, label: Value, axis: int
) -> Value:
    """(p - onehot(label)) * grad_scale / normalization, zero where the label is ignored."""
    shape, dtype = probability.type.shape, probability.type.dtype
    others = [position for position in range(len(shape)) if position != axis]
    labels = builder.cast(builder.reshape(label, [shape[position] for position in others]), DType.I32)
    classes = builder.broadcast(labels, shape, others)
    hit = builder.eq(builder.iota(axis, TensorType(DType.I32, shape)), classes)
    if alpha := parameters.smooth_alpha:
        miss = builder.div(builder.full(alpha, TensorType(dtype, ())), builder.dim(shape[axis] - 1, dtype))
        target = builder.where(hit, builder.full(1.0 - alpha, TensorType(dtype, shape)), miss)
    else:
        target = builder.cast(hit, dtype)
    gradient = _scaled(builder, builder.sub(probability, target), parameters.grad_scale)
    if parameters.use_ignore:
        gradient = builder.where(builder.ne(classes, int(parameters.ignore_label)), gradient, 0.0)
    return _normalized(builder, parameters, gradient, labels)


def _normalized(builder: Builder, parameters: Parameters, gradient: Value, labels: Value) -> Value:
    """The gradient over the number of labels (batch), of those not ignored (valid), or 1 (null).

    As in MXNet, valid counts by ignore_label even without use_ignore, and with multi_output the others divide by the
    number of positions too.
    """
    dtype = gradient.type.dtype
    if parameters.normalization == "valid":
        valid = builder.cast(builder.ne(labels, int(parameters.ignore_label)), dtype.compute)
        return builder.div(gradient, builder.cast(builder.maximum(builder.sum(valid), 1.0), dtype))
    count: Dim = 1
    if parameters.normalization == "batch":
        count = labels.type.size
    elif parameters.multi_output:
        count = labels.type.with_shape(labels.type.shape[1:]).size
    return gradient if same_dim(count, 1) else builder.div(gradient, builder.dim(count, dtype))


def _scaled(builder: Builder, value: Value, scale: float) -> Value:
    return value if scale == 1.0 else builder.mul(value, scale)


declare(
    Operator(
        "SoftmaxOutput",
        "Softmax whose gradient is that of the cross-entropy with label: (p - onehot(label)) * grad_scale.\n\n"
        "A label of the shape of data holds probabilities.",
        _softmax_output,
        parameters=(
            number("grad_scale", "Factor of the gradient.", 1.0),
            number("ignore_label", "With use_ignore, examples of this label have no gradient.", -1.0),
            boolean(
                "multi_output",
                "The classes are axis 1; each position of the axes after it has a label.",
                False,
            ),
            boolean("use_ignore", "Heed ignore_label.", False),
            boolean("preserve_shape", "Take the softmax over the last axis only.", False),
            choice("normalization", "What the gradient is divided by.", ("null", "batch", "valid"), "null"),
            boolean("out_grad", "Multiply the gradient by the one from above.", False),
            number(
                "smooth_alpha",
                "Share of a label that goes to the other classes.",
                0.0,
                minimum=0.0,
                maximum=1.0,
            ),
        ),
        arguments=("data", "label"),
        shapes=_softmax_output_shapes,
        dtypes=same_dtype_but("label"),
        aliases=("Softmax",),
    )
)


# Regressions


def _regression_shapes(frame: ShapeFrame) -> None:
    data = frame.unify(("data",), "data and output have one shape")
    label = frame["label"]
    if data is None:
        return
    if label is None:
        # A column of predictions is labelled by a plain list of numbers.
        frame.expect("label", data[:1] if len(data) == 2 and data[1] == 1 else data, "label differs")
        return
    if (
        is_complete(data)
        and is_complete(label)
        and not same_dim(partial_product(data), partial_product(label))
    ):
        raise BrokenRuleError(
            "data and label have different numbers of elements", {"label": data}, "reshape the label"
        )


def _regression(
    predict: Callable[[Builder, Value], Value], slope: Callable[[Builder, Value], Value]
) -> Compose:
    """An output whose gradient is slope(prediction - label) * grad_scale / elements in an example."""

    def compose(
        builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
    ) -> Value:
        data, label = inputs
        shape, dtype = data.type.shape, data.type.dtype
        prediction = predict(builder, data)
        target = builder.reshape(builder.cast(label, dtype), shape)
        gradient = _scaled(builder, slope(builder, builder.sub(prediction, target)), parameters.grad_scale)
        width = data.type.with_shape(shape[1:]).size
        if not same_dim(width, 1):
            gradient = builder.div(gradient, builder.dim(width, dtype))
        return builder.with_gradient(prediction, data, gradient, scaled=False)

    return compose


def _identity(builder: Builder, value: Value) -> Value:
    return value


def _sigmoid(builder: Builder, value: Value) -> Value:
    return builder.sigmoid(value)


def _sign(builder: Builder, value: Value) -> Value:
    return builder.sign(value)


for _name, _doc, _predict, _slope in (
    ("LinearRegressionOutput", "Identity with the gradient of half the squared error.", _identity, _identity),
    ("LogisticRegressionOutput", "Sigmoid with the gradient of the cross-entropy.", _sigmoid, _identity),
    ("MAERegressionOutput", "Identity with the gradient of the absolute error.", _identity, _sign),
):
    declare(
        Operator(
            _name,
            f"{_doc} The gradient is divided by the number of outputs of an example.",
            _regression(_predict, _slope),
            parameters=(number("grad_scale", "Factor of the gradient.", 1.0),),
            arguments=("data", "label"),
            shapes=_regression_shapes,
            dtypes=same_dtype_but("label"),
        )
    )


# MakeLoss, BlockGrad


def _make_loss(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    data = inputs[0]
    gradient = builder.full_like(parameters.grad_scale, data)
    if parameters.normalization == "batch":
        gradient = builder.div(gradient, builder.dim(data.type.shape[0], data.type.dtype))
    elif parameters.normalization == "valid":
        valid = builder.cast(builder.gt(data, parameters.valid_thresh), data.type.dtype.compute)
        count = builder.maximum(builder.sum(valid), 1.0)
        gradient = builder.div(gradient, builder.cast(count, data.type.dtype))
    return builder.with_gradient(data, data, gradient, scaled=False)


declare(
    Operator(
        "MakeLoss",
        "Makes data a loss: identity whose gradient is grad_scale, whatever comes from above.",
        _make_loss,
        parameters=(
            number("grad_scale", "The gradient.", 1.0),
            number("valid_thresh", "With normalization=valid, elements above this are counted.", 0.0),
            choice("normalization", "What the gradient is divided by.", ("null", "batch", "valid"), "null"),
        ),
        shapes=same_shape_rule,
    )
)
declare(
    Operator(
        "make_loss",
        "Makes data a loss: identity whose gradient is 1, whatever comes from above.",
        lambda builder, parameters, inputs, context: builder.with_gradient(
            inputs[0], inputs[0], builder.full_like(1.0, inputs[0]), scaled=False
        ),
        outputs=("loss",),
        shapes=same_shape_rule,
    )
)


def _block_gradient(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    return builder.stop_gradient(inputs[0])


declare(
    Operator(
        "BlockGrad",
        "Identity that lets no gradient through.",
        _block_gradient,
        shapes=same_shape_rule,
        aliases=("stop_gradient",),
    )
)
