"""The kernels of the fused suite, as graphs of primitives."""

from __future__ import annotations

from graphc.ir.graph import Graph, InputKind
from graphc.primitives.builder import Builder
from graphc.types import DType, TensorType

ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-8


def bias_gelu_residual(rows: int, columns: int) -> Graph:
    """gelu(x + bias) + residual, with the tanh form of GELU."""
    b = Builder("bias_gelu_residual")
    x = b.input("x", f32(rows, columns))
    bias = b.input("bias", f32(columns))
    residual = b.input("residual", f32(rows, columns))
    u = b.add(x, bias)
    inner = b.mul(b.add(u, b.mul(b.mul(b.mul(u, u), u), 0.044715)), 0.7978845608028654)
    gelu = b.mul(b.mul(u, 0.5), b.add(b.tanh(inner), 1.0))
    return b.finish({"y": b.add(gelu, residual)})


def softmax(rows: int, columns: int) -> Graph:
    """Softmax over the last axis."""
    b = Builder("softmax")
    x = b.input("x", f32(rows, columns))
    e = b.exp(b.sub(x, b.reduce("reduce_max", x, [1], keepdims=True)))
    return b.finish({"y": b.div(e, b.sum(e, [1], keepdims=True))})


def layer_norm(rows: int, columns: int, residual: bool) -> Graph:
    """(x - mean) / sqrt(var + eps) * gamma + beta over the last axis, of x or of x + residual."""
    b = Builder("layer_norm_residual" if residual else "layer_norm")
    x = b.input("x", f32(rows, columns))
    if residual:
        x = b.add(x, b.input("residual", f32(rows, columns)))
    gamma = b.input("gamma", f32(columns))
    beta = b.input("beta", f32(columns))
    centred = b.sub(x, b.mean(x, [1], keepdims=True))
    variance = b.mean(b.mul(centred, centred), [1], keepdims=True)
    normal = b.mul(centred, b.rsqrt(b.add(variance, 1e-5)))
    return b.finish({"y": b.add(b.mul(normal, gamma), beta)})


def adam(count: int) -> Graph:
    """One Adam step on `count` parameters, in place; the host gives the bias corrections of the step."""
    b = Builder("adam")
    weight = b.input("weight", f32(count), InputKind.PARAMETER)
    mean = b.input("mean", f32(count), InputKind.STATE)
    variance = b.input("variance", f32(count), InputKind.STATE)
    gradient = b.input("gradient", f32(count))
    step_size = b.input("step_size", f32())
    root_correction = b.input("root_correction", f32())
    new_mean = b.add(b.mul(mean, ADAM_BETA1), b.mul(gradient, 1 - ADAM_BETA1))
    new_variance = b.add(b.mul(variance, ADAM_BETA2), b.mul(b.mul(gradient, gradient), 1 - ADAM_BETA2))
    divisor = b.add(b.mul(b.sqrt(new_variance), root_correction), ADAM_EPSILON)
    b.update(mean, new_mean)
    b.update(variance, new_variance)
    b.update(weight, b.sub(weight, b.div(b.mul(new_mean, step_size), divisor)))
    return b.finish({})


def sgd_momentum(count: int) -> Graph:
    """One SGD step with momentum 0.9 on `count` parameters, in place."""
    b = Builder("sgd_momentum")
    weight = b.input("weight", f32(count), InputKind.PARAMETER)
    momentum = b.input("momentum", f32(count), InputKind.STATE)
    gradient = b.input("gradient", f32(count))
    rate = b.input("learning_rate", f32())
    new_momentum = b.add(b.mul(momentum, 0.9), gradient)
    b.update(momentum, new_momentum)
    b.update(weight, b.sub(weight, b.mul(new_momentum, rate)))
    return b.finish({})


def cross_entropy(rows: int, classes: int) -> Graph:
    """Mean softmax cross-entropy of logits against class numbers, and its gradient by the logits."""
    b = Builder("cross_entropy")
    logits = b.input("logits", f32(rows, classes))
    labels = b.input("labels", TensorType(DType.I64, (rows,)))
    shifted = b.sub(logits, b.reduce("reduce_max", logits, [1], keepdims=True))
    e = b.exp(shifted)
    total = b.sum(e, [1], keepdims=True)
    column = b.iota(1, TensorType(DType.I64, (rows, classes)))
    hit = b.eq(column, b.broadcast(labels, (rows, classes), [0]))
    picked = b.sum(b.where(hit, shifted, 0.0), [1], keepdims=True)
    loss = b.mean(b.sub(b.log(total), picked))
    onehot = b.cast(hit, DType.F32)
    gradient = b.mul(b.sub(b.div(e, total), onehot), 1.0 / rows)
    return b.finish({"loss": loss, "gradient": gradient})


def f32(*shape: int) -> TensorType:
    """The type of a float tensor."""
    return TensorType(DType.F32, shape)
