"""The kernels of the fused suite, as graphs of primitives."""

from __future__ import annotations

from fused.rows import ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON, EPSILON, SCALE
from graphc.ir.graph import Graph, InputKind, Value
from graphc.primitives.builder import Builder
from graphc.types import DType, TensorType


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
    normal = b.mul(centred, b.rsqrt(b.add(variance, EPSILON)))
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


def rms_norm(rows: int, columns: int) -> Graph:
    """RMSNorm of silu(a) * b over the last axis, times gamma."""
    b = Builder("rms_norm")
    gate, value = b.input("a", f32(rows, columns)), b.input("b", f32(rows, columns))
    gamma = b.input("gamma", f32(columns))
    gated = b.mul(b.mul(gate, b.sigmoid(gate)), value)
    square = b.mean(b.mul(gated, gated), [1], keepdims=True)
    return b.finish({"y": b.mul(b.mul(gated, b.rsqrt(b.add(square, EPSILON))), gamma)})


def chain(count: int) -> Graph:
    """Twelve elementwise operations."""
    b = Builder("chain")
    x, y = b.input("x", f32(count)), b.input("y", f32(count))
    mixed = b.add(b.mul(x, y), x)
    bent = b.tanh(mixed)
    ratio = b.div(x, b.add(b.sqrt(b.abs(b.mul(bent, y))), 1.0))
    return b.finish({"z": b.sub(b.maximum(b.mul(b.sigmoid(ratio), mixed), y), bent)})


def reductions(rows: int, columns: int, axis: int) -> Graph:
    """Sum, mean and maximum over one axis."""
    b = Builder(f"reductions_axis{axis}")
    x = b.input("x", f32(rows, columns))
    return b.finish(
        {"sum": b.sum(x, [axis]), "mean": b.mean(x, [axis]), "max": b.reduce("reduce_max", x, [axis])}
    )


def batch_norm(batch: int, channels: int, height: int, width: int) -> Graph:
    """Batch norm with given statistics, ReLU, residual; NCHW."""
    b = Builder("batch_norm")
    shape = batch, channels, height, width
    x, residual = b.input("x", f32(*shape)), b.input("residual", f32(*shape))
    gamma, beta, mean, variance = (
        b.input(name, f32(channels)) for name in ("gamma", "beta", "mean", "variance")
    )

    def spread(value: Value) -> Value:
        return b.broadcast(value, shape, [1])

    normal = b.mul(b.sub(x, spread(mean)), spread(b.rsqrt(b.add(variance, EPSILON))))
    shifted = b.add(b.mul(normal, spread(gamma)), spread(beta))
    return b.finish({"y": b.add(b.maximum(shifted, 0.0), residual)})


def layer_norm_backward(rows: int, columns: int) -> Graph:
    """Gradients of layer norm by x, gamma and beta, from the statistics of its forward pass."""
    b = Builder("layer_norm_backward")
    x, dy = b.input("x", f32(rows, columns)), b.input("dy", f32(rows, columns))
    gamma = b.input("gamma", f32(columns))
    mean, rstd = b.input("mean", f32(rows, 1)), b.input("rstd", f32(rows, 1))
    normal, scaled = b.mul(b.sub(x, mean), rstd), b.mul(dy, gamma)
    projected = b.mul(normal, b.mean(b.mul(scaled, normal), [1], keepdims=True))
    inner = b.sub(b.sub(scaled, b.mean(scaled, [1], keepdims=True)), projected)
    return b.finish(
        {"dx": b.mul(rstd, inner), "dgamma": b.sum(b.mul(dy, normal), [0]), "dbeta": b.sum(dy, [0])}
    )


def transpose(batch: int, length: int, heads: int, width: int) -> Graph:
    """X transposed by (0,2,1,3), times a constant, plus a residual."""
    b = Builder("transpose")
    x = b.input("x", f32(batch, length, heads, width))
    residual = b.input("residual", f32(batch, heads, length, width))
    return b.finish({"y": b.add(b.mul(b.transpose(x, [0, 2, 1, 3]), SCALE), residual)})


def gemm(n: int, weight: InputKind = InputKind.DATA) -> Graph:
    """ReLU of x @ weight + bias; a weight that is a parameter is packed once."""
    b = Builder("gemm")
    x, w, bias = b.input("x", f32(n, n)), b.input("weight", f32(n, n), weight), b.input("bias", f32(n))
    return b.finish({"y": b.maximum(b.add(b.emit("dot", x, w), bias), 0.0)})


def f32(*shape: int) -> TensorType:
    """The type of a float tensor."""
    return TensorType(DType.F32, shape)
