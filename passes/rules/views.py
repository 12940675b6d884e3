"""Rules for views and reshapes: chains become one node, and what moves nothing goes.

All are exact: every element of the result is the same element as before.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.graph import Node, Value
from graphc.passes.rewrite import Rewriter, Rule, on
from graphc.types import Dim, dimension, same_dim, same_shape, shape_of

_MOVES = "the same elements in the same places"


def _same_type(rewriter: Rewriter, node: Node) -> Value | None:
    """A broadcast, reshape or slice that keeps the shape keeps every element in its place."""
    operand = node.inputs[0]
    return operand if same_shape(operand.type.shape, node.output.type.shape) else None


def _without_ones(shape: Sequence[Dim]) -> tuple[int, ...]:
    """The axes whose dimension is not 1."""
    return tuple(axis for axis, dim in enumerate(shape) if dim != 1)


# broadcast


def _merge_broadcasts(rewriter: Rewriter, node: Node) -> Value | None:
    inner = rewriter.producer(node.inputs[0], "broadcast")
    if inner is None:
        return None
    axes = node.attributes["axes"]
    return rewriter.broadcast(
        inner.inputs[0], node.output.type.shape, [axes[axis] for axis in inner.attributes["axes"]]
    )


def _insert_ones(rewriter: Rewriter, node: Node) -> Value | None:
    """A broadcast whose new axes all have size 1 is a reshape."""
    operand, shape = node.inputs[0].type.shape, node.output.type.shape
    new = set(range(len(shape))) - set(node.attributes["axes"])
    mapped = (shape[axis] for axis in node.attributes["axes"])
    if any(shape[axis] != 1 for axis in new) or not all(map(same_dim, operand, mapped)):
        return None
    return rewriter.reshape(node.inputs[0], shape)


def _broadcast_without_ones(rewriter: Rewriter, node: Node) -> Value | None:
    """The operand of a broadcast needs no axes of size 1 that a reshape put there."""
    inner = rewriter.producer(node.inputs[0], "reshape")
    shape = node.inputs[0].type.shape
    kept = _without_ones(shape)
    if inner is None or len(kept) == len(shape):
        return None
    operand = rewriter.reshape(inner.inputs[0], [shape[axis] for axis in kept])
    axes = node.attributes["axes"]
    return rewriter.broadcast(operand, node.output.type.shape, [axes[axis] for axis in kept])


# reshape and transpose


def _merge_reshapes(rewriter: Rewriter, node: Node) -> Value | None:
    inner = rewriter.producer(node.inputs[0], "reshape")
    return None if inner is None else rewriter.reshape(inner.inputs[0], node.output.type.shape)


def _merge_transposes(rewriter: Rewriter, node: Node) -> Value | None:
    inner = rewriter.producer(node.inputs[0], "transpose")
    if inner is None:
        return None
    return rewriter.transpose(
        inner.inputs[0], [inner.attributes["axes"][axis] for axis in node.attributes["axes"]]
    )


def _transpose_of_ones(rewriter: Rewriter, node: Node) -> Value | None:
    """A transpose that moves only axes of size 1 is a reshape, or nothing."""
    shape = node.inputs[0].type.shape
    moved = [axis for axis in node.attributes["axes"] if shape[axis] != 1]
    return rewriter.reshape(node.inputs[0], node.output.type.shape) if moved == sorted(moved) else None


# slice, pad, reverse, concat


def _merge_slices(rewriter: Rewriter, node: Node) -> Value | None:
    inner = rewriter.producer(node.inputs[0], "slice")
    if inner is None:
        return None
    offset = inner.attributes["start"]
    return rewriter.slice(
        inner.inputs[0], _sums(offset, node.attributes["start"]), _sums(offset, node.attributes["stop"])
    )


def _slice_of_pad(rewriter: Rewriter, node: Node) -> Value | None:
    """A slice that lies in a pad's operand needs no pad."""
    inner = rewriter.producer(node.inputs[0], "pad")
    if inner is None:
        return None
    low, size = inner.attributes["low"], inner.inputs[0].type.shape
    start = _differences(node.attributes["start"], low)
    stop = _differences(node.attributes["stop"], low)
    inside = all(_at_least(a, 0) for a in start) and all(
        _at_least(d, b) for b, d in zip(stop, size, strict=True)
    )
    return rewriter.slice(inner.inputs[0], start, stop) if inside else None


def _slice_of_concat(rewriter: Rewriter, node: Node) -> Value | None:
    """A slice that lies in one operand of a concat is a slice of that operand."""
    inner = rewriter.producer(node.inputs[0], "concat")
    if inner is None:
        return None
    axis = inner.attributes["axis"]
    start, stop = node.attributes["start"][axis], node.attributes["stop"][axis]
    offset: Dim = 0
    for operand in inner.inputs:
        end = dimension(offset + operand.type.shape[axis])
        if _at_least(start, offset) and _at_least(end, stop):
            starts, stops = list(node.attributes["start"]), list(node.attributes["stop"])
            starts[axis], stops[axis] = dimension(start - offset), dimension(stop - offset)
            return rewriter.slice(operand, starts, stops)
        offset = end
    return None


def _merge_pads(rewriter: Rewriter, node: Node) -> Value | None:
    """Pads of one value add up; a pad of nothing goes."""
    low, high, value = (node.attributes[name] for name in ("low", "high", "value"))
    if all(dim == 0 for dim in (*low, *high)):
        return node.inputs[0]
    inner = rewriter.producer(node.inputs[0], "pad")
    if inner is None or repr(inner.attributes["value"]) != repr(value):
        return None
    return rewriter.emit(
        "pad",
        inner.inputs[0],
        low=_sums(low, inner.attributes["low"]),
        high=_sums(high, inner.attributes["high"]),
        value=value,
    )


def _merge_reverses(rewriter: Rewriter, node: Node) -> Value | None:
    axes, operand = set(node.attributes["axes"]), node.inputs[0]
    inner = rewriter.producer(operand, "reverse")
    if inner is not None:
        axes ^= set(inner.attributes["axes"])
        operand = inner.inputs[0]
    axes = {axis for axis in axes if operand.type.shape[axis] != 1}
    if not axes:
        return operand
    if inner is None and len(axes) == len(node.attributes["axes"]):
        return None
    return rewriter.emit("reverse", operand, axes=tuple(sorted(axes)))


def _flatten_concat(rewriter: Rewriter, node: Node) -> Value | None:
    """Operands that are concats along the axis, or empty, give their own operands, or nothing."""
    axis = node.attributes["axis"]
    operands: list[Value] = []
    for value in node.inputs:
        inner = rewriter.producer(value, "concat")
        operands += inner.inputs if inner is not None and inner.attributes["axis"] == axis else (value,)
    filled = [value for value in operands if value.type.shape[axis] != 0] or operands[:1]
    if len(filled) == 1:
        return filled[0]
    return rewriter.emit("concat", *filled, axis=axis) if tuple(filled) != node.inputs else None


def _rejoin_slices(rewriter: Rewriter, node: Node) -> Value | None:
    """Slices of one value that follow each other along the axis are one slice of it."""
    axis = node.attributes["axis"]
    slices = [rewriter.producer(value, "slice") for value in node.inputs]
    first = slices[0]
    if first is None:
        return None
    start, stop = list(first.attributes["start"]), list(first.attributes["stop"])
    for part in slices[1:]:
        if part is None or part.inputs[0].name != first.inputs[0].name:
            return None
        low, high = list(part.attributes["start"]), list(part.attributes["stop"])
        joint, stop[axis] = stop[axis], high[axis]
        follows = same_dim(low[axis], joint)
        low[axis] = start[axis]
        if not follows or not same_shape(low, start) or not same_shape(high, stop):
            return None
    return rewriter.slice(first.inputs[0], start, stop)


def _join_pads(rewriter: Rewriter, node: Node) -> Value | None:
    """A sum of two tensors padded with zeros whose parts lie side by side is their concat, padded by what is left.

    So the gradients of a split's parts are joined, in any order in which neighbours meet.
    """
    pads = [rewriter.producer(value, "pad") for value in node.inputs]
    first, second = pads
    if first is None or second is None or any(pad.attributes["value"] != 0 for pad in (first, second)):
        return None
    shape = node.output.type.shape
    for a, b in ((first, second), (second, first)):
        padded = [k for k in range(len(shape)) if not same_dim(a.inputs[0].type.shape[k], shape[k])]
        others = [k for k in range(len(shape)) if not same_dim(b.inputs[0].type.shape[k], shape[k])]
        if len(padded) != 1 or padded != others:
            return None
        (axis,) = padded
        if same_dim(a.attributes["low"][axis] + a.inputs[0].type.shape[axis], b.attributes["low"][axis]):
            joint = rewriter.emit("concat", a.inputs[0], b.inputs[0], axis=axis)
            low, high = a.attributes["low"], b.attributes["high"]
            if all(dim == 0 for dim in (*low, *high)):
                return joint
            return rewriter.emit("pad", joint, low=low, high=high, value=first.attributes["value"])
    return None


def _sums(a: Sequence[Dim], b: Sequence[Dim]) -> tuple[Dim, ...]:
    return shape_of(x + y for x, y in zip(a, b, strict=True))


def _differences(a: Sequence[Dim], b: Sequence[Dim]) -> tuple[Dim, ...]:
    return shape_of(x - y for x, y in zip(a, b, strict=True))


def _at_least(a: Dim, b: Dim) -> bool:
    """True when a >= b for every size of the named dimensions."""
    difference = dimension(a - b)
    return difference >= 0 if isinstance(difference, int) else bool(difference.is_nonnegative)


RULES = (
    Rule("a view that changes nothing", _MOVES, on("broadcast", "reshape", "slice"), _same_type),
    Rule("broadcast(broadcast(x))", _MOVES, on("broadcast"), _merge_broadcasts),
    Rule("broadcast that inserts ones -> reshape", _MOVES, on("broadcast"), _insert_ones),
    Rule("broadcast(reshape that inserts ones)", _MOVES, on("broadcast"), _broadcast_without_ones),
    Rule("reshape(reshape(x))", _MOVES, on("reshape"), _merge_reshapes),
    Rule("transpose(transpose(x))", _MOVES, on("transpose"), _merge_transposes),
    Rule("transpose of ones -> reshape", _MOVES, on("transpose"), _transpose_of_ones),
    Rule("slice(slice(x))", _MOVES, on("slice"), _merge_slices),
    Rule("slice(pad(x))", _MOVES, on("slice"), _slice_of_pad),
    Rule("slice(concat(x, y))", _MOVES, on("slice"), _slice_of_concat),
    Rule("pad(pad(x))", _MOVES, on("pad"), _merge_pads),
    Rule("reverse(reverse(x))", _MOVES, on("reverse"), _merge_reverses),
    Rule("concat(concat(x, y), z)", _MOVES, on("concat"), _flatten_concat),
    Rule("concat(slice(x), slice(x))", _MOVES, on("concat"), _rejoin_slices),
    Rule("pad(x) + pad(y) -> concat(x, y)", "-0 + 0 is 0", on("add"), _join_pads, exact=False),
)
