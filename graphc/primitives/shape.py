"""Views and reshape: every element of the result is one element of an operand, or the padding value.

A view rule maps the index of a result element to an operand's index; fusion composes these maps, so views
cost nothing inside a kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphc.ir.graph import Attributes, Node, Value
from graphc.ir.kernel import Affine, Guard
from graphc.primitives import rules
from graphc.primitives.declare import (
    AttributeSpec,
    Kind,
    Primitive,
    TypeRuleError,
    ViewAccess,
    declare,
    no_operations,
)
from graphc.types import Dim, TensorType, dimension, product, same_dim, shape_of

if TYPE_CHECKING:
    import torch

    from graphc.primitives.builder import Builder

Gradients = tuple[Value | None, ...]
Types = tuple[TensorType, ...]


def _dims(what: str, value: object, rank: int) -> tuple[Dim, ...]:
    if not isinstance(value, tuple) or len(value) != rank:
        raise TypeRuleError(f"{what} must hold one dimension for each of the {rank} axes, got {value!r}")
    try:
        return shape_of(value)
    except TypeError as error:
        raise TypeRuleError(f"{what}: {error}") from None


# broadcast


def _broadcast_rule(types: Types, attributes: Attributes) -> Types:
    rules.operands(types, 1)
    (operand,) = types
    shape = rules.shape_attribute(attributes["shape"])
    axes = rules.increasing_axes(attributes["axes"], len(shape))
    if len(axes) != operand.rank:
        raise TypeRuleError(f"axes must name one axis for each of {operand}, got {axes}")
    for axis, dim in zip(axes, operand.shape, strict=True):
        if dim != 1 and not same_dim(dim, shape[axis]):
            raise TypeRuleError(
                f"a broadcast dimension must be 1 or equal: {operand} does not fit {rules.show(shape)} at axis {axis}"
            )
    return (operand.with_shape(shape),)


def _broadcast_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,) = heads
    if g is None:
        return (None,)
    operand, axes, shape = node.inputs[0].type, node.attributes["axes"], node.outputs[0].type.shape
    kept = {axis for axis, dim in zip(axes, operand.shape, strict=True) if same_dim(dim, shape[axis])}
    summed = b.reduce("reduce_sum", g, [axis for axis in range(len(shape)) if axis not in kept])
    return (b.reshape(summed, operand.shape),)


def _broadcast_oracle(
    operands: tuple[torch.Tensor, ...], node: Node, shapes: Any
) -> tuple[torch.Tensor, ...]:
    (x,), (shape,) = operands, shapes
    sizes = [1] * len(shape)
    for axis, dim in zip(node.attributes["axes"], x.shape, strict=True):
        sizes[axis] = dim
    return (x.reshape(sizes).expand(shape),)


def _broadcast_view(node: Node, index: tuple[Affine, ...]) -> tuple[ViewAccess, ...]:
    dims = node.inputs[0].type.shape
    axes = node.attributes["axes"]
    return (ViewAccess(0, tuple(Affine() if d == 1 else index[a] for a, d in zip(axes, dims, strict=True))),)


declare(
    Primitive(
        "broadcast",
        "operand axis i becomes axis axes[i] of the result; its dimension is equal there or 1; other axes repeat",
        Kind.VIEW,
        _broadcast_rule,
        _broadcast_oracle,
        gradient=_broadcast_gradient,
        attributes=(
            rules.SHAPE,
            AttributeSpec("axes", "the result's axis for each axis of the operand, increasing"),
        ),
        flops=no_operations,
        view=_broadcast_view,
    )
)


# transpose


def _transpose_rule(types: Types, attributes: Attributes) -> Types:
    rules.operands(types, 1)
    (operand,) = types
    axes = attributes["axes"]
    if not isinstance(axes, tuple) or sorted(axes) != list(range(operand.rank)):
        raise TypeRuleError(f"axes must be an order of the {operand.rank} axes of {operand}, got {axes!r}")
    return (operand.with_shape(operand.shape[axis] for axis in axes),)


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def _transpose_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,) = heads
    return (None if g is None else b.transpose(g, _inverse(node.attributes["axes"])),)


def _transpose_view(node: Node, index: tuple[Affine, ...]) -> tuple[ViewAccess, ...]:
    return (ViewAccess(0, tuple(index[k] for k in _inverse(node.attributes["axes"]))),)


declare(
    Primitive(
        "transpose",
        "axis i of the result is axis axes[i] of the operand",
        Kind.VIEW,
        _transpose_rule,
        lambda operands, node, shapes: (operands[0].permute(node.attributes["axes"]),),
        gradient=_transpose_gradient,
        attributes=(AttributeSpec("axes", "an order of all axes"),),
        flops=no_operations,
        view=_transpose_view,
    )
)


# slice and pad


def _slice_rule(types: Types, attributes: Attributes) -> Types:
    rules.operands(types, 1)
    (operand,) = types
    start = _dims("start", attributes["start"], operand.rank)
    stop = _dims("stop", attributes["stop"], operand.rank)
    for axis, (low, high, dim) in enumerate(zip(start, stop, operand.shape, strict=True)):
        fits = not any(rules.is_negative(dimension(d)) for d in (low, high - low, dim - high))
        if not fits:
            raise TypeRuleError(
                f"0 <= start <= stop <= size must hold, axis {axis} of {operand} has {low}:{high}"
            )
    return (operand.with_shape(high - low for low, high in zip(start, stop, strict=True)),)


def _slice_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,) = heads
    if g is None:
        return (None,)
    high = tuple(
        dim - stop for dim, stop in zip(node.inputs[0].type.shape, node.attributes["stop"], strict=True)
    )
    return (b.emit("pad", g, low=node.attributes["start"], high=shape_of(high), value=0.0),)


def _slice_oracle(operands: tuple[torch.Tensor, ...], node: Node, shapes: Any) -> tuple[torch.Tensor, ...]:
    ranges = zip(node.attributes["start"], node.attributes["stop"], strict=True)
    return (operands[0][tuple(slice(low, high) for low, high in ranges)],)


def _slice_view(node: Node, index: tuple[Affine, ...]) -> tuple[ViewAccess, ...]:
    return (ViewAccess(0, tuple(i + low for i, low in zip(index, node.attributes["start"], strict=True))),)


declare(
    Primitive(
        "slice",
        "x[start0:stop0, start1:stop1, ...]",
        Kind.VIEW,
        _slice_rule,
        _slice_oracle,
        gradient=_slice_gradient,
        attributes=(
            AttributeSpec("start", "first index, an axis"),
            AttributeSpec("stop", "index after the last, an axis"),
        ),
        flops=no_operations,
        view=_slice_view,
    )
)


def _pad_rule(types: Types, attributes: Attributes) -> Types:
    rules.operands(types, 1)
    (operand,) = types
    low = _dims("low", attributes["low"], operand.rank)
    high = _dims("high", attributes["high"], operand.rank)
    if any(rules.is_negative(dim) for dim in (*low, *high)):
        raise TypeRuleError(
            f"padding must not be negative, got low {rules.show(low)}, high {rules.show(high)}"
        )
    rules.constant(attributes["value"], operand.dtype)
    return (operand.with_shape(a + dim + c for a, dim, c in zip(low, operand.shape, high, strict=True)),)


def _pad_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,) = heads
    if g is None:
        return (None,)
    low, shape = node.attributes["low"], node.inputs[0].type.shape
    return (b.slice(g, low, shape_of(a + dim for a, dim in zip(low, shape, strict=True))),)


def _pad_oracle(operands: tuple[torch.Tensor, ...], node: Node, shapes: Any) -> tuple[torch.Tensor, ...]:
    (x,), (shape,) = operands, shapes
    result = x.new_full(shape, node.attributes["value"])
    low = node.attributes["low"]
    result[tuple(slice(a, a + dim) for a, dim in zip(low, x.shape, strict=True))] = x
    return (result,)


def _pad_view(node: Node, index: tuple[Affine, ...]) -> tuple[ViewAccess, ...]:
    source, guards = [], []
    dims = zip(index, node.attributes["low"], node.attributes["high"], node.inputs[0].type.shape, strict=True)
    for position, low, high, dim in dims:
        source.append(position + -low)
        if low != 0 or high != 0:
            guards.append(Guard(source[-1], 0, dim))
    return (ViewAccess(0, tuple(source), tuple(guards)),)


declare(
    Primitive(
        "pad",
        "x with low elements of `value` before it and high after it along each axis",
        Kind.VIEW,
        _pad_rule,
        _pad_oracle,
        gradient=_pad_gradient,
        attributes=(
            AttributeSpec("low", "elements before, an axis"),
            AttributeSpec("high", "elements after, an axis"),
            AttributeSpec("value", "the padding, of the operand's type"),
        ),
        flops=no_operations,
        view=_pad_view,
        fill=lambda node: node.attributes["value"],
    )
)


# reverse


def _reverse_rule(types: Types, attributes: Attributes) -> Types:
    rules.operands(types, 1)
    rules.increasing_axes(attributes["axes"], types[0].rank)
    return types


def _reverse_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,) = heads
    return (None if g is None else b.emit("reverse", g, axes=node.attributes["axes"]),)


def _reverse_view(node: Node, index: tuple[Affine, ...]) -> tuple[ViewAccess, ...]:
    axes, dims = node.attributes["axes"], node.inputs[0].type.shape
    source = tuple(p.scale(-1) + (dims[k] - 1) if k in axes else p for k, p in enumerate(index))
    return (ViewAccess(0, source),)


declare(
    Primitive(
        "reverse",
        "x with the given axes read backwards",
        Kind.VIEW,
        _reverse_rule,
        lambda operands, node, shapes: (operands[0].flip(node.attributes["axes"]),),
        gradient=_reverse_gradient,
        attributes=(AttributeSpec("axes", "axes to reverse, increasing"),),
        flops=no_operations,
        view=_reverse_view,
    )
)


# concat


def _concat_rule(types: Types, attributes: Attributes) -> Types:
    if not types:
        raise TypeRuleError("takes at least one operand")
    rules.one_dtype(*types)
    first = types[0]
    axis = rules.axis_in(attributes["axis"], first.rank)
    for position, type in enumerate(types):
        agrees = type.rank == first.rank and all(
            k == axis or same_dim(a, c) for k, (a, c) in enumerate(zip(first.shape, type.shape, strict=True))
        )
        if not agrees:
            raise TypeRuleError(
                f"operands must agree but for axis {axis}: {first} and, at position {position}, {type}"
            )
    joined = dimension(sum((type.shape[axis] for type in types), 0))
    return (first.with_shape(joined if k == axis else dim for k, dim in enumerate(first.shape)),)


def _concat_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,) = heads
    if g is None:
        return (None,) * len(node.inputs)
    axis = node.attributes["axis"]
    parts, offset = [], 0
    for value in node.inputs:
        end = dimension(offset + value.type.shape[axis])
        parts.append(b.slice_axis(g, axis, offset, end))
        offset = end
    return tuple(parts)


def _concat_oracle(operands: tuple[torch.Tensor, ...], node: Node, shapes: Any) -> tuple[torch.Tensor, ...]:
    import torch

    return (torch.cat(operands, node.attributes["axis"]),)


def _concat_view(node: Node, index: tuple[Affine, ...]) -> tuple[ViewAccess, ...]:
    axis = node.attributes["axis"]
    accesses, offset = [], 0
    for position, value in enumerate(node.inputs):
        size = value.type.shape[axis]
        local = index[axis] + -offset
        guards = () if len(node.inputs) == 1 else (Guard(local, 0, size),)
        accesses.append(ViewAccess(position, (*index[:axis], local, *index[axis + 1 :]), guards))
        offset = dimension(offset + size)
    return tuple(accesses)


declare(
    Primitive(
        "concat",
        "the operands one after the other along an axis",
        Kind.VIEW,
        _concat_rule,
        _concat_oracle,
        gradient=_concat_gradient,
        attributes=(AttributeSpec("axis", "the axis along which they are joined"),),
        flops=no_operations,
        view=_concat_view,
    )
)


# reshape


def _reshape_rule(types: Types, attributes: Attributes) -> Types:
    rules.operands(types, 1)
    (operand,) = types
    shape = rules.shape_attribute(attributes["shape"])
    if not same_dim(operand.size, product(shape)):
        raise TypeRuleError(
            f"the number of elements must stay: {operand} has {operand.size}, {rules.show(shape)} has {product(shape)}"
        )
    return (operand.with_shape(shape),)


def _reshape_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,) = heads
    return (None if g is None else b.reshape(g, node.inputs[0].type.shape),)


declare(
    Primitive(
        "reshape",
        "the same elements in row-major order under another shape",
        Kind.RESHAPE,
        _reshape_rule,
        lambda operands, node, shapes: (operands[0].reshape(shapes[0]),),
        gradient=_reshape_gradient,
        attributes=(rules.SHAPE,),
        flops=no_operations,
    )
)
