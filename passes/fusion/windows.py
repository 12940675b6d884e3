"""Sliding windows as loop nests: a window reads o * stride + k - low, a transpose adds over the windows it lies in.

Forward (max_pool, window_sum): the kernel positions k are reduction axes. Transpose (window_scatter,
window_sum_transpose): element h = stride * q + r lies in window o = q + m at position k = r + low - stride * m, for m
in a fixed range; axes q and r are parallel, m is a reduction axis and guards keep o and k in range. No element is
written twice, so no atomics are needed.
"""

from __future__ import annotations

from graphc.ir.graph import Node, Value
from graphc.ir.kernel import Affine, Guard
from graphc.passes.fusion import index as ix
from graphc.passes.fusion.space import Access, NotFittingError, Space, merge_guards
from graphc.types import Dim, dimension

GATHER = "window_gather"
TRANSPOSES = ("window_scatter", "window_sum_transpose")


def whole_operands(node: Node) -> tuple[Value, ...]:
    """The operand that is read through an indirect index."""
    return node.inputs[:1] if node.primitive == GATHER else ()


def overlapping(node: Node) -> bool:
    """True when an operand element is read at more than one point of the nest."""
    kernel, stride = node.attributes["kernel"], node.attributes["stride"]
    if node.primitive in TRANSPOSES:
        return any(k > 1 for k in kernel)
    return any(k > s for k, s in zip(kernel, stride, strict=True))


def bind(space: Space, node: Node, access: Access) -> None:
    """Add the reduction axes of a window node; its binding holds window and position indices, an axis each.

    Raises NotFittingError when the space has reductions, SplitNeededError when the stride must split an axis first.
    """
    if node.primitive == GATHER:
        return
    if reduces(node) and space.reduction:
        raise NotFittingError("its window would be a reduction inside another one")
    if node.primitive in TRANSPOSES:
        space.bindings[node.outputs[0].name] = _bind_transpose(space, node, access)
        return
    space.bindings[node.outputs[0].name] = tuple(
        Affine.axis(space.new_axis(size, reduction=True)) for size in node.attributes["kernel"]
    )


def _bind_transpose(space: Space, node: Node, access: Access) -> tuple[Affine, ...]:
    kernel, stride, low = (node.attributes[name] for name in ("kernel", "stride", "pad_low"))
    lead = len(access.index) - len(kernel)
    places = [_divide(h, s, space.extents) for h, s in zip(access.index[lead:], stride, strict=True)]
    windows, positions = [], []
    for (q, r), k, s, p in zip(places, kernel, stride, low, strict=True):
        first, count = _windows_around(k, s, p)
        m = Affine.axis(space.new_axis(count, reduction=True)) if count > 1 else ix.ZERO
        windows.append(ix.ordered(q + m + first))
        positions.append(ix.ordered(r + m.scale(-s) + (p - s * first)))
    return (*windows, *positions)


def _windows_around(kernel: int, stride: int, low: int) -> tuple[int, int]:
    """The first m, and the number of them, for which an element h = stride * q + r can lie in window q + m."""
    first = -((kernel - 1 - low) // stride)
    last = (stride - 1 + low) // stride
    return first, last - first + 1


def reduces(node: Node) -> bool:
    """True when a point of the result needs several elements of the operand: it takes reduction axes."""
    if node.primitive == GATHER:
        return False
    kernel, stride, low = (node.attributes[name] for name in ("kernel", "stride", "pad_low"))
    if node.primitive not in TRANSPOSES:
        return True
    return any(_windows_around(k, s, p)[1] > 1 for k, s, p in zip(kernel, stride, low, strict=True))


def _divide(h: Affine, stride: int, extents: dict[str, Dim]) -> tuple[Affine, Affine]:
    """(q, r) of h = stride * q + r; an axis that the stride does not divide is split with a remainder."""
    try:
        return ix.divide(h, stride, extents)
    except ix.NotAffineError:
        if h.offset == 0 and len(h.terms) == 1 and h.terms[0][1] == 1 and h.terms[0][0] in extents:
            raise ix.SplitNeededError(h.terms[0][0], stride) from None
        raise


def operand_accesses(space: Space, node: Node, access: Access) -> list[tuple[Value, Access]]:
    """The elements of the operands that one element of the result needs at a point of the reduction axes."""
    count = len(node.attributes["kernel"])
    lead = len(access.index) - count
    if node.primitive == GATHER:
        return [(node.inputs[1], access)]
    binding = space.bindings[node.outputs[0].name]
    if node.primitive in TRANSPOSES:
        source = (*access.index[:lead], *binding[:count])
        guards = transpose_guards(space, node)
        return [(value, Access(source, merge_guards(access.guards, guards))) for value in node.inputs]
    index, guards = window_source(node, access.index, binding, space.extents)
    return [(node.inputs[0], Access(index, merge_guards(access.guards, guards)))]


def window_source(
    node: Node, index: tuple[Affine, ...], position: tuple[Affine, ...], extents: dict[str, Dim]
) -> tuple[tuple[Affine, ...], tuple[Guard, ...]]:
    """The element of the operand at a position of a window, and the guards that tell it from padding."""
    attributes, shape = node.attributes, node.inputs[0].type.shape
    lead = len(index) - len(attributes["kernel"])
    source, guards = list(index[:lead]), []
    for axis, k in enumerate(position):
        low = attributes["pad_low"][axis]
        at = ix.ordered(index[lead + axis].scale(attributes["stride"][axis]) + k + -low)
        source.append(at)
        if not _within(at, shape[lead + axis], extents):
            guards.append(Guard(at, 0, shape[lead + axis]))
    return tuple(source), tuple(guards)


def transpose_guards(space: Space, node: Node) -> tuple[Guard, ...]:
    """What keeps the window index and the position of a transpose in range."""
    kernel = node.attributes["kernel"]
    binding = space.bindings[node.outputs[0].name]
    counts = node.inputs[0].type.shape[-len(kernel) :]
    limits = zip(binding, (*counts, *kernel), strict=True)
    return tuple(Guard(at, 0, high) for at, high in limits if not _within(at, high, space.extents))


def position_number(space: Space, node: Node) -> Affine:
    """The row-major number of the position in the window, of a transpose."""
    kernel = node.attributes["kernel"]
    return ix.flatten(space.bindings[node.outputs[0].name][len(kernel) :], kernel)


def _within(expression: Affine, high: Dim, extents: dict[str, Dim]) -> bool:
    """True when an index is certain to lie in 0 ... high - 1."""
    try:
        least, most = ix.bounds(expression, extents)
    except ix.NotAffineError:
        return False
    return not ix.is_less(least, 0) and isinstance(least, int) and ix.is_less(dimension(most), high)
