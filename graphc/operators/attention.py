"""Attention: the whole of it in one operator, and MXNet's products of interleaved projections.

Whoever writes softmax(q kᵀ) v out of products and a softmax gets the same kernels (`passes/rules/attention.py`); here
nothing has to be found.
"""

from __future__ import annotations

import math
from typing import Any

from graphc.ir.graph import Value
from graphc.operators.declare import Context, Operator, declare
from graphc.operators.inference import (
    BrokenRuleError,
    ShapeFrame,
    forward_only,
    is_known,
    same_dtype_but,
)
from graphc.operators.parameters import NUMBER, Parameter, Parameters, boolean, integer, number, optional
from graphc.primitives.builder import Builder
from graphc.types import Dim, DType, Shape, dimension, product, same_dim


def _arguments(parameters: Parameters) -> tuple[str, ...]:
    return ("query", "key", "value", *(("mask",) if parameters.use_mask else ()))


def _width(shape: Shape, what: str) -> int:
    """The size of the last axis, which the scale is made of."""
    if not isinstance(shape[-1], int):
        raise BrokenRuleError(f"the last axis of {what} must be known, or scale given", {what: shape})
    return shape[-1]


def _sharers(query: Shape, key: Shape) -> int:
    """How many heads of the query, in a row, see each head of the keys."""
    if len(query) < 3 or same_dim(query[-3], key[-3]):
        return 1
    heads, groups = query[-3], key[-3]
    if not isinstance(groups, int) or not isinstance(heads, int) or groups == 0 or heads % groups:
        raise BrokenRuleError("the heads of query must be a multiple of those of key and value", {"key": key})
    return heads // groups


def _repeated(builder: Builder, x: Value, count: int) -> Value:
    """Keys or values [*, G, T, D] with each head `count` times in a row."""
    *lead, groups, rows, width = x.type.shape
    wide = (*lead, groups, count, rows, width)
    axes = (*range(len(lead) + 1), len(lead) + 2, len(lead) + 3)
    return builder.reshape(builder.broadcast(x, wide, axes), (*lead, groups * count, rows, width))


def _bias(builder: Builder, mask: Value, scores: Shape, dtype: DType) -> Value:
    """What a mask adds to the scores: where it is of bool, -inf for what is false."""
    shape = mask.type.shape
    fits = len(shape) <= len(scores) and all(
        dim == 1 or same_dim(dim, wanted)
        for dim, wanted in zip(reversed(shape), reversed(scores), strict=False)
    )
    if not fits:
        raise BrokenRuleError("mask must broadcast to the scores, [*, queries, keys]", {"mask": scores})
    if mask.type.dtype is DType.BOOL:
        shown = builder.full(0, mask.type.with_dtype(dtype))
        mask = builder.where(mask, shown, builder.full_like(-math.inf, shown))
    mask = builder.cast(mask, dtype)
    lead = len(scores) - len(shape)
    kept = [k for k, dim in enumerate(shape) if dim != 1 or scores[lead + k] == 1]
    flat = builder.reshape(mask, tuple(shape[k] for k in kept))
    return builder.broadcast(flat, scores, [lead + k for k in kept])


def _attention(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    query, key, value, *mask = inputs
    scale = parameters.scale
    if scale is None:
        scale = 1.0 / math.sqrt(max(1, _width(query.type.shape, "query")))
    *lead, queries, _ = query.type.shape
    keys, width = value.type.shape[-2:]
    operands = [query, key, value]
    if mask:
        operands.append(_bias(builder, mask[0], (*lead, queries, keys), query.type.dtype))
    causal = parameters.causal and queries != 1
    attributes: dict[str, Any] = {"scale": float(scale), "causal": causal}
    attributes["offset"] = dimension(keys - queries) if causal else 0
    count = _sharers(query.type.shape, key.type.shape)
    # Heads with the same keys are queries of one product, which reads the keys once.
    if count > 1 and queries == 1:
        lead[-1] = key.type.shape[-3]
        operands[0], *operands[3:] = (
            builder.reshape(x, (*lead, count, x.type.shape[-1])) for x in (query, *operands[3:])
        )
    elif count > 1:
        operands[1:3] = (_repeated(builder, x, count) for x in (key, value))
    shape = (*query.type.shape[:-1], width)
    if context.is_train and parameters.p == 1.0:
        return builder.full(0, query.type.with_shape(shape))
    if context.is_train and parameters.p:
        state, stream = context.random_stream(builder)
        operands.append(builder.broadcast_to(state, (*lead, 2)))
        attributes |= {"keep": 1.0 - parameters.p, "stream": stream}
    return builder.reshape(builder.emit_all("attention", *operands, **attributes)[0], shape)


def _attention_shapes(frame: ShapeFrame) -> None:
    query, key, value = frame["query"], frame["key"], frame["value"]
    for name, shape in (("query", query), ("key", key), ("value", value)):
        if shape is not None and len(shape) < 2:
            raise BrokenRuleError(f"{name} has the axes ..., rows, features", {name: (0, 0)})
    if query is not None:
        heads: tuple[Dim, ...] = (0,) if len(query) > 2 else ()
        rule = "query and key have the same leading axes, but for fewer heads of keys, and as many features"
        frame.expect("key", (*query[:-3], *heads, 0, query[-1]), rule)
    if key is not None:
        frame.expect("value", (*key[:-1], 0), "there is a value for each key")
    if query is not None and value is not None:
        frame.expect_output((*query[:-1], value[-1]))


declare(
    Operator(
        "scaled_dot_product_attention",
        "softmax(scale query keyᵀ + mask) value over the last two axes, without storing the scores.\n\n"
        "query [*, S, D], key [*, T, D], value [*, T, E]; the axis before the last two, the heads, may be shorter in "
        "key and value, each of which then serves several heads in a row. mask broadcasts to [*, S, T]: numbers are "
        "added to the scores, of bool what is false is hidden. A row that is hidden whole is NaN.",
        _attention,
        parameters=(
            Parameter("scale", optional(NUMBER), "Factor of the scores; 1 / sqrt(D) by default.", None),
            boolean("causal", "Hide later keys; the last query sees all, as with a cache of keys.", False),
            number(
                "p",
                "Probability of dropout of the softmax's result, in training.",
                0.0,
                minimum=0.0,
                maximum=1.0,
            ),
            boolean("use_mask", "Take a mask as an input.", False),
        ),
        arguments=_arguments,
        shapes=_attention_shapes,
        dtypes=same_dtype_but("mask"),
    )
)


# MXNet's: steps first, and the projections of one head side by side


def _part(builder: Builder, joint: Value, heads: int, parts: int, part: int) -> Value:
    """One of `parts` projections [T, N, heads * parts * D], as [N * heads, T, D]."""
    steps, batch, wide = joint.type.shape
    if not isinstance(wide, int) or wide % (heads * parts):
        words = f"its last axis must be a multiple of heads * {parts} = {heads * parts}"
        raise BrokenRuleError(words, {"heads": f"{heads} heads", "data": joint.type.shape})
    width = wide // (heads * parts)
    apart = builder.reshape(joint, (steps, batch, heads, parts, width))
    one = builder.reshape(builder.slice_axis(apart, 3, part, part + 1), (steps, batch, heads, width))
    return builder.reshape(builder.transpose(one, (1, 2, 0, 3)), (product((batch, heads)), steps, width))


def _scores(builder: Builder, query: Value, key: Value) -> Value:
    width = query.type.shape[-1]
    assert isinstance(width, int)
    return builder.mul(builder.dot(query, key, transpose_b=True), 1.0 / math.sqrt(max(1, width)))


def _mixed(builder: Builder, weights: Value, value: Value, heads: int, batch: Dim) -> Value:
    """The products of weights and values of each head, side by side: [S, N, heads * D]."""
    mixed = builder.dot(weights, value)
    _, steps, width = mixed.type.shape
    apart = builder.reshape(mixed, (batch, heads, steps, width))
    return builder.reshape(builder.transpose(apart, (2, 0, 1, 3)), (steps, batch, product((heads, width))))


def _self_scores(b: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    query, key = (_part(b, inputs[0], parameters.heads, 3, part) for part in (0, 1))
    return _scores(b, query, key)


def _self_values(b: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    joint, weights = inputs
    value = _part(b, joint, parameters.heads, 3, 2)
    return _mixed(b, weights, value, parameters.heads, joint.type.shape[1])


def _cross_scores(b: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    query = _part(b, inputs[0], parameters.heads, 1, 0)
    return _scores(b, query, _part(b, inputs[1], parameters.heads, 2, 0))


def _cross_values(b: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    joint, weights = inputs
    value = _part(b, joint, parameters.heads, 2, 1)
    return _mixed(b, weights, value, parameters.heads, joint.type.shape[1])


def _three_axes(frame: ShapeFrame) -> None:
    for name in frame.names:
        shape = frame[name]
        if shape is not None and len(shape) != 3:
            words = "batch * heads, rows, keys" if name == "attention" else "steps, batch, features"
            raise BrokenRuleError(f"{name} has the axes {words}", {name: (0, 0, 0)})
    if "attention" not in frame:
        forward_only(frame)
        return
    joint, heads = frame[frame.names[0]], frame.parameters.heads
    if joint is not None:
        batch = product((joint[1], heads)) if is_known(joint[1]) else 0
        frame.expect(
            "attention", (batch, 0, joint[0]), "attention has a matrix for each head of each example"
        )
    forward_only(frame)


_HEADS = (integer("heads", "Number of heads.", minimum=1),)
for _name, _doc, _compose, _inputs in (
    (
        "selfatt_qk", "Scores query keyᵀ / sqrt(D) of self-attention, [N * heads, T, T], of projections "
        "[T, N, heads * 3 * D] that hold query, key and value of a head side by side.",
        _self_scores, ("queries_keys_values",),
    ),
    (
        "selfatt_valatt", "Values weighted by attention [N * heads, T, T], as [T, N, heads * D], of the projections of "
        "selfatt_qk.", _self_values, ("queries_keys_values", "attention"),
    ),
    (
        "encdec_qk", "Scores query keyᵀ / sqrt(D), [N * heads, S, T], of queries [S, N, heads * D] and projections "
        "[T, N, heads * 2 * D] that hold key and value of a head side by side.",
        _cross_scores, ("queries", "keys_values"),
    ),
    (
        "encdec_valatt", "Values weighted by attention [N * heads, S, T], as [S, N, heads * D], of the projections of "
        "encdec_qk.", _cross_values, ("keys_values", "attention"),
    ),
):  # fmt: skip
    declare(
        Operator(
            f"_contrib_interleaved_matmul_{_name}",
            _doc,
            _compose,
            parameters=_HEADS,
            arguments=_inputs,
            shapes=_three_axes,
            aliases=(f"interleaved_matmul_{_name}",),
        )
    )


def _divided(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    return builder.mul(inputs[0], 1.0 / math.sqrt(max(1, _width(inputs[0].type.shape, "data"))))


declare(
    Operator(
        "_contrib_div_sqrt_dim",
        "Data over the square root of the size of their last axis.",
        _divided,
        aliases=("div_sqrt_dim",),
    )
)
