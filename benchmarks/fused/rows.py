"""The fused suite: kernels that are bound by memory, and matrix products with their epilogue.

Inputs are named as the forms name them; a form reads all sizes from them, so that tests run the same rows small.
"""

from __future__ import annotations

from math import prod

import numpy as np
from harness.row import Array, Arrays, Row

ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON, ADAM_RATE, ADAM_STEP = 0.9, 0.999, 1e-8, 0.01, 10
EPSILON = 1e-5
SCALE = 0.125
WORD = 4


def _normal(generator: np.random.Generator, *shape: int, scale: float = 1.0) -> Array:
    values = generator.standard_normal(shape, np.float32)
    values *= np.float32(scale)
    return values


def _row(kernel: str, name: str, inputs: object, nbytes: int, flops: int = 0, suffix: object = "") -> Row:
    key = f"{kernel}_{suffix}" if suffix else kernel
    return Row("fused", key, name, inputs, nbytes, flops, options={"kernel": kernel})  # type: ignore[arg-type]


def gelu(rows: int, columns: int) -> Row:
    """GELU in its tanh form of x + bias, plus residual."""

    def inputs(generator: np.random.Generator) -> Arrays:
        x, residual = (_normal(generator, rows, columns) for _ in range(2))
        return {"x": x, "bias": _normal(generator, columns), "residual": residual}

    return _row("gelu", f"bias + tanh-GELU + residual ({rows},{columns})", inputs, 3 * WORD * rows * columns)


def softmax(rows: int, columns: int) -> Row:
    """Softmax over the last axis."""
    return _row(
        "softmax", f"softmax ({rows},{columns})",
        lambda generator: {"x": _normal(generator, rows, columns, scale=3)}, 2 * WORD * rows * columns,
    )  # fmt: skip


def layer_norm(rows: int, columns: int) -> Row:
    """Layer norm of x + residual."""

    def inputs(generator: np.random.Generator) -> Arrays:
        x, residual = (_normal(generator, rows, columns) for _ in range(2))
        gamma, beta = (_normal(generator, columns) for _ in range(2))
        return {"x": x, "residual": residual, "gamma": gamma, "beta": beta}

    return _row("layer_norm", f"layer norm + residual ({rows},{columns})", inputs, 3 * WORD * rows * columns)


def cross_entropy(rows: int, classes: int) -> Row:
    """Mean softmax cross-entropy and its gradient by the logits."""

    def inputs(generator: np.random.Generator) -> Arrays:
        logits = _normal(generator, rows, classes, scale=3)
        return {"logits": logits, "labels": generator.integers(0, classes, rows)}

    return _row(
        "cross_entropy",
        f"softmax cross-entropy + gradient ({rows},{classes})",
        inputs,
        2 * WORD * rows * classes,
    )


def adam(count: int) -> Row:
    """One Adam update in place: weight, mean and variance are read and written, the gradient is read."""

    def inputs(generator: np.random.Generator) -> Arrays:
        weight, mean, gradient = (_normal(generator, count) for _ in range(3))
        variance = generator.random(count, np.float32)
        variance += np.float32(0.1)
        rate = ADAM_RATE / (1 - ADAM_BETA1**ADAM_STEP)
        correction = (1 - ADAM_BETA2**ADAM_STEP) ** -0.5
        return {
            "weight": weight, "mean": mean, "variance": variance, "gradient": gradient,
            "step_size": np.full((), rate, np.float32), "root_correction": np.full((), correction, np.float32),
        }  # fmt: skip

    return _row("adam", f"Adam update, {count >> 20} M parameters", inputs, 7 * WORD * count)


def rms_norm(rows: int, columns: int) -> Row:
    """RMSNorm of silu(a) * b, times gamma: the gated norm of state-space models."""

    def inputs(generator: np.random.Generator) -> Arrays:
        a, b = (_normal(generator, rows, columns) for _ in range(2))
        return {"a": a, "b": b, "gamma": _normal(generator, columns)}

    return _row("rms_norm", f"RMSNorm of silu(a) * b ({rows},{columns})", inputs, 3 * WORD * rows * columns)


def chain(count: int) -> Row:
    """Twelve elementwise operations: mul add tanh mul abs sqrt add div sigmoid mul maximum sub."""
    return _row(
        "chain", f"12 elementwise operations on {count >> 20} M",
        lambda generator: {"x": _normal(generator, count), "y": _normal(generator, count)}, 3 * WORD * count,
    )  # fmt: skip


def reductions(rows: int, columns: int, axis: int) -> Row:
    """Sum, mean and maximum over one axis, in one pass over the data."""
    name = f"sum + mean + max over axis {axis} of ({rows},{columns})"
    row = _row(
        "reductions", name, lambda generator: {"x": _normal(generator, rows, columns)},
        WORD * (rows * columns + 3 * (columns if axis == 0 else rows)), suffix=f"axis{axis}",
    )  # fmt: skip
    return Row(row.suite, row.key, row.name, row.inputs, row.nbytes, options={**row.options, "axis": axis})


def batch_norm(batch: int, channels: int, height: int, width: int) -> Row:
    """Batch norm with given statistics, ReLU, residual; NCHW."""
    shape = batch, channels, height, width

    def inputs(generator: np.random.Generator) -> Arrays:
        x, residual = (_normal(generator, *shape) for _ in range(2))
        gamma, beta, mean = (_normal(generator, channels) for _ in range(3))
        variance = generator.random(channels, np.float32) + np.float32(0.5)
        return {
            "x": x,
            "residual": residual,
            "gamma": gamma,
            "beta": beta,
            "mean": mean,
            "variance": variance,
        }

    name = f"batch norm + ReLU + add, NCHW ({batch},{channels},{height},{width})"
    return _row("batch_norm", name, inputs, 3 * WORD * prod(shape))


def layer_norm_backward(rows: int, columns: int) -> Row:
    """Gradients of layer norm by x, gamma and beta, from the mean and 1 / deviation that its forward pass kept."""

    def inputs(generator: np.random.Generator) -> Arrays:
        x, dy = (_normal(generator, rows, columns) for _ in range(2))
        mean = x.mean(axis=1, keepdims=True)
        rstd = 1 / np.sqrt(x.var(axis=1, keepdims=True) + np.float32(EPSILON))
        return {"x": x, "dy": dy, "gamma": _normal(generator, columns), "mean": mean, "rstd": rstd}

    return _row(
        "layer_norm_backward", f"layer norm backward ({rows},{columns})", inputs, 3 * WORD * rows * columns
    )


def transpose(batch: int, length: int, heads: int, width: int) -> Row:
    """X transposed by (0,2,1,3), times a constant, plus a residual of the result's shape."""

    def inputs(generator: np.random.Generator) -> Arrays:
        x = _normal(generator, batch, length, heads, width)
        return {"x": x, "residual": _normal(generator, batch, heads, length, width)}

    name = f"transpose (0,2,1,3) + scale + add ({batch},{length},{heads},{width})"
    return _row("transpose", name, inputs, 3 * WORD * batch * length * heads * width)


def gemm(n: int) -> Row:
    """Square matrices: ReLU of x @ weight + bias."""

    def inputs(generator: np.random.Generator) -> Arrays:
        x, weight = (_normal(generator, n, n) for _ in range(2))
        return {"x": x, "weight": weight, "bias": _normal(generator, n)}

    return _row("gemm", f"GEMM {n} + bias + ReLU", inputs, 3 * WORD * n * n, 2 * n**3, suffix=n)


ROWS: tuple[Row, ...] = (
    gelu(8192, 1024),
    softmax(4096, 4096),
    layer_norm(8192, 1024),
    cross_entropy(4096, 8192),
    adam(16 << 20),
    rms_norm(8192, 2048),
    chain(16 << 20),
    reductions(4096, 4096, 0),
    reductions(4096, 4096, 1),
    batch_norm(32, 64, 56, 56),
    layer_norm_backward(8192, 1024),
    transpose(32, 512, 16, 64),
    gemm(512),
    gemm(1024),
    gemm(2048),
    gemm(4096),
)
