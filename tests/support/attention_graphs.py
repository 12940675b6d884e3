"""Graphs that hold attention in the forms in which people write it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from graphc.ir.graph import Graph, Value
from graphc.primitives.builder import Builder
from graphc.types import Dim, DType, TensorType, symbol

Change = Callable[[Builder, Value], Value]


def same(b: Builder, scores: Value) -> Value:
    return scores


def softmax(b: Builder, x: Value, *, axis: int = -1) -> Value:
    """As the operator composes it."""
    rank = x.type.rank
    rest = [k for k in range(rank) if k != axis % rank]
    shape = x.type.shape
    greatest = b.stop_gradient(b.reduce("reduce_max", x, (axis,)))
    powers = b.exp(b.sub(x, b.broadcast(greatest, shape, rest)))
    return b.div(powers, b.broadcast(b.reduce("reduce_sum", powers, (axis,)), shape, rest))


def before(b: Builder, rows: Dim, columns: Dim, lead: Sequence[Dim], dtype: DType = DType.I64) -> Value:
    """True where key j <= query i, [*lead, rows, columns], from positions as a user makes them."""
    queries = b.reshape(b.emit("iota", axis=0, dtype=dtype, shape=(rows,)), (rows, 1))
    keys = b.reshape(b.emit("iota", axis=0, dtype=dtype, shape=(columns,)), (1, columns))
    shape = (rows, columns)
    allowed = b.le(b.broadcast(keys, shape, (0, 1)), b.broadcast(queries, shape, (0, 1)))
    return b.broadcast_to(allowed, (*lead, *shape))


def attention(
    on_scores: Change = same,
    on_weights: Change = same,
    *,
    q: Sequence[Dim] = (2, 3, 5, 4),
    k: Sequence[Dim] = (2, 3, 7, 4),
    v: Sequence[Dim] = (2, 3, 7, 6),
    dtype: DType = DType.F32,
    axis: int = -1,
) -> Graph:
    """softmax(on_scores(q kᵀ)) changed by on_weights, times v."""
    b = Builder("attention")
    query, key, value = (
        b.input(n, TensorType(dtype, tuple(s))) for n, s in zip("qkv", (q, k, v), strict=True)
    )
    scores = on_scores(b, b.emit("dot", query, key, transpose_a=False, transpose_b=True))
    weights = on_weights(b, softmax(b, scores, axis=axis))
    return b.finish({"out": b.emit("dot", weights, value, transpose_a=False, transpose_b=False)})


def scaled(b: Builder, scores: Value) -> Value:
    return b.mul(scores, 0.5)


def divided(b: Builder, scores: Value) -> Value:
    return b.div(scores, math.sqrt(4.0))


def negated(b: Builder, scores: Value) -> Value:
    return b.neg(scores)


def padded(b: Builder, scores: Value) -> Value:
    """A bias for keys that are padding, added after scaling."""
    mask = b.input("mask", TensorType(DType.F32, (scores.type.shape[0], 1, 1, scores.type.shape[-1])))
    bias = b.mul(b.sub(mask, 1.0), 1e9)
    return b.add(scaled(b, scores), b.broadcast(bias, scores.type.shape, range(4)))


def biased_then_scaled(b: Builder, scores: Value) -> Value:
    bias = b.input("bias", TensorType(DType.F32, scores.type.shape[-3:]))
    return scaled(b, b.add(b.broadcast_to(bias, scores.type.shape), scores))


def less_bias(b: Builder, scores: Value) -> Value:
    bias = b.input("bias", TensorType(DType.F32, scores.type.shape[-2:]))
    return b.sub(scaled(b, scores), b.broadcast_to(bias, scores.type.shape))


def hidden_where(b: Builder, scores: Value) -> Value:
    """A bool mask, true for keys that are hidden."""
    mask = b.input("hidden", TensorType(DType.BOOL, (scores.type.shape[0], 1, 1, scores.type.shape[-1])))
    wide = b.broadcast(mask, scores.type.shape, range(4))
    return b.where(wide, b.full_like(-1e30, scores), scores)


def causal_where(b: Builder, scores: Value) -> Value:
    *lead, rows, columns = scores.type.shape
    seen = before(b, rows, columns, lead)
    return b.where(seen, scaled(b, scores), b.full_like(float("-inf"), scores))


def causal_not(b: Builder, scores: Value) -> Value:
    *lead, rows, columns = scores.type.shape
    ahead = b.emit("logical_not", before(b, rows, columns, lead, DType.F32))
    return b.where(ahead, b.full_like(-1e9, scores), scores)


def causal_added(b: Builder, scores: Value) -> Value:
    """(allowed - 1) * 1e9, as the zoo's transformer has it."""
    *lead, rows, columns = scores.type.shape
    allowed = b.cast(before(b, rows, columns, (1,)), DType.F32)
    bias = b.reshape(b.mul(b.sub(allowed, 1.0), 1e9), (1,) * len(lead) + (rows, columns))
    return b.add(scaled(b, scores), b.broadcast(bias, scores.type.shape, range(len(lead) + 2)))


def causal_shifted(b: Builder, scores: Value) -> Value:
    """The last query sees all keys: j - i < T - S + 1."""
    shape = scores.type.shape
    last = len(shape) - 1
    keys, queries = (b.emit("iota", axis=a, dtype=DType.I64, shape=shape) for a in (last, last - 1))
    shift = b.dim(shape[-1] - shape[-2], DType.I64)
    seen = b.lt(keys, b.add(b.add(queries, shift), 1))
    return b.where(seen, scores, b.full_like(float("-inf"), scores))


def causal_and_padded(b: Builder, scores: Value) -> Value:
    return causal_where(b, padded(b, scores))


def split_heads(b: Builder, scores: Value) -> Value:
    """Scores of batch and heads in one axis, masked with the two apart."""
    joint, rows, columns = scores.type.shape
    mask = b.input("mask", TensorType(DType.F32, (2, 1, 1, columns)))
    apart = b.reshape(scores, (2, joint // 2, rows, columns))
    apart = b.add(apart, b.broadcast(mask, apart.type.shape, range(4)))
    return b.reshape(apart, scores.type.shape)


def dropped(b: Builder, weights: Value) -> Value:
    """As Dropout composes it."""
    state = b.input("state", TensorType(DType.I64, (2,)))
    drawn = b.emit("random_uniform", state, stream=5, shape=weights.type.shape)
    return b.mul(weights, b.mul(b.cast(b.lt(drawn, 0.6), weights.type.dtype), 1 / 0.6))


def dropped_apart(b: Builder, weights: Value) -> Value:
    """Drawn with batch and heads in two axes."""
    joint, rows, columns = weights.type.shape
    apart = b.reshape(weights, (2, joint // 2, rows, columns))
    return b.reshape(dropped(b, apart), weights.type.shape)


N = symbol("N")

FORMS: dict[str, tuple[Graph, dict[str, object]]] = {
    "plain": (attention(), {"scale": 1.0, "causal": False}),
    "scaled": (attention(scaled), {"scale": 0.5, "causal": False}),
    "divided": (attention(divided), {"scale": 0.5, "causal": False}),
    "negated": (attention(negated), {"scale": -1.0, "causal": False}),
    "padded": (attention(padded), {"scale": 0.5, "causal": False}),
    "biased then scaled": (attention(biased_then_scaled), {"scale": 0.5, "causal": False}),
    "less a bias": (attention(less_bias), {"scale": 0.5, "causal": False}),
    "hidden": (attention(hidden_where), {"scale": 1.0, "causal": False}),
    "causal": (attention(causal_where), {"scale": 0.5, "causal": True, "offset": 0}),
    "not ahead": (attention(causal_not), {"scale": 1.0, "causal": True, "offset": 0}),
    "causal bias": (attention(causal_added), {"scale": 0.5, "causal": True, "offset": 0}),
    "shifted": (attention(causal_shifted), {"scale": 1.0, "causal": True, "offset": 2}),
    "causal and padded": (attention(causal_and_padded), {"scale": 0.25, "causal": True}),
    "one batch axis": (attention(scaled, q=(6, 5, 4), k=(6, 7, 4), v=(6, 7, 2)), {"scale": 0.5}),
    "no batch axis": (attention(causal_where, q=(5, 4), k=(7, 4), v=(7, 2)), {"scale": 0.5, "causal": True}),
    "heads split": (attention(split_heads, q=(6, 5, 4), k=(6, 7, 4), v=(6, 7, 2)), {"scale": 1.0}),
    "named sizes": (attention(causal_added, q=(2, N, 4), k=(2, N, 4), v=(2, N, 3)), {"causal": True}),
    "f64": (attention(scaled, dtype=DType.F64), {"scale": 0.5}),
    "dropout": (attention(scaled, dropped), {"scale": 0.5, "keep": 0.6, "stream": 5}),
    "dropout of heads": (
        attention(causal_where, dropped_apart, q=(6, 5, 4), k=(6, 7, 4), v=(6, 7, 2)),
        {"keep": 0.6},
    ),
}


def with_gradient(
    lead: Sequence[Dim],
    rows: Dim,
    columns: Dim,
    depth: int,
    width: int,
    *,
    causal: bool = False,
    offset: Dim = 0,
    bias: bool = False,
    keep: float = 1.0,
    dtype: DType = DType.F32,
) -> Graph:
    """The primitives themselves: out, log_sum_exp and the three gradients."""
    b = Builder("attention")

    def given(name: str, *shape: Dim, of: DType = dtype) -> Value:
        return b.input(name, TensorType(of, (*lead, *shape)))

    operands = [given("q", rows, depth), given("k", columns, depth), given("v", columns, width)]
    operands += [
        b.broadcast_to(b.input("bias", TensorType(dtype, (rows, columns))), (*lead, rows, columns))
    ] * bias
    if keep < 1.0:
        operands.append(b.broadcast_to(b.input("state", TensorType(DType.I64, (2,))), (*lead, 2)))
    attributes = {"scale": 1 / math.sqrt(max(1, depth)), "causal": causal, "offset": offset}
    attributes |= {"keep": keep, "stream": 3}
    out, log_sum_exp = b.emit_all("attention", *operands, **attributes)
    g, wide = given("g", rows, width), dtype.compute
    delta = b.reduce("reduce_sum", b.mul(b.cast(out, wide), b.cast(g, wide)), (-1,))
    dq, dk, dv = b.emit_all("attention_gradient", log_sum_exp, delta, g, *operands, **attributes)
    return b.finish({"out": out, "log_sum_exp": log_sum_exp, "dq": dq, "dk": dk, "dv": dv})
