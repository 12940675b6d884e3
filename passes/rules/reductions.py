"""Rules for reductions and contractions: reduce fewer elements, and read operands where they lie."""

from __future__ import annotations

from collections.abc import Collection

from graphc.ir.graph import Node, Value
from graphc.passes.rewrite import Rewriter, Rule, on
from graphc.types import Dim, DType, product, same_dim

_REDUCTIONS = ("reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_any")
_IDEMPOTENT = ("reduce_max", "reduce_min", "reduce_any")
"""Reductions of equal elements that give that element."""

_ORDER = "the same elements in another order: rounding of sums and products only"


def _one_element(rewriter: Rewriter, node: Node) -> Value | None:
    """Over axes of size 1 a reduction is a reshape, and the position of the greatest is 0."""
    if any(node.inputs[0].type.shape[axis] != 1 for axis in node.attributes["axes"]):
        return None
    if node.primitive not in _REDUCTIONS:
        return rewriter.full_like(0, node.output)
    return rewriter.reshape(node.inputs[0], node.output.type.shape)


def _merge_reductions(rewriter: Rewriter, node: Node) -> Value | None:
    inner = rewriter.producer(node.inputs[0], node.primitive)
    if inner is None:
        return None
    gone = inner.attributes["axes"]
    left = [axis for axis in range(inner.inputs[0].type.rank) if axis not in gone]
    return rewriter.reduce(
        node.primitive, inner.inputs[0], [*gone, *(left[axis] for axis in node.attributes["axes"])]
    )


def _reduce_broadcast(rewriter: Rewriter, node: Node) -> Value | None:
    """Along an axis that a broadcast repeats, a sum is a multiple and a maximum is the element."""
    spread = rewriter.producer(node.inputs[0], "broadcast")
    if spread is None:
        return None
    shape = node.inputs[0].type.shape
    repeated = [axis for axis in node.attributes["axes"] if axis in repeated_axes(spread)]
    if not repeated or any(shape[axis] == 0 for axis in repeated):
        return None
    left = [axis for axis in range(len(shape)) if axis not in repeated]
    axes = [left.index(axis) for axis in node.attributes["axes"] if axis in left]
    reduced = rewriter.reduce(node.primitive, without_repeats(rewriter, spread, repeated), axes)
    if node.primitive in _IDEMPOTENT:
        return reduced
    return times(rewriter, reduced, product(shape[axis] for axis in repeated))


def repeated_axes(spread: Node) -> set[int]:
    """The axes along which a broadcast's elements are equal because it repeats them."""
    shape = spread.output.type.shape
    mapped = zip(spread.attributes["axes"], spread.inputs[0].type.shape, strict=True)
    return set(range(len(shape))) - {axis for axis, dim in mapped if same_dim(dim, shape[axis])}


def without_repeats(rewriter: Rewriter, spread: Node, axes: Collection[int]) -> Value:
    """A broadcast without some of the axes that it repeats."""
    shape = spread.output.type.shape
    mapped = zip(spread.attributes["axes"], spread.inputs[0].type.shape, strict=True)
    rows = [(axis, dim) for axis, dim in mapped if axis not in axes]
    left = [axis for axis in range(len(shape)) if axis not in axes]
    small = rewriter.reshape(spread.inputs[0], [dim for _, dim in rows])
    return rewriter.broadcast(small, [shape[axis] for axis in left], [left.index(axis) for axis, _ in rows])


def times(rewriter: Rewriter, value: Value, count: Dim) -> Value:
    """`count` times a value; a count beyond an integer type's range wraps, as the sum does."""
    dtype = value.type.dtype
    if isinstance(count, int) and dtype.is_integer:
        modulus = 2 ** (8 * dtype.itemsize)
        count %= modulus
        if dtype is not DType.U8 and count >= modulus // 2:
            count -= modulus
    return rewriter.mul(value, rewriter.dim(count, dtype))


def _reduce_rearranged(rewriter: Rewriter, node: Node) -> Value | None:
    """A reduction over all axes sees no reshape and no transpose."""
    operand = node.inputs[0]
    inner = rewriter.producer(operand, "reshape", "transpose")
    if inner is None or len(node.attributes["axes"]) != operand.type.rank or not inner.inputs[0].type.rank:
        return None
    return rewriter.reduce(node.primitive, inner.inputs[0], range(inner.inputs[0].type.rank))


def _reduce_transposed(rewriter: Rewriter, node: Node) -> Value | None:
    """A reduction of a transpose reduces the axes where they were, when the others keep their order."""
    inner = rewriter.producer(node.inputs[0], "transpose")
    if inner is None:
        return None
    order = inner.attributes["axes"]
    kept = [axis for position, axis in enumerate(order) if position not in node.attributes["axes"]]
    if kept != sorted(kept):
        return None
    return rewriter.reduce(node.primitive, inner.inputs[0], [order[axis] for axis in node.attributes["axes"]])


def _dot_of_transposed(rewriter: Rewriter, node: Node) -> Value | None:
    """A transpose of the two matrix axes becomes a flag of the dot."""
    operands, flags = [], []
    for value, flag in zip(node.inputs, ("transpose_a", "transpose_b"), strict=True):
        inner = rewriter.producer(value, "transpose")
        rank = value.type.rank
        swaps = inner is not None and inner.attributes["axes"] == (*range(rank - 2), rank - 1, rank - 2)
        operands.append(inner.inputs[0] if inner is not None and swaps else value)
        flags.append(node.attributes[flag] != swaps)
    if tuple(operands) == node.inputs:
        return None
    return rewriter.emit("dot", *operands, transpose_a=flags[0], transpose_b=flags[1])


def _transpose_of_dot(rewriter: Rewriter, node: Node) -> Value | None:
    """(a b)' is b' a'."""
    inner = rewriter.producer(node.inputs[0], "dot")
    rank = node.output.type.rank
    if inner is None or node.attributes["axes"] != (*range(rank - 2), rank - 1, rank - 2):
        return None
    a, b = inner.inputs
    return rewriter.emit(
        "dot",
        b,
        a,
        transpose_a=not inner.attributes["transpose_b"],
        transpose_b=not inner.attributes["transpose_a"],
    )


_PRODUCTS = "the same products, summed in the same order"

RULES = (
    Rule(
        "reduction over ones -> reshape",
        "one element is its own sum",
        on(*_REDUCTIONS, "argmax", "argmin"),
        _one_element,
    ),
    Rule("reduce(reduce(x))", _ORDER, on("reduce_sum", "reduce_prod"), _merge_reductions, exact=False),
    Rule("reduce(reduce(x))", "order does not matter", on(*_IDEMPOTENT), _merge_reductions),
    Rule(
        "sum(broadcast(x)) -> n * sum(x)",
        "rounding of repeated sums only; n is at least 1, so NaN and infinity stay",
        on("reduce_sum"),
        _reduce_broadcast,
        exact=False,
    ),
    Rule("max(broadcast(x)) -> max(x)", "equal elements", on(*_IDEMPOTENT), _reduce_broadcast),
    Rule("sum(transpose(x))", _ORDER, on("reduce_sum", "reduce_prod"), _reduce_transposed, exact=False),
    Rule("max(transpose(x))", "order does not matter", on(*_IDEMPOTENT), _reduce_transposed),
    Rule(
        "sum of all of reshape(x)", _ORDER, on("reduce_sum", "reduce_prod"), _reduce_rearranged, exact=False
    ),
    Rule("max of all of reshape(x)", "order does not matter", on(*_IDEMPOTENT), _reduce_rearranged),
    Rule("dot(transpose(a), b)", _PRODUCTS, on("dot"), _dot_of_transposed),
    Rule("transpose(dot(a, b))", _PRODUCTS, on("transpose"), _transpose_of_dot),
)
