"""Attention: softmax(scale q kᵀ + bias) v without the matrix of scores, and its gradient, which makes them again.

    s = scale q kᵀ + bias          [*, S, T]; with `causal`, keys j > i + offset are hidden from query i: -inf
    out = softmax(s) v             [*, S, E]
    log_sum_exp = log sum exp s    [*, S], in f32 for 16-bit floats

A row of nothing but -inf gives NaN, as the softmax does that computes it from the greatest score; without keys
(T = 0) the result is 0. The gradient takes delta = sum(out * d_out, last axis) - d_log_sum_exp as an operand:

    p = exp(s - log_sum_exp),  ds = p (d_out vᵀ - delta); both 0 for hidden keys
    d_query = scale ds k,  d_key = scale dsᵀ q,  d_value = pᵀ d_out

Source: T. Dao, FlashAttention-2 (2023), algorithms 1 and 2. The expansions say the same in other primitives: second
derivatives, the gradient of a bias, and targets without a template are made of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from graphc.ir.graph import Attributes, Node, Value
from graphc.primitives import rules
from graphc.primitives.declare import AttributeSpec, Kind, Primitive, TypeRuleError, declare
from graphc.primitives.expansion import gradient_by_expansion
from graphc.types import Dim, DType, TensorType, dimension, product, same_dim

if TYPE_CHECKING:
    import torch

    from graphc.primitives.builder import Builder

Gradients = tuple[Value | None, ...]
Types = tuple[TensorType, ...]
Tensors = tuple["torch.Tensor", ...]

ATTRIBUTES = (
    AttributeSpec("scale", "factor of the scores"),
    AttributeSpec("causal", "hide keys behind the query's own position", required=False, default=False),
    AttributeSpec("offset", "with causal, query i sees keys up to i + offset", required=False, default=0),
)


# types


def _scores_type(q: TensorType, k: TensorType, v: TensorType, attributes: Attributes) -> TensorType:
    """The type of the scores; TypeRuleError where the operands or attributes make none."""
    rules.floating(q, k, v)
    rules.one_dtype(q, k, v)
    if q.rank < 2 or k.rank != q.rank or v.rank != q.rank:
        raise TypeRuleError(f"query, key and value must have one rank of at least 2, got {q}, {k} and {v}")
    rules.shape_is("the key's leading axes", k.shape[:-2], q.shape[:-2])
    rules.shape_is("the value's leading axes", v.shape[:-2], q.shape[:-2])
    if not same_dim(q.shape[-1], k.shape[-1]):
        raise TypeRuleError(f"query and key must have equally many features: {q}, {k}")
    if not same_dim(k.shape[-2], v.shape[-2]):
        raise TypeRuleError(f"there must be as many values as keys: {k}, {v}")
    scale, causal, offset = (attributes[name] for name in ("scale", "causal", "offset"))
    if not isinstance(scale, float):
        raise TypeRuleError(f"scale must be a float, got {scale!r}")
    if not isinstance(causal, bool):
        raise TypeRuleError(f"causal must be a bool, got {causal!r}")
    if isinstance(offset, (bool, float, str)) or (not causal and offset != 0):
        raise TypeRuleError(f"offset must be a dimension, and 0 without causal, got {offset!r}")
    return q.with_shape((*q.shape[:-1], k.shape[-2])).with_dtype(q.dtype.compute)


def _require_bias(bias: Types, q: TensorType, scores: TensorType) -> None:
    for type in bias:
        rules.one_dtype(q, type)
        rules.shape_is("the bias", type.shape, scores.shape)


def _attention_rule(types: Types, attributes: Attributes) -> Types:
    if len(types) not in (3, 4):
        raise TypeRuleError(f"takes query, key, value and maybe a bias, got {len(types)} operands")
    q, k, v, *bias = types
    scores = _scores_type(q, k, v, attributes)
    _require_bias(tuple(bias), q, scores)
    return q.with_shape((*q.shape[:-1], v.shape[-1])), scores.with_shape(scores.shape[:-1])


def _gradient_rule(types: Types, attributes: Attributes) -> Types:
    if len(types) not in (6, 7):
        raise TypeRuleError(
            f"takes log_sum_exp, delta, d_out, query, key, value and maybe a bias, got {len(types)} operands"
        )
    log_sum_exp, delta, d_out, q, k, v, *bias = types
    scores = _scores_type(q, k, v, attributes)
    _require_bias(tuple(bias), q, scores)
    for name, type in (("log_sum_exp", log_sum_exp), ("delta", delta)):
        rules.shape_is(name, type.shape, scores.shape[:-1])
        if type.dtype is not scores.dtype:
            raise TypeRuleError(f"{name} must be {scores.dtype}, got {type}")
    rules.one_dtype(q, d_out)
    rules.shape_is("d_out", d_out.shape, (*q.shape[:-1], v.shape[-1]))
    return q, k, v


# the same in other primitives


class _Matrices(NamedTuple):
    """What a template never stores, and its operands, in the type of arithmetic."""

    q: Value
    k: Value
    v: Value
    scores: Value
    seen: Value | None
    scale: float


def _dot(b: Builder, x: Value, y: Value, transpose_x: bool = False, transpose_y: bool = False) -> Value:
    return b.emit("dot", x, y, transpose_a=transpose_x, transpose_b=transpose_y)


def _rows(b: Builder, row: Value, like: Value) -> Value:
    """One number a row, spread over the row."""
    return b.broadcast(row, like.type.shape, range(row.type.rank))


def _scores(b: Builder, node: Node, operands: tuple[Value, ...]) -> _Matrices:
    """The scores of query, key, value and maybe a bias."""
    wide = operands[0].type.dtype.compute
    q, k, v, *bias = (b.cast(value, wide) for value in operands)
    scores = b.mul(_dot(b, q, k, transpose_y=True), node.attributes["scale"])
    if bias:
        scores = b.add(scores, bias[0])
    seen: Value | None = None
    if node.attributes["causal"]:
        shape = scores.type.shape
        last = len(shape) - 1
        keys = b.emit("iota", axis=last, dtype=DType.I64, shape=shape)
        queries = b.emit("iota", axis=last - 1, dtype=DType.I64, shape=shape)
        seen = b.le(keys, b.add(queries, b.dim(node.attributes["offset"], DType.I64)))
        scores = b.where(seen, scores, b.full_like(float("-inf"), scores))
    return _Matrices(q, k, v, scores, seen, node.attributes["scale"])


def _expand(b: Builder, node: Node) -> tuple[Value, ...]:
    """Softmax from the greatest score, and log-sum-exp beside it."""
    m = _scores(b, node, node.inputs)
    greatest = b.stop_gradient(b.reduce("reduce_max", m.scores, (-1,)))
    powers = b.exp(b.sub(m.scores, _rows(b, greatest, m.scores)))
    total = b.reduce("reduce_sum", powers, (-1,))
    out = _dot(b, b.div(powers, _rows(b, total, powers)), m.v)
    nothing = b.full_like(float("-inf"), greatest)
    log_sum_exp = b.where(b.eq(greatest, nothing), greatest, b.add(greatest, b.log(total)))
    return b.cast(out, node.inputs[0].type.dtype), log_sum_exp


class _Slopes(NamedTuple):
    """The gradient of the result, the probabilities, and the gradient of the scores."""

    m: _Matrices
    g: Value
    p: Value
    ds: Value


def _slopes(b: Builder, node: Node, operands: tuple[Value, ...]) -> _Slopes:
    log_sum_exp, delta, d_out, *rest = operands
    m = _scores(b, node, tuple(rest))
    g = b.cast(d_out, m.q.type.dtype)
    p = b.exp(b.sub(m.scores, _rows(b, log_sum_exp, m.scores)))
    slope = b.sub(_dot(b, g, m.v, transpose_y=True), _rows(b, delta, m.scores))
    ds = b.mul(p, slope)
    if m.seen is not None:
        zero = b.full_like(0, p)
        p, ds = b.where(m.seen, p, zero), b.where(m.seen, ds, zero)
    return _Slopes(m, g, p, ds)


def _expand_gradient(b: Builder, node: Node) -> tuple[Value, ...]:
    m, g, p, ds = _slopes(b, node, node.inputs)
    dq = b.mul(_dot(b, ds, m.k), m.scale)
    dk = b.mul(_dot(b, ds, m.q, transpose_x=True), m.scale)
    dv = _dot(b, p, g, transpose_x=True)
    return tuple(b.cast(value, node.inputs[3].type.dtype) for value in (dq, dk, dv))


# gradients


def _attention_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    d_out, d_log_sum_exp = heads
    q, k, v, *bias = node.inputs
    out, log_sum_exp = node.outputs
    wide = q.type.dtype.compute
    if d_out is None:
        d_out = b.full_like(0, out)
    products = b.mul(b.cast(out, wide), b.cast(d_out, wide))
    delta = b.reduce("reduce_sum", products, (-1,))
    if d_log_sum_exp is not None:
        delta = b.sub(delta, d_log_sum_exp)
    operands = (log_sum_exp, delta, d_out, q, k, v, *bias)
    made = b.emit_all("attention_gradient", *operands, **_attributes(node))
    if not bias:
        return made
    return (*made, b.cast(_slopes(b, node, operands).ds, q.type.dtype))


def _attributes(node: Node) -> dict[str, Any]:
    return {spec.name: node.attributes[spec.name] for spec in ATTRIBUTES}


# oracles


def _score_matrix(operands: Tensors, attributes: Attributes) -> tuple[torch.Tensor, torch.Tensor]:
    """The scores, and which of them are hidden."""
    import torch

    q, k, _, *bias = operands
    scores = (q @ k.mT) * attributes["scale"]
    if bias:
        scores = scores + bias[0]
    hidden = torch.zeros(scores.shape[-2:], dtype=torch.bool, device=scores.device)
    if attributes["causal"]:
        hidden = torch.ones_like(hidden).triu(1 + int(attributes["offset"]))
    return scores.masked_fill(hidden, float("-inf")), hidden


def _wide(operands: Tensors) -> Tensors:
    import torch

    half = (torch.float16, torch.bfloat16)
    return tuple(x.float() if x.dtype in half else x for x in operands)


def _attention_oracle(operands: Tensors, node: Node, shapes: Any) -> Tensors:
    wide = _wide(operands)
    scores, _ = _score_matrix(wide, node.attributes)
    out = scores.softmax(-1) @ wide[2]
    return out.to(operands[0].dtype), scores.logsumexp(-1)


def _gradient_oracle(operands: Tensors, node: Node, shapes: Any) -> Tensors:
    log_sum_exp, delta, d_out, q, k, v, *bias = _wide(operands)
    scale = node.attributes["scale"]
    scores, hidden = _score_matrix((q, k, v, *bias), node.attributes)
    p = (scores - log_sum_exp[..., None]).exp().masked_fill(hidden, 0)
    ds = (p * (d_out @ v.mT - delta[..., None]) * scale).masked_fill(hidden, 0)
    return tuple(x.to(operands[3].dtype) for x in (ds @ k, ds.mT @ q, p.mT @ d_out))


# costs and traits


def _lead(node: Node) -> int:
    return node.outputs[0].type.rank - 2


def _flops(products_of_scores: int, products_of_values: int, q: int) -> Any:
    """Two operations for each term of the products that run over scores; with causal, half of a square."""

    def count(node: Node) -> Dim:
        query, key, value = (operand.type.shape for operand in node.inputs[q : q + 3])
        pairs = product((*query[:-1], key[-2]))
        return dimension(2 * pairs * (products_of_scores * query[-1] + products_of_values * value[-1]))

    return count


declare(
    Primitive(
        "attention",
        "softmax(scale q kᵀ + bias) v and the log-sum-exp of each row of scores",
        Kind.TEMPLATE,
        _attention_rule,
        _attention_oracle,
        _attention_gradient,
        attributes=ATTRIBUTES,
        expansion=_expand,
        lead=_lead,
        flops=_flops(1, 1, 0),
    )
)
declare(
    Primitive(
        "attention_gradient",
        "gradients of query, key and value from log_sum_exp, delta, d_out and attention's operands",
        Kind.TEMPLATE,
        _gradient_rule,
        _gradient_oracle,
        gradient_by_expansion(_expand_gradient),
        attributes=ATTRIBUTES,
        expansion=_expand_gradient,
        lead=_lead,
        flops=_flops(3, 2, 3),
    )
)
