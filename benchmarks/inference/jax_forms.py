"""JAX: the networks for words as one jitted function each, parameters as an argument that stays on the device."""

# ruff: noqa: D103 - each function is the network of its name
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax as jax_
import jax.numpy as jnp
import numpy as np
from harness.row import Arrays, CannotRun, Job, Row
from networks.catalog import BY_KEY, Network

Array = jax_.Array
Parameters = dict[str, Array]
Shapes = dict[str, tuple[int, ...]]


def dense(p: Parameters, name: str, x: Array) -> Array:
    return x @ p[f"{name}_weight"].T + p[f"{name}_bias"]


def normalize(p: Parameters, name: str, x: Array, eps: float) -> Array:
    centered = x - x.mean(-1, keepdims=True)
    variance = jnp.square(centered).mean(-1, keepdims=True)
    return centered * jax_.lax.rsqrt(variance + eps) * p[f"{name}_gamma"] + p[f"{name}_beta"]


def heads(x: Array) -> Array:
    """[batch, length, 768] as [batch, length, 12, 64], which dot_product_attention takes."""
    return x.reshape(*x.shape[:2], 12, 64)


def gpt2(p: Parameters, data: Array) -> tuple[Array, ...]:
    x = p["word_weight"][data] + p["position_weight"][: data.shape[1]]
    for number in range(1, 13):
        name = f"block{number}"
        joint = dense(p, f"{name}_attention_qkv", normalize(p, f"{name}_ln1", x, 1e-5))
        queries, keys, values = (heads(part) for part in jnp.split(joint, 3, axis=2))
        mixed = jax_.nn.dot_product_attention(queries, keys, values, is_causal=True)
        x = x + dense(p, f"{name}_attention_out", mixed.reshape(x.shape))
        wide = dense(p, f"{name}_wide", normalize(p, f"{name}_ln2", x, 1e-5))
        x = x + dense(p, f"{name}_narrow", jax_.nn.gelu(wide, approximate=True))
    return (normalize(p, "last_ln", x, 1e-5) @ p["word_weight"].T,)


def bert(p: Parameters, data: Array, token_types: Array, mask: Array) -> tuple[Array, ...]:
    x = p["word_weight"][data] + p["segment_weight"][token_types] + p["position_weight"][: data.shape[1]]
    x = normalize(p, "embedding_ln", x, 1e-12)
    bias = (mask[:, None, None, :] - 1) * 1e9
    for number in range(1, 13):
        name = f"layer{number}"
        queries, keys, values = (heads(dense(p, f"{name}_{part}", x)) for part in ("query", "key", "value"))
        mixed = jax_.nn.dot_product_attention(queries, keys, values, bias=bias)
        x = normalize(p, f"{name}_ln1", x + dense(p, f"{name}_out", mixed.reshape(x.shape)), 1e-12)
        wide = jax_.nn.gelu(dense(p, f"{name}_wide", x), approximate=False)
        x = normalize(p, f"{name}_ln2", x + dense(p, f"{name}_narrow", wide), 1e-12)
    return x, jnp.tanh(dense(p, "pooler", x[:, 0]))


def lstm(p: Parameters, data: Array, lstm_state: Array, lstm_state_cell: Array) -> tuple[Array, ...]:
    """Inputs of all steps in one product, then a scan over the steps; the vector is packed as in MXNet."""
    units, lasts, cells = 650, [], []
    weights, biases = jnp.split(p["lstm_parameters"], [2 * 8 * units * units])
    weights, biases = weights.reshape(2, 2, 4 * units, units), biases.reshape(2, 2, 4 * units)
    x = p["word_weight"][data]
    for layer in range(2):
        inputs = x @ weights[layer, 0].T + biases[layer].sum(0)

        def step(
            carry: tuple[Array, Array], given: Array, state_weight: Array = weights[layer, 1]
        ) -> tuple[tuple[Array, Array], Array]:
            state, cell = carry
            i, f, g, o = jnp.split(given + state @ state_weight.T, 4, axis=1)
            cell = jax_.nn.sigmoid(f) * cell + jax_.nn.sigmoid(i) * jnp.tanh(g)
            state = jax_.nn.sigmoid(o) * jnp.tanh(cell)
            return (state, cell), state

        (last, cell), x = jax_.lax.scan(step, (lstm_state[layer], lstm_state_cell[layer]), inputs)
        lasts.append(last)
        cells.append(cell)
    return dense(p, "decoder", x.reshape(-1, units)), jnp.stack(lasts), jnp.stack(cells)


def _affine(name: str, units: int, inputs: int) -> Shapes:
    return {f"{name}_weight": (units, inputs), f"{name}_bias": (units,)}


def _norm(name: str) -> Shapes:
    return {f"{name}_gamma": (768,), f"{name}_beta": (768,)}


def _gpt2_shapes() -> Shapes:
    shapes: Shapes = {"word_weight": (50257, 768), "position_weight": (1024, 768), **_norm("last_ln")}
    for number in range(1, 13):
        name = f"block{number}"
        shapes |= _norm(f"{name}_ln1") | _norm(f"{name}_ln2")
        shapes |= _affine(f"{name}_attention_qkv", 2304, 768) | _affine(f"{name}_attention_out", 768, 768)
        shapes |= _affine(f"{name}_wide", 3072, 768) | _affine(f"{name}_narrow", 768, 3072)
    return shapes


def _bert_shapes() -> Shapes:
    shapes: Shapes = {"word_weight": (30522, 768), "segment_weight": (2, 768), "position_weight": (512, 768)}
    shapes |= _norm("embedding_ln") | _affine("pooler", 768, 768)
    for number in range(1, 13):
        name = f"layer{number}"
        shapes |= _norm(f"{name}_ln1") | _norm(f"{name}_ln2")
        for part in ("query", "key", "value", "out"):
            shapes |= _affine(f"{name}_{part}", 768, 768)
        shapes |= _affine(f"{name}_wide", 3072, 768) | _affine(f"{name}_narrow", 768, 3072)
    return shapes


def _lstm_shapes() -> Shapes:
    vector = 2 * (8 * 650 * 650 + 8 * 650)
    return {"word_weight": (10000, 650), "lstm_parameters": (vector,), **_affine("decoder", 10000, 650)}


FUNCTIONS: Mapping[str, tuple[Callable[..., tuple[Array, ...]], Callable[[], Shapes]]] = {
    "bert": (bert, _bert_shapes),
    "gpt2": (gpt2, _gpt2_shapes),
    "lstm": (lstm, _lstm_shapes),
}


def _parameters(network: Network, shapes: Shapes) -> Parameters:
    return {name: jnp.asarray(network.value(name, shape)) for name, shape in shapes.items()}


def _job(key: str, inputs: Arrays) -> Job:
    """The jitted function of a network."""
    function, shapes = FUNCTIONS[key]
    parameters = _parameters(BY_KEY[key], shapes())
    given = {
        name: jnp.asarray(array.astype(np.int32) if array.dtype == np.int64 else array)
        for name, array in inputs.items()
    }
    compiled = jax_.jit(function).lower(parameters, **given).compile()

    def call() -> Any:
        return jax_.block_until_ready(compiled(parameters, **given))

    return Job(call, lambda: BY_KEY[key].checked(call()))


def jax(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """One jitted function."""
    key = row.options["network"]
    if key not in FUNCTIONS:
        raise CannotRun("not written in JAX")
    return {"function": _job(key, inputs)}
