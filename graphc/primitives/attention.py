"""Attention: softmax(scale q kᵀ + bias) v without the matrix of scores, and its gradient, which makes them again.

    s = scale q kᵀ + bias          [*, S, T]; with `causal`, keys j > i + offset are hidden from query i: -inf
    out = softmax(s) v             [*, S, E]
    log_sum_exp = log sum exp s    [*, S], in f32 for 16-bit floats

With keep < 1, dropout lies between the softmax and v: element n of the probabilities, in the order of [*, S, T], is
multiplied by m = 1 / keep where random_uniform(state, stream) is below keep at n, and by 0 elsewhere. The last operand
is then the state, i64[*, 2], the same for all items. log_sum_exp knows nothing of it.

A row of nothing but -inf gives NaN, as the softmax does that computes it from the greatest score; without keys
(T = 0) the result is 0. The gradient takes delta = sum(out * d_out, last axis) - d_log_sum_exp as an operand:

    p = exp(s - log_sum_exp),  ds = p (m d_out vᵀ - delta); both 0 for hidden keys
    d_query = scale ds k,  d_key = scale dsᵀ q,  d_value = (m p)ᵀ d_out

Source: T. Dao, FlashAttention-2 (2023), algorithms 1 and 2. The expansions say the same in other primitives: second
derivatives, the gradient of a bias, and targets without a template are made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from graphc.ir.graph import Attributes, Node, Value
from graphc.primitives import rules
from graphc.primitives.declare import AttributeSpec, Kind, Primitive, TypeRuleError, declare
from graphc.primitives.expansion import gradient_by_expansion
from graphc.primitives.random import uniform
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
    AttributeSpec("keep", "share of the probabilities that dropout keeps", required=False, default=1.0),
    AttributeSpec("stream", "with dropout, tells it from other random nodes", required=False, default=0),
)
T = TypeVar("T")


def drops(attributes: Attributes) -> bool:
    """True where probabilities are dropped, and the last operand is the random state."""
    return bool(attributes["keep"] < 1.0)


def named(primitive: str, attributes: Attributes, operands: Sequence[T]) -> dict[str, T]:
    """The operands by name: q, k, v, where they are given bias and state, and what the gradient takes before them."""
    first = ("log_sum_exp", "delta", "d_out") if primitive == "attention_gradient" else ()
    last = ("state",) if drops(attributes) else ()
    names = (*first, "q", "k", "v", *(("bias",) if len(operands) - len(first) - len(last) > 3 else ()), *last)
    return dict(zip(names, operands, strict=True))


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
    scale, causal, offset, keep = (attributes[name] for name in ("scale", "causal", "offset", "keep"))
    if not isinstance(scale, float):
        raise TypeRuleError(f"scale must be a float, got {scale!r}")
    if not isinstance(causal, bool):
        raise TypeRuleError(f"causal must be a bool, got {causal!r}")
    if isinstance(offset, (bool, float, str)) or (not causal and offset != 0):
        raise TypeRuleError(f"offset must be a dimension, and 0 without causal, got {offset!r}")
    if not isinstance(keep, float) or not 0.0 < keep <= 1.0:
        raise TypeRuleError(f"keep must be a float above 0, and at most 1, got {keep!r}")
    return q.with_shape((*q.shape[:-1], k.shape[-2])).with_dtype(q.dtype.compute)


def _require_rest(rest: Types, q: TensorType, scores: TensorType, attributes: Attributes) -> None:
    """A bias if there is one, and the random state where probabilities are dropped."""
    if drops(attributes):
        if not rest or rest[-1].dtype is not DType.I64:
            raise TypeRuleError("with keep < 1 the last operand is the random state, in i64")
        *_, state = rest
        rules.shape_is("the random state", state.shape, (*q.shape[:-2], 2))
        rest = rest[:-1]
    for type in rest:
        rules.one_dtype(q, type)
        rules.shape_is("the bias", type.shape, scores.shape)


def _count(types: Types, least: int, attributes: Attributes, what: str) -> None:
    least += drops(attributes)
    if len(types) not in (least, least + 1):
        state = ", and the random state" if drops(attributes) else ""
        raise TypeRuleError(f"takes {what} and maybe a bias{state}, got {len(types)} operands")


def _attention_rule(types: Types, attributes: Attributes) -> Types:
    _count(types, 3, attributes, "query, key, value")
    q, k, v, *rest = types
    scores = _scores_type(q, k, v, attributes)
    _require_rest(tuple(rest), q, scores, attributes)
    return q.with_shape((*q.shape[:-1], v.shape[-1])), scores.with_shape(scores.shape[:-1])


def _gradient_rule(types: Types, attributes: Attributes) -> Types:
    _count(types, 6, attributes, "log_sum_exp, delta, d_out, query, key, value")
    log_sum_exp, delta, d_out, q, k, v, *rest = types
    scores = _scores_type(q, k, v, attributes)
    _require_rest(tuple(rest), q, scores, attributes)
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
    factor: Value | None
    """What dropout multiplies each probability by."""

    def dropped(self, b: Builder, x: Value) -> Value:
        return x if self.factor is None else b.mul(x, self.factor)


def _dot(b: Builder, x: Value, y: Value, transpose_x: bool = False, transpose_y: bool = False) -> Value:
    return b.emit("dot", x, y, transpose_a=transpose_x, transpose_b=transpose_y)


def _rows(b: Builder, row: Value, like: Value) -> Value:
    """One number a row, spread over the row."""
    return b.broadcast(row, like.type.shape, range(row.type.rank))


def _factor(b: Builder, scores: Value, state: Value, attributes: Attributes) -> Value:
    """0 or 1 / keep for each of the scores."""
    rank = state.type.rank
    first = b.emit("slice", state, start=(0,) * rank, stop=(*(1,) * (rank - 1), 2))
    shape, stream, keep = scores.type.shape, attributes["stream"], attributes["keep"]
    drawn = b.emit("random_uniform", b.reshape(first, (2,)), stream=stream, shape=shape)
    return b.mul(b.cast(b.lt(drawn, keep), scores.type.dtype), 1.0 / keep)


def _scores(b: Builder, node: Node, operands: tuple[Value, ...]) -> _Matrices:
    """The scores of a node of either primitive."""
    found = named(node.primitive, node.attributes, operands)
    wide = found["q"].type.dtype.compute
    q, k, v = (b.cast(found[name], wide) for name in "qkv")
    scores = b.mul(_dot(b, q, k, transpose_y=True), node.attributes["scale"])
    if "bias" in found:
        scores = b.add(scores, b.cast(found["bias"], wide))
    seen: Value | None = None
    if node.attributes["causal"]:
        shape = scores.type.shape
        last = len(shape) - 1
        keys = b.emit("iota", axis=last, dtype=DType.I64, shape=shape)
        queries = b.emit("iota", axis=last - 1, dtype=DType.I64, shape=shape)
        seen = b.le(keys, b.add(queries, b.dim(node.attributes["offset"], DType.I64)))
        scores = b.where(seen, scores, b.full_like(float("-inf"), scores))
    factor = _factor(b, scores, found["state"], node.attributes) if "state" in found else None
    return _Matrices(q, k, v, scores, seen, node.attributes["scale"], factor)


def _widened(b: Builder, node: Node) -> tuple[Value, ...] | None:
    """The same primitive on operands in the type of arithmetic, for which there may be a template; None if they are."""
    dtype = node.inputs[-1 - drops(node.attributes)].type.dtype
    if dtype is dtype.compute:
        return None
    operands = (b.cast(x, dtype.compute) if x.type.dtype is dtype else x for x in node.inputs)
    return b.emit_all(node.primitive, *operands, **_attributes(node))


def _expand(b: Builder, node: Node) -> tuple[Value, ...]:
    """Softmax from the greatest score, and log-sum-exp beside it."""
    if (widened := _widened(b, node)) is not None:
        out, log_sum_exp = widened
        return b.cast(out, node.inputs[0].type.dtype), log_sum_exp
    m = _scores(b, node, node.inputs)
    greatest = b.stop_gradient(b.reduce("reduce_max", m.scores, (-1,)))
    powers = b.exp(b.sub(m.scores, _rows(b, greatest, m.scores)))
    total = b.reduce("reduce_sum", powers, (-1,))
    out = _dot(b, m.dropped(b, b.div(powers, _rows(b, total, powers))), m.v)
    nothing = b.full_like(float("-inf"), greatest)
    log_sum_exp = b.where(b.eq(greatest, nothing), greatest, b.add(greatest, b.log(total)))
    return b.cast(out, node.inputs[0].type.dtype), log_sum_exp


class _Slopes(NamedTuple):
    """The gradient of the result, the probabilities after dropout, and the gradient of the scores."""

    m: _Matrices
    g: Value
    p: Value
    ds: Value


def _slopes(b: Builder, node: Node, operands: tuple[Value, ...]) -> _Slopes:
    m = _scores(b, node, operands)
    log_sum_exp, delta, d_out, *_ = operands
    g = b.cast(d_out, m.q.type.dtype)
    p = b.exp(b.sub(m.scores, _rows(b, log_sum_exp, m.scores)))
    slope = b.sub(m.dropped(b, _dot(b, g, m.v, transpose_y=True)), _rows(b, delta, m.scores))
    ds = b.mul(p, slope)
    if m.seen is not None:
        zero = b.full_like(0, p)
        p, ds = b.where(m.seen, p, zero), b.where(m.seen, ds, zero)
    p = m.dropped(b, p)
    return _Slopes(m, g, p, ds)


def _expand_gradient(b: Builder, node: Node) -> tuple[Value, ...]:
    if (widened := _widened(b, node)) is not None:
        return tuple(b.cast(value, node.inputs[3].type.dtype) for value in widened)
    m, g, p, ds = _slopes(b, node, node.inputs)
    dq = b.mul(_dot(b, ds, m.k), m.scale)
    dk = b.mul(_dot(b, ds, m.q, transpose_x=True), m.scale)
    dv = _dot(b, p, g, transpose_x=True)
    return tuple(b.cast(value, node.inputs[3].type.dtype) for value in (dq, dk, dv))


# gradients


def _attention_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    d_out, d_log_sum_exp = heads
    found = named(node.primitive, node.attributes, node.inputs)
    q = found["q"]
    out, log_sum_exp = node.outputs
    wide = q.type.dtype.compute
    if d_out is None:
        d_out = b.full_like(0, out)
    products = b.mul(b.cast(out, wide), b.cast(d_out, wide))
    delta = b.reduce("reduce_sum", products, (-1,))
    if d_log_sum_exp is not None:
        delta = b.sub(delta, d_log_sum_exp)
    operands = (log_sum_exp, delta, d_out, *node.inputs)
    made = b.emit_all("attention_gradient", *operands, **_attributes(node))
    if "bias" in found:
        backward = Node("attention_gradient", operands, made, node.attributes)
        made = (*made, b.cast(_slopes(b, backward, operands).ds, q.type.dtype))
    return (*made, None) if "state" in found else made


def _attributes(node: Node) -> dict[str, Any]:
    return {spec.name: node.attributes[spec.name] for spec in ATTRIBUTES}


# oracles


class _Oracle(NamedTuple):
    """The operands in the type of arithmetic, the scores, which of them are hidden, and dropout's factors."""

    operands: dict[str, torch.Tensor]
    scores: torch.Tensor
    hidden: torch.Tensor
    factor: torch.Tensor | float

    @classmethod
    def of(cls, operands: Tensors, node: Node) -> _Oracle:
        import torch

        half, attributes = (torch.float16, torch.bfloat16), node.attributes
        found = named(node.primitive, attributes, [x.float() if x.dtype in half else x for x in operands])
        scores = (found["q"] @ found["k"].mT) * attributes["scale"]
        if "bias" in found:
            scores = scores + found["bias"]
        hidden = torch.zeros(scores.shape[-2:], dtype=torch.bool, device=scores.device)
        if attributes["causal"]:
            hidden = torch.ones_like(hidden).triu(1 + int(attributes["offset"]))
        factor: torch.Tensor | float = 1.0
        if "state" in found and scores.numel():
            seed, step = (int(word) for word in found["state"].reshape(-1, 2)[0])
            drawn = torch.from_numpy(uniform(seed, step, attributes["stream"], scores.numel()))
            kept = drawn.reshape(scores.shape) < torch.tensor(attributes["keep"], dtype=torch.float32)
            factor = kept.to(scores) / attributes["keep"]
        return cls(found, scores.masked_fill(hidden, float("-inf")), hidden, factor)


def _attention_oracle(operands: Tensors, node: Node, shapes: Any) -> Tensors:
    wide = _Oracle.of(operands, node)
    out = (wide.scores.softmax(-1) * wide.factor) @ wide.operands["v"]
    return out.to(operands[0].dtype), wide.scores.logsumexp(-1)


def _gradient_oracle(operands: Tensors, node: Node, shapes: Any) -> Tensors:
    wide = _Oracle.of(operands, node)
    x, scale = wide.operands, node.attributes["scale"]
    p = (wide.scores - x["log_sum_exp"][..., None]).exp().masked_fill(wide.hidden, 0)
    slopes = (x["d_out"] @ x["v"].mT) * wide.factor - x["delta"][..., None]
    ds = (p * slopes * scale).masked_fill(wide.hidden, 0)
    p = p * wide.factor
    return tuple(y.to(operands[3].dtype) for y in (ds @ x["k"], ds.mT @ x["q"], p.mT @ x["d_out"]))


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
