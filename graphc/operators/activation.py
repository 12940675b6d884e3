"""Activation functions, and the operators Activation and LeakyReLU that choose one by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from graphc.ir.graph import Value
from graphc.operators.broadcasting import along_axis
from graphc.operators.declare import Context, Operator, declare
from graphc.operators.inference import ShapeFrame
from graphc.operators.parameters import Parameters, choice, number
from graphc.primitives.builder import Builder

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017, arXiv:1706.02515


def relu(builder: Builder, x: Value) -> Value:
    """The greater of x and 0."""
    return builder.maximum(x, 0.0)


def softplus(builder: Builder, x: Value) -> Value:
    """log(1 + exp(x)) as max(x, 0) + log1p(exp(-|x|)), which overflows nowhere."""
    return builder.add(builder.maximum(x, 0.0), builder.log1p(builder.exp(builder.neg(builder.abs(x)))))


def softsign(builder: Builder, x: Value) -> Value:
    """Return x / (1 + |x|)."""
    return builder.div(x, builder.add(builder.abs(x), 1.0))


def _with_slope(builder: Builder, result: Value, x: Value, slope: Value) -> Value:
    """The result, and its derivative `slope` in one piece.

    A slope shares what is costly with the result and is written before it, as its operand's first reader: where a
    contraction's epilogue makes x, it makes both, and the backward pass keeps the slope in the place of x.
    """
    return builder.with_gradient(result, x, slope, scaled=True)


def gelu(builder: Builder, x: Value) -> Value:
    """Return x Φ(x) with Φ by the error function (Hendrycks and Gimpel 2016, arXiv:1606.08415)."""
    twice = builder.add(builder.erf(builder.mul(x, math.sqrt(0.5))), 1.0)
    density = builder.mul(builder.exp(builder.mul(builder.mul(x, x), -0.5)), math.sqrt(2 / math.pi))
    # A sum of one product only: which of two a compiler adds unrounded would depend on what else reads them.
    slope = builder.mul(builder.add(twice, builder.mul(x, density)), 0.5)
    return _with_slope(builder, builder.mul(x, builder.mul(twice, 0.5)), x, slope)


def tanh_gelu(builder: Builder, x: Value) -> Value:
    """Return x (1 + tanh(sqrt(2 / π) (x + 0.044715 x³))) / 2, the approximation of the same paper."""
    square = builder.mul(x, x)
    cube = builder.mul(square, x)
    inner = builder.mul(builder.add(x, builder.mul(cube, 0.044715)), math.sqrt(2 / math.pi))
    # (1 + tanh(u)) / 2 is the logistic function of 2 u.
    share = builder.sigmoid(builder.mul(inner, 2.0))
    steepness = builder.mul(builder.add(builder.mul(square, 3 * 0.044715), 1.0), math.sqrt(8 / math.pi))
    rise = builder.mul(builder.mul(builder.mul(share, builder.sub(1.0, share)), steepness), x)
    slope = builder.add(share, rise)
    return _with_slope(builder, builder.mul(x, share), x, slope)


def elu(builder: Builder, x: Value, alpha: float) -> Value:
    """Return x above zero, alpha (exp(x) - 1) below; expm1 of min(x, 0) keeps the unused branch finite."""
    below = builder.mul(builder.expm1(builder.minimum(x, 0.0)), alpha)
    return builder.where(builder.gt(x, 0.0), x, below)


def leaky(builder: Builder, x: Value, slope: Value | float) -> Value:
    """Return x above zero, x * slope below."""
    return builder.where(builder.gt(x, 0.0), x, builder.mul(x, slope))


def _swish(builder: Builder, x: Value) -> Value:
    return builder.mul(x, builder.sigmoid(x))


_ACTIVATIONS: Mapping[str, Callable[[Builder, Value], Value]] = {
    "relu": relu,
    "sigmoid": lambda builder, x: builder.sigmoid(x),
    "log_sigmoid": lambda builder, x: builder.neg(softplus(builder, builder.neg(x))),
    "tanh": lambda builder, x: builder.tanh(x),
    "softrelu": softplus,
    "softsign": softsign,
    "mish": lambda builder, x: builder.mul(x, builder.tanh(softplus(builder, x))),
    "swish": _swish,
}


def _activation(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    return _ACTIVATIONS[parameters.act_type](builder, inputs[0])


def _same_as_data(frame: ShapeFrame) -> None:
    frame.unify(("data",), "data and output have one shape")


declare(
    Operator(
        "Activation",
        "Elementwise activation function.",
        _activation,
        parameters=(choice("act_type", "The function.", tuple(_ACTIVATIONS)),),
        shapes=_same_as_data,
    )
)


_LEAKY = ("elu", "gelu", "gelu_erf", "gelu_tanh", "leaky", "prelu", "rrelu", "selu")


def _leaky_relu(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    x = inputs[0]
    match parameters.act_type:
        case "leaky":
            return leaky(builder, x, parameters.slope)
        case "elu":
            return elu(builder, x, parameters.slope)
        case "gelu" | "gelu_erf":
            return gelu(builder, x)
        case "gelu_tanh":
            return tanh_gelu(builder, x)
        case "selu":
            return builder.mul(elu(builder, x, SELU_ALPHA), SELU_SCALE)
        case "prelu":
            gamma = inputs[1]
            wide = (
                gamma
                if gamma.type.rank == x.type.rank or gamma.type.size == 1
                else along_axis(builder, gamma, x, 1)
            )
            return leaky(builder, x, wide)
    return _randomized_leaky(builder, parameters, x, context)


def _randomized_leaky(builder: Builder, parameters: Parameters, x: Value, context: Context) -> Value:
    """RReLU: a random slope an element in training, the middle slope otherwise (Xu et al. 2015, arXiv:1505.00853)."""
    low, high = parameters.lower_bound, parameters.upper_bound
    if not context.is_train:
        return leaky(builder, x, (low + high) / 2)
    uniform = builder.cast(context.random_uniform(builder, x.type.shape), x.type.dtype)
    return leaky(builder, x, builder.stop_gradient(builder.add(builder.mul(uniform, high - low), low)))


def _leaky_relu_arguments(parameters: Parameters) -> tuple[str, ...]:
    return ("data", "gamma") if parameters.act_type == "prelu" else ("data",)


def _leaky_relu_shapes(frame: ShapeFrame) -> None:
    _same_as_data(frame)
    if "gamma" not in frame:
        return
    data, gamma = frame["data"], frame["gamma"]
    if data and (gamma is None or (len(gamma) == 1 and gamma[0] != 1)):
        channels = data[1] if len(data) > 1 else data[0]
        frame.expect("gamma", (channels,), "gamma has one slope for each channel", "drop gamma= to infer it")


declare(
    Operator(
        "LeakyReLU",
        "Rectifiers that let something through below zero.",
        _leaky_relu,
        parameters=(
            choice("act_type", "The function.", _LEAKY, "leaky"),
            number("slope", "Slope below zero (leaky), or alpha (elu).", 0.25),
            number("lower_bound", "Lowest random slope of rrelu.", 0.125),
            number("upper_bound", "Highest random slope of rrelu.", 0.334),
        ),
        arguments=_leaky_relu_arguments,
        shapes=_leaky_relu_shapes,
    )
)
