"""Graphs whose fusion is known: each returns a Graph built from primitives, as operators and gradients make them."""

import math
from collections.abc import Callable, Sequence

from graphc.diagnostics import Location
from graphc.ir.graph import Graph, InputKind, Origin, Value
from graphc.primitives.builder import Builder
from graphc.types import DType, TensorType

T = TensorType.parse


class Maker(Builder):
    """A Builder with the usual compositions; `named` gives nodes a user's operator and line."""

    line = 0

    def named(self, name: str, operator: str):
        self.line += 1
        return self.at((Origin(name, operator, Location("model.py", self.line)),), name)

    def data(self, name: str, type: str) -> Value:
        return self.input(name, T(type))

    def parameter(self, name: str, type: str) -> Value:
        return self.input(name, T(type), InputKind.PARAMETER)

    def state(self, name: str, type: str) -> Value:
        return self.input(name, T(type), InputKind.STATE)

    def product(self, a: Value, b: Value, ta: bool = False, tb: bool = False) -> Value:
        return self.dot(a, b, transpose_a=ta, transpose_b=tb)

    def gelu(self, x: Value) -> Value:
        inner = self.mul(self.add(x, self.mul(self.mul(self.mul(x, x), x), 0.044715)), math.sqrt(2 / math.pi))
        return self.mul(self.mul(x, 0.5), self.add(self.tanh(inner), 1.0))

    def softmax(self, x: Value) -> Value:
        last = [x.type.rank - 1]
        e = self.exp(self.sub(x, self.reduce("reduce_max", x, last, keepdims=True)))
        return self.div(e, self.sum(e, last, keepdims=True))

    def normalized(self, x: Value) -> tuple[Value, Value]:
        """(x - mean) / deviation over the last axis, and 1 / deviation."""
        last = [x.type.rank - 1]
        centred = self.sub(x, self.mean(x, last, keepdims=True))
        scale = self.rsqrt(self.add(self.mean(self.mul(centred, centred), last, keepdims=True), 1e-5))
        return self.mul(centred, scale), scale


def bias_gelu_residual() -> Graph:
    b = Maker("bias_gelu_residual")
    x, bias, residual = (
        b.data("x", "f32[N,1024]"),
        b.parameter("bias", "f32[1024]"),
        b.data("res", "f32[N,1024]"),
    )
    with b.named("gelu", "LeakyReLU"):
        y = b.gelu(b.add(x, bias))
    with b.named("out", "elemwise_add"):
        y = b.add(y, residual)
    return b.finish({"out": y})


def softmax() -> Graph:
    b = Maker("softmax")
    with b.named("softmax", "softmax"):
        y = b.softmax(b.data("x", "f32[N,4096]"))
    return b.finish({"y": y})


def log_softmax() -> Graph:
    b = Maker("log_softmax")
    x = b.data("x", "f32[N,512]")
    with b.named("log_softmax", "log_softmax"):
        shifted = b.sub(x, b.reduce("reduce_max", x, [1], keepdims=True))
        y = b.sub(shifted, b.log(b.sum(b.exp(shifted), [1], keepdims=True)))
    return b.finish({"y": y})


def layer_norm() -> Graph:
    b = Maker("layer_norm")
    x, r = b.data("x", "f32[N,1024]"), b.data("residual", "f32[N,1024]")
    gamma, beta = b.parameter("gamma", "f32[1024]"), b.parameter("beta", "f32[1024]")
    with b.named("plus", "elemwise_add"):
        x = b.add(x, r)
    with b.named("norm", "LayerNorm"):
        y, _ = b.normalized(x)
        y = b.add(b.mul(y, gamma), beta)
    return b.finish({"y": y})


def layer_norm_backward() -> Graph:
    """Gradients of data, gamma and beta."""
    b = Maker("layer_norm_backward")
    x, dy = b.data("x", "f32[N,1024]"), b.data("dy", "f32[N,1024]")
    gamma = b.parameter("gamma", "f32[1024]")
    with b.named("norm", "LayerNorm"):
        y, scale = b.normalized(x)
        g = b.mul(dy, gamma)
        first = b.mean(g, [1], keepdims=True)
        second = b.mean(b.mul(g, y), [1], keepdims=True)
        dx = b.mul(b.sub(b.sub(g, first), b.mul(y, second)), scale)
        dgamma, dbeta = b.sum(b.mul(dy, y), [0]), b.sum(dy, [0])
    return b.finish({"dx": dx, "dgamma": dgamma, "dbeta": dbeta})


def cross_entropy() -> Graph:
    """Mean loss of softmax cross-entropy, and its gradient."""
    b = Maker("cross_entropy")
    x, label = b.data("x", "f32[N,1000]"), b.data("label", "i64[N]")
    shape = x.type.shape
    with b.named("loss", "softmax_cross_entropy"):
        shifted = b.sub(x, b.reduce("reduce_max", x, [1], keepdims=True))
        e = b.exp(shifted)
        total = b.sum(e, [1], keepdims=True)
        chosen = b.eq(b.iota(1, TensorType(DType.I64, shape)), b.broadcast(label, shape, [0]))
        hot = b.cast(chosen, DType.F32)
        picked = b.sum(b.mul(hot, shifted), [1])
        loss = b.sub(b.log(b.reshape(total, (shape[0],))), picked)
        gradient = b.sub(b.div(e, total), hot)
    return b.finish({"loss": loss, "gradient": gradient})


def mlp_layer() -> Graph:
    b = Maker("mlp_layer")
    data, weight = b.data("data", "f32[N,784]"), b.parameter("fc1_weight", "f32[128,784]")
    with b.named("fc1", "FullyConnected"):
        z = b.add(b.product(data, weight, tb=True), b.parameter("fc1_bias", "f32[128]"))
    with b.named("relu1", "Activation"):
        y = b.maximum(z, 0.0)
    return b.finish({"relu1": y})


def sgd_epilogue() -> Graph:
    """A weight gradient whose only use is the update of the weight."""
    b = Maker("sgd_epilogue")
    x, dy = b.data("x", "f32[N,784]"), b.data("dy", "f32[N,128]")
    weight, momentum = b.parameter("weight", "f32[128,784]"), b.state("momentum", "f32[128,784]")
    with b.named("fc1", "FullyConnected"):
        gradient = b.product(dy, x, ta=True)
    with b.named("weight", "SGD"):
        m = b.sub(b.mul(momentum, 0.9), b.mul(gradient, 0.1))
        b.update(momentum, m)
        b.update(weight, b.add(weight, m))
    return b.finish({})


def optimizer_updates(shapes: Sequence[str] = ("f32[512,784]", "f32[512]", "f32[10,512]")) -> Graph:
    """Adam for several parameters whose gradients are given."""
    b = Maker("adam")
    rate = b.data("learning_rate", "f32[]")
    for k, shape in enumerate(shapes):
        weight, gradient = b.parameter(f"w{k}", shape), b.data(f"g{k}", shape)
        mean, variance = b.state(f"w{k}_mean", shape), b.state(f"w{k}_variance", shape)
        with b.named(f"w{k}", "Adam"):
            m = b.add(b.mul(mean, 0.9), b.mul(gradient, 0.1))
            v = b.add(b.mul(variance, 0.999), b.mul(b.mul(gradient, gradient), 0.001))
            b.update(mean, m)
            b.update(variance, v)
            b.update(weight, b.sub(weight, b.mul(b.div(m, b.add(b.sqrt(v), 1e-8)), rate)))
    return b.finish({})


def batch_norm_statistics() -> Graph:
    """Mean and variance over N, H, W, with moving averages, and the normalised result."""
    b = Maker("batch_norm")
    x = b.data("x", "f32[32,64,56,56]")
    mean_state, variance_state = b.state("moving_mean", "f32[64]"), b.state("moving_var", "f32[64]")
    with b.named("bn", "BatchNorm"):
        mean = b.mean(x, [0, 2, 3])
        centred = b.sub(x, b.broadcast(mean, x.type.shape, [1]))
        variance = b.mean(b.mul(centred, centred), [0, 2, 3])
        scale = b.rsqrt(b.add(variance, 1e-3))
        y = b.mul(centred, b.broadcast(scale, x.type.shape, [1]))
        b.update(mean_state, b.add(b.mul(mean_state, 0.9), b.mul(mean, 0.1)))
        b.update(variance_state, b.add(b.mul(variance_state, 0.9), b.mul(variance, 0.1)))
    return b.finish({"y": b.maximum(y, 0.0)})


def attention() -> Graph:
    """Scores, softmax and context of four heads, with the reshapes and transposes around them."""
    b = Maker("attention")
    x, weight = b.data("x", "f32[2,16,64]"), b.parameter("qkv_weight", "f32[192,64]")
    with b.named("qkv", "FullyConnected"):
        qkv = b.product(b.reshape(x, (32, 64)), weight, tb=True)
        qkv = b.reshape(qkv, (2, 16, 3, 4, 16))
    parts = []
    for k, name in enumerate("qkv"):
        with b.named(name, "slice_axis"):
            part = b.reshape(b.slice_axis(qkv, 2, k, k + 1), (2, 16, 4, 16))
            parts.append(b.reshape(b.transpose(part, (0, 2, 1, 3)), (8, 16, 16)))
    q, k, v = parts
    with b.named("scores", "batch_dot"):
        scores = b.mul(b.product(q, k, tb=True), 0.25)
    with b.named("weights", "softmax"):
        weights = b.softmax(scores)
    with b.named("context", "batch_dot"):
        context = b.product(weights, v)
    with b.named("merge", "Reshape"):
        context = b.transpose(b.reshape(context, (2, 4, 16, 16)), (0, 2, 1, 3))
        context = b.reshape(context, (32, 64))
    with b.named("proj", "FullyConnected"):
        y = b.product(context, b.parameter("proj_weight", "f32[64,64]"), tb=True)
        y = b.add(b.reshape(y, (2, 16, 64)), x)
    return b.finish({"y": y})


def max_pool_pair() -> Graph:
    """Overlapping max pooling and its transpose."""
    b = Maker("max_pool")
    x, dy = b.data("x", "f32[N,8,13,14]"), b.data("dy", "f32[N,8,7,7]")
    window = {"kernel": (3, 3), "stride": (2, 2), "pad_low": (1, 1), "pad_high": (1, 0)}
    with b.named("pool", "Pooling"):
        y, index = b.emit_all("max_pool", x, **window)
        dx = b.emit("window_scatter", dy, index, shape=x.type.shape, **window)
    return b.finish({"y": y, "dx": b.mul(dx, 2.0)})


def concat_parts() -> Graph:
    """A join whose parts are computed: each is written straight into its piece."""
    b = Maker("concat")
    x, y, w = b.data("x", "f32[N,8]"), b.data("y", "f32[N,4]"), b.parameter("w", "f32[6,8]")
    with b.named("join", "Concat"):
        z = b.concat(b.tanh(x), b.product(x, w, tb=True), b.mul(y, 2.0), axis=1)
    return b.finish({"z": z})


CASES: dict[str, tuple[Callable[[], Graph], int]] = {
    "bias_gelu_residual": (bias_gelu_residual, 1),
    "softmax": (softmax, 1),
    "log_softmax": (log_softmax, 1),
    "layer_norm": (layer_norm, 1),
    "layer_norm_backward": (layer_norm_backward, 2),
    "cross_entropy": (cross_entropy, 1),
    "mlp_layer": (mlp_layer, 1),
    "sgd_epilogue": (sgd_epilogue, 1),
    "optimizer_updates": (optimizer_updates, 1),
    "batch_norm_statistics": (batch_norm_statistics, 2),
    "attention": (attention, 6),
    "max_pool_pair": (max_pool_pair, 2),
    "concat_parts": (concat_parts, 2),
}
"""Each graph, and the number of kernels it becomes."""
