"""gather and scatter_add: indirect access along one axis, each the transpose of the other.

Indices below 0 count as 0 and indices past the end as the last, so no access leaves the tensor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc.ir.graph import Attributes, Node, Value
from graphc.primitives import rules
from graphc.primitives.declare import AttributeSpec, Kind, Primitive, TypeRuleError, declare, no_operations
from graphc.types import Dim, TensorType, shape_of

if TYPE_CHECKING:
    import torch

    from graphc.primitives.builder import Builder

Gradients = tuple[Value | None, ...]
Types = tuple[TensorType, ...]
Tensors = tuple["torch.Tensor", ...]


def _gather_rule(types: Types, attributes: Attributes) -> Types:
    rules.operands(types, 2)
    data, indices = types
    rules.integral("indices", indices)
    axis = rules.axis_in(attributes["axis"], data.rank)
    if data.shape[axis] == 0:
        raise TypeRuleError(f"axis {axis} of {data} must not be empty")
    return (data.with_shape((*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])),)


def _scatter_rule(types: Types, attributes: Attributes) -> Types:
    rules.operands(types, 2)
    indices, updates = types
    rules.integral("indices", indices)
    rules.numeric(updates)
    axis = rules.axis_in(attributes["axis"], updates.rank - indices.rank + 1)
    (size,) = rules.shape_attribute((attributes["size"],))
    if size == 0:
        raise TypeRuleError("size must not be 0")
    end = axis + indices.rank
    rules.shape_is(
        f"the axes {axis} to {end - 1} of updates {updates}", updates.shape[axis:end], indices.shape
    )
    return (updates.with_shape((*updates.shape[:axis], size, *updates.shape[end:])),)


def _gather_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,), (data, indices), axis = heads, node.inputs, node.attributes["axis"]
    if g is None:
        return None, None
    (size,) = shape_of([data.type.shape[axis]])
    return b.emit("scatter_add", indices, g, axis=axis, size=size), None


def _scatter_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,), (indices, _) = heads, node.inputs
    return None, None if g is None else b.emit("gather", g, indices, axis=node.attributes["axis"])


def _gather_oracle(operands: Tensors, node: Node, shapes: tuple[tuple[int, ...], ...]) -> Tensors:
    data, indices = operands
    axis = node.attributes["axis"]
    flat = indices.reshape(-1).long().clamp(0, data.shape[axis] - 1)
    return (data.index_select(axis, flat).reshape(shapes[0]),)


def _scatter_oracle(operands: Tensors, node: Node, shapes: tuple[tuple[int, ...], ...]) -> Tensors:
    (indices, updates), (shape,), axis = operands, shapes, node.attributes["axis"]
    flat = indices.reshape(-1).long().clamp(0, shape[axis] - 1)
    rows = updates.reshape(*shape[:axis], flat.numel(), *shape[axis + 1 :])
    return (updates.new_zeros(shape).index_add(axis, flat, rows),)


def _additions(node: Node) -> Dim:
    """One addition for each update."""
    return node.inputs[1].type.size


declare(
    Primitive(
        "gather",
        "numpy.take(data, indices, axis, mode='clip'): the axis is replaced by the axes of indices",
        Kind.GATHER,
        _gather_rule,
        _gather_oracle,
        gradient=_gather_gradient,
        attributes=(AttributeSpec("axis", "the axis that is indexed"),),
        flops=no_operations,
        differentiable_inputs=(0,),
    )
)
declare(
    Primitive(
        "scatter_add",
        "zeros of `size` along `axis`, to which each slice of updates is added at its (clipped) index",
        Kind.SCATTER,
        _scatter_rule,
        _scatter_oracle,
        gradient=_scatter_gradient,
        attributes=(
            AttributeSpec("axis", "the axis that is indexed; updates have the axes of indices there"),
            AttributeSpec("size", "the result's size along that axis"),
        ),
        flops=_additions,
        differentiable_inputs=(1,),
    )
)
