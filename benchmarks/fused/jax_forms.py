"""JAX's way: one jitted function a row; an update donates what it replaces."""

# ruff: noqa: D103 - rows.py says what each function computes
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax as jax_
import jax.numpy as jnp
import numpy as np
from harness.row import Arrays, Job, Row

from fused.rows import ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON, EPSILON, SCALE

Value = jax_.Array
Outputs = tuple[Value, ...]


def gelu(x: Value, bias: Value, residual: Value) -> Outputs:
    return (jax_.nn.gelu(x + bias, approximate=True) + residual,)


def softmax(x: Value) -> Outputs:
    return (jax_.nn.softmax(x, axis=-1),)


def layer_norm(x: Value, residual: Value, gamma: Value, beta: Value) -> Outputs:
    x = x + residual
    centred = x - x.mean(1, keepdims=True)
    return (centred * jax_.lax.rsqrt((centred * centred).mean(1, keepdims=True) + EPSILON) * gamma + beta,)


def cross_entropy(logits: Value, labels: Value) -> Outputs:
    def loss(logits: Value) -> Value:
        return -jnp.take_along_axis(jax_.nn.log_softmax(logits), labels[:, None], axis=1).mean()

    value, gradient = jax_.value_and_grad(loss)(logits)
    return value, gradient


def explicit_cross_entropy(logits: Value, labels: Value) -> Outputs:
    log_probability = jax_.nn.log_softmax(logits)
    hit = jnp.arange(logits.shape[1]) == labels[:, None]
    value = -jnp.where(hit, log_probability, 0).sum(1).mean()
    return value, (jnp.exp(log_probability) - hit) / logits.shape[0]


def adam(
    weight: Value, mean: Value, variance: Value, gradient: Value, step_size: Value, root_correction: Value
) -> Outputs:
    mean = ADAM_BETA1 * mean + (1 - ADAM_BETA1) * gradient
    variance = ADAM_BETA2 * variance + (1 - ADAM_BETA2) * gradient * gradient
    weight = weight - step_size * mean / (jnp.sqrt(variance) * root_correction + ADAM_EPSILON)
    return weight, mean, variance


def rms_norm(a: Value, b: Value, gamma: Value) -> Outputs:
    gated = jax_.nn.silu(a) * b
    return (gated * jax_.lax.rsqrt((gated * gated).mean(1, keepdims=True) + EPSILON) * gamma,)


def chain(x: Value, y: Value) -> Outputs:
    mixed = x * y + x
    bent = jnp.tanh(mixed)
    ratio = x / (jnp.sqrt(jnp.abs(bent * y)) + 1)
    return (jnp.maximum(jax_.nn.sigmoid(ratio) * mixed, y) - bent,)


def reductions_0(x: Value) -> Outputs:
    return x.sum(0), x.mean(0), x.max(0)


def reductions_1(x: Value) -> Outputs:
    return x.sum(1), x.mean(1), x.max(1)


def batch_norm(x: Value, residual: Value, gamma: Value, beta: Value, mean: Value, variance: Value) -> Outputs:
    scale = gamma * jax_.lax.rsqrt(variance + EPSILON)
    shift = beta - mean * scale
    return (jax_.nn.relu(x * scale[:, None, None] + shift[:, None, None]) + residual,)


def layer_norm_backward(x: Value, dy: Value, gamma: Value, mean: Value, rstd: Value) -> Outputs:
    normal, scaled = (x - mean) * rstd, dy * gamma
    inner = scaled - scaled.mean(1, keepdims=True) - normal * (scaled * normal).mean(1, keepdims=True)
    return rstd * inner, (dy * normal).sum(0), dy.sum(0)


def transpose(x: Value, residual: Value) -> Outputs:
    return (x.transpose(0, 2, 1, 3) * SCALE + residual,)


def gemm(x: Value, weight: Value, bias: Value) -> Outputs:
    return (jax_.nn.relu(x @ weight + bias),)


def jax(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """The function jitted; of cross-entropy its gradient by JAX, and written out."""
    values, kernel = {name: jnp.array(array) for name, array in inputs.items()}, row.options["kernel"]
    if kernel == "adam":
        return {"donated": _update(values)}
    function = globals()[f"{kernel}_{row.options['axis']}" if "axis" in row.options else kernel]
    forms = {"function": _job(function, values)}
    if kernel == "cross_entropy":
        forms["explicit"] = _job(explicit_cross_entropy, values)
    return forms


def _job(function: Callable[..., Outputs], values: Mapping[str, Any]) -> Job:
    jitted = jax_.jit(function)

    def call() -> Outputs:
        return jax_.block_until_ready(jitted(**values))

    return Job(call, lambda: [np.asarray(output) for output in call()])


def _update(values: Mapping[str, Any]) -> Job:
    jitted = jax_.jit(adam, donate_argnums=(0, 1, 2))
    held = [values["weight"], values["mean"], values["variance"]]
    rest = [values["gradient"], values["step_size"], values["root_correction"]]

    def call() -> None:
        held[:] = jax_.block_until_ready(jitted(*held, *rest))

    def results() -> list[Any]:
        call()
        return [np.array(value) for value in held]

    return Job(call, results)
