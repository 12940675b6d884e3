"""The networks in JAX, as functions of named parameters that give the mean loss of a batch and the new statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from training.networks import CELLS, HEADS, UNITS

Value = jax.Array
Parameters = Mapping[str, Value]
State = dict[str, Value]
Loss = Callable[[Parameters, State, Value, Value], tuple[Value, State]]
LAYOUT = ("NCHW", "OIHW", "NCHW")


def _dense(p: Parameters, name: str, x: Value) -> Value:
    return x @ p[f"{name}_weight"].T + p[f"{name}_bias"]


def _cross_entropy(scores: Value, labels: Value) -> Value:
    picked = jnp.take_along_axis(jax.nn.log_softmax(scores), labels.reshape(-1, 1), axis=1)
    return -picked.mean()


def mlp(p: Parameters, state: State, x: Value, labels: Value) -> tuple[Value, State]:
    """Dense layers with ReLU between them."""
    layers = len(p) // 2
    for number in range(1, layers):
        x = jax.nn.relu(_dense(p, f"fc{number}", x))
    return _cross_entropy(_dense(p, f"fc{layers}", x), labels), state


def lenet(p: Parameters, state: State, x: Value, labels: Value) -> tuple[Value, State]:
    """Two convolutions with tanh and pooling, two dense layers."""
    for name in ("conv1", "conv2"):
        x = lax.conv_general_dilated(x, p[f"{name}_weight"], (1, 1), "VALID", dimension_numbers=LAYOUT)
        x = jnp.tanh(x + p[f"{name}_bias"][:, None, None])
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    x = jnp.tanh(_dense(p, "fc1", x.reshape(x.shape[0], -1)))
    return _cross_entropy(_dense(p, "fc2", x), labels), state


def resnet18(p: Parameters, state: State, x: Value, labels: Value) -> tuple[Value, State]:
    """Moving statistics as torch keeps them."""
    fresh = {}

    def convolution(name: str, x: Value, kernel: int, stride: int) -> Value:
        pad = [(kernel // 2, kernel // 2)] * 2
        weight = p[f"{name}_conv_weight"]
        x = lax.conv_general_dilated(x, weight, (stride, stride), pad, dimension_numbers=LAYOUT)
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
        count = x.size // x.shape[1]
        fresh[f"{name}_mean"] = 0.9 * state[f"{name}_mean"] + 0.1 * mean
        unbiased = variance * (count / max(count - 1, 1))
        fresh[f"{name}_variance"] = 0.9 * state[f"{name}_variance"] + 0.1 * unbiased
        scale = p[f"{name}_bn_gamma"] * lax.rsqrt(variance + 1e-5)
        return x * scale[:, None, None] + (p[f"{name}_bn_beta"] - mean * scale)[:, None, None]

    x = jax.nn.relu(convolution("stem", x, 3, 1))
    for stage, units in enumerate(UNITS, 1):
        for unit in range(1, units + 1):
            name, stride = f"stage{stage}_unit{unit}", 2 if stage > 1 and unit == 1 else 1
            inner = jax.nn.relu(convolution(f"{name}_1", x, 3, stride))
            inner = convolution(f"{name}_2", inner, 3, 1)
            if f"{name}_shortcut_conv_weight" in p:
                x = convolution(f"{name}_shortcut", x, 1, stride)
            x = jax.nn.relu(inner + x)
    return _cross_entropy(_dense(p, "fc", x.mean((2, 3))), labels), fresh


def _normal(p: Parameters, name: str, x: Value) -> Value:
    centred = x - x.mean(-1, keepdims=True)
    scale = lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
    return centred * scale * p[f"{name}_gamma"] + p[f"{name}_beta"]


def _block(p: Parameters, name: str, x: Value) -> Value:
    batch, length, units = x.shape
    joint = _dense(p, f"{name}_attention_qkv", _normal(p, f"{name}_ln1", x))
    heads = joint.reshape(batch, length, 3, HEADS, units // HEADS)
    queries, keys, values = (heads[:, :, part] for part in range(3))
    mixed = jax.nn.dot_product_attention(queries, keys, values, is_causal=True)
    x = x + _dense(p, f"{name}_attention_out", mixed.reshape(batch, length, units))
    wide = jax.nn.gelu(_dense(p, f"{name}_wide", _normal(p, f"{name}_ln2", x)), approximate=False)
    return x + _dense(p, f"{name}_narrow", wide)


def transformer(p: Parameters, state: State, x: Value, labels: Value) -> tuple[Value, State]:
    """A causal language model of pre-norm blocks; the head shares the words' weights."""
    hidden = p["word_weight"][x] + p["position_weight"]
    for number in range(1, len([name for name in p if name.endswith("_qkv_weight")]) + 1):
        hidden = _block(p, f"block{number}", hidden)
    scores = _normal(p, "last_ln", hidden) @ p["word_weight"].T
    return _cross_entropy(scores.reshape(-1, scores.shape[-1]), labels), state


def lstm(p: Parameters, state: State, x: Value, labels: Value) -> tuple[Value, State]:
    """Input products of all steps at once, then a scan, layer by layer."""
    hidden = p["word_weight"][x]
    zeros = jnp.zeros(hidden.shape[1:])
    for layer in range(CELLS):
        name = f"lstm_l{layer}"
        inputs = _dense(p, f"{name}_i2h", hidden)

        def cell(carry: Any, given: Value, name: str = name) -> Any:
            kept, old = carry
            gates = given + _dense(p, f"{name}_h2h", kept)
            enter, forget, fresh, leave = jnp.split(gates, 4, axis=1)
            new = jax.nn.sigmoid(forget) * old + jax.nn.sigmoid(enter) * jnp.tanh(fresh)
            out = jax.nn.sigmoid(leave) * jnp.tanh(new)
            return (out, new), out

        _, hidden = lax.scan(cell, (zeros, zeros), inputs)
    scores = _dense(p, "fc", hidden)
    return _cross_entropy(scores.reshape(-1, scores.shape[-1]), labels), state


LOSSES: Mapping[str, Loss] = {
    "mlp": mlp, "lenet": lenet, "resnet18": resnet18, "transformer": transformer, "lstm": lstm,
}  # fmt: skip
