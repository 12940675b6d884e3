"""Contractions: sums of products, lowered to templates with an epilogue.

All are bilinear, so each one's gradients are contractions again, and theirs too. NaN and infinity follow from
multiplying and adding: 0 * inf is NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphc.ir.graph import Attributes, Node, Value
from graphc.primitives import rules
from graphc.primitives.declare import (
    AttributeSpec,
    GradientRule,
    Kind,
    Oracle,
    Primitive,
    TypeRule,
    TypeRuleError,
    declare,
)
from graphc.types import Dim, DType, Shape, TensorType, dimension, product, same_dim

if TYPE_CHECKING:
    import torch

    from graphc.primitives.builder import Builder

Gradients = tuple[Value | None, ...]
Types = tuple[TensorType, ...]
Tensors = tuple["torch.Tensor", ...]


def _contraction(
    name: str, doc: str, infer: TypeRule, gradient: GradientRule, oracle: Oracle, attributes: Any, flops: Any
) -> None:
    declare(
        Primitive(name, doc, Kind.CONTRACTION, infer, oracle, gradient, attributes=attributes, flops=flops)
    )


# dot

_BYTES = (DType.I8, DType.U8)
"""Integer types whose products are summed in i32, which wraps."""


def _matrix(type: TensorType, transposed: bool) -> tuple[Dim, Dim]:
    rows, columns = type.shape[-2:]
    return (columns, rows) if transposed else (rows, columns)


def _dot_rule(types: Types, attributes: Attributes) -> Types:
    rules.operands(types, 2)
    a, b = types
    bytes = all(type.dtype in _BYTES for type in types)
    if not bytes:
        rules.floating(a, b)
        rules.one_dtype(a, b)
    if a.rank < 2 or b.rank != a.rank:
        raise TypeRuleError(f"operands must have one rank of at least 2, got {a} and {b}")
    rules.shape_is("the second operand's leading axes", b.shape[:-2], a.shape[:-2])
    for name in ("transpose_a", "transpose_b"):
        if not isinstance(attributes[name], bool):
            raise TypeRuleError(f"{name} must be a bool, got {attributes[name]!r}")
    rows, inner = _matrix(a, attributes["transpose_a"])
    inner_b, columns = _matrix(b, attributes["transpose_b"])
    if not same_dim(inner, inner_b):
        raise TypeRuleError(f"inner dimensions differ: {inner} of {a}, {inner_b} of {b}")
    return (TensorType(DType.I32 if bytes else a.dtype, (*a.shape[:-2], rows, columns)),)


def _dot(b: Builder, x: Value, y: Value, transpose_x: bool, transpose_y: bool) -> Value:
    return b.emit("dot", x, y, transpose_a=transpose_x, transpose_b=transpose_y)


def _dot_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,), (x, y) = heads, node.inputs
    if g is None:
        return None, None
    transpose_x, transpose_y = node.attributes["transpose_a"], node.attributes["transpose_b"]
    dx = _dot(b, y, g, transpose_y, True) if transpose_x else _dot(b, g, y, False, not transpose_y)
    dy = _dot(b, g, x, True, transpose_x) if transpose_y else _dot(b, x, g, not transpose_x, False)
    return dx, dy


def _dot_oracle(operands: Tensors, node: Node, shapes: Any) -> Tensors:
    a, b = operands
    if not a.is_floating_point():
        a, b = a.to(DType.I32.torch), b.to(DType.I32.torch)
    a = a.mT if node.attributes["transpose_a"] else a
    return (a @ (b.mT if node.attributes["transpose_b"] else b),)


def _dot_flops(node: Node) -> Dim:
    """A multiplication and an addition for each term."""
    _, inner = _matrix(node.inputs[0].type, node.attributes["transpose_a"])
    return dimension(2 * node.outputs[0].type.size * inner)


_contraction(
    "dot",
    "matrix product of the last two axes, for each index of the leading ones; of bytes (i8, u8) in i32",
    _dot_rule,
    _dot_gradient,
    _dot_oracle,
    (
        AttributeSpec(
            "transpose_a", "read the first operand's last two axes swapped", required=False, default=False
        ),
        AttributeSpec(
            "transpose_b", "read the second operand's last two axes swapped", required=False, default=False
        ),
    ),
    _dot_flops,
)


# convolution and its two transposes

GEOMETRY = (
    AttributeSpec("stride", "step between windows, a spatial axis"),
    AttributeSpec("pad", "zeros on both sides, a spatial axis"),
    AttributeSpec("dilate", "step between a window's elements, a spatial axis"),
    AttributeSpec("groups", "number of independent channel groups", required=False, default=1),
)


def convolution_shape(x: Shape, w: Shape, attributes: Attributes) -> Shape:
    """The convolution's shape [N,O,...] for data [N,C,...] and weight [O,C/groups,...]."""
    if not 3 <= len(x) <= 5 or len(w) != len(x):
        raise TypeRuleError(
            f"data [N,C,...] and weight [O,C/groups,...] must have one to three spatial axes, "
            f"got {rules.show(x)} and {rules.show(w)}"
        )
    count = len(x) - 2
    stride = rules.whole_numbers("stride", attributes["stride"], count, 1)
    pad = rules.whole_numbers("pad", attributes["pad"], count, 0)
    dilate = rules.whole_numbers("dilate", attributes["dilate"], count, 1)
    (groups,) = rules.whole_numbers("groups", (attributes["groups"],), 1, 1)
    if not same_dim(x[1], w[1] * groups):
        raise TypeRuleError(
            f"channels must agree: data {rules.show(x)} has {x[1]}, "
            f"weight {rules.show(w)} takes {w[1]} in {groups} groups"
        )
    outputs = w[0]
    if isinstance(outputs, int) and outputs % groups:
        raise TypeRuleError(
            f"the {outputs} filters of weight {rules.show(w)} must divide into {groups} groups"
        )
    spatial = []
    for size, kernel, s, p, d in zip(x[2:], w[2:], stride, pad, dilate, strict=True):
        if not isinstance(kernel, int) or kernel < 1:
            raise TypeRuleError(f"kernel sizes must be known, got {rules.show(w)}")
        spatial.append(rules.window_count(size, d * (int(kernel) - 1) + 1, s, 2 * p))
    return (x[0], outputs, *spatial)


def _convolution_rule(types: Types, attributes: Attributes) -> Types:
    rules.operands(types, 2)
    rules.floating(*types)
    rules.one_dtype(*types)
    x, w = types
    return (x.with_shape(convolution_shape(x.shape, w.shape, attributes)),)


def _data_rule(types: Types, attributes: Attributes) -> Types:
    rules.operands(types, 2)
    rules.floating(*types)
    rules.one_dtype(*types)
    dy, w = types
    shape = rules.shape_attribute(attributes["shape"])
    rules.shape_is(
        f"the gradient of data {rules.show(shape)}", dy.shape, convolution_shape(shape, w.shape, attributes)
    )
    return (dy.with_shape(shape),)


def _weight_rule(types: Types, attributes: Attributes) -> Types:
    rules.operands(types, 2)
    rules.floating(*types)
    rules.one_dtype(*types)
    x, dy = types
    shape = rules.shape_attribute(attributes["shape"])
    rules.shape_is(
        f"the gradient of weight {rules.show(shape)}", dy.shape, convolution_shape(x.shape, shape, attributes)
    )
    return (dy.with_shape(shape),)


def _attributes(node: Node) -> dict[str, Any]:
    return {spec.name: node.attributes[spec.name] for spec in GEOMETRY}


def _y(b: Builder, node: Node, x: Value, w: Value) -> Value:
    return b.emit("convolution", x, w, **_attributes(node))


def _dx(b: Builder, node: Node, dy: Value, w: Value, x: Value) -> Value:
    return b.emit("convolution_data_gradient", dy, w, shape=x.type.shape, **_attributes(node))


def _dw(b: Builder, node: Node, x: Value, dy: Value, w: Value) -> Value:
    return b.emit("convolution_weight_gradient", x, dy, shape=w.type.shape, **_attributes(node))


def _convolution_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,), (x, w) = heads, node.inputs
    return (None, None) if g is None else (_dx(b, node, g, w, x), _dw(b, node, x, g, w))


def _data_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,), (dy, w) = heads, node.inputs
    return (None, None) if g is None else (_y(b, node, g, w), _dw(b, node, g, dy, w))


def _weight_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,), (x, dy) = heads, node.inputs
    return (None, None) if g is None else (_dx(b, node, dy, g, x), _y(b, node, x, g))


def _convolution_oracle(operands: Tensors, node: Node, shapes: Any) -> Tensors:
    import torch

    x, w = operands
    a = node.attributes
    function = getattr(torch.nn.functional, f"conv{x.dim() - 2}d")
    return (function(x, w, None, a["stride"], a["pad"], a["dilate"], a["groups"]),)


def _backward(dy: torch.Tensor, x: torch.Tensor, w: torch.Tensor, node: Node, part: int) -> Tensors:
    import torch

    a = node.attributes
    wanted = [part == 0, part == 1, False]
    geometry = (list(a["stride"]), list(a["pad"]), list(a["dilate"]), False, [0] * (x.dim() - 2), a["groups"])
    return (torch.ops.aten.convolution_backward(dy, x, w, None, *geometry, wanted)[part],)


def _data_oracle(operands: Tensors, node: Node, shapes: Any) -> Tensors:
    dy, w = operands
    return _backward(dy, dy.new_zeros(shapes[0]), w, node, 0)


def _weight_oracle(operands: Tensors, node: Node, shapes: Any) -> Tensors:
    x, dy = operands
    return _backward(dy, x, dy.new_zeros(shapes[0]), node, 1)


def convolution_flops(dy: int | None, w: int | None) -> Any:
    """Two operations a term; the position of the windows' operand and of the weight (None: the result)."""

    def count(node: Node) -> Dim:
        windows = node.outputs[0].type if dy is None else node.inputs[dy].type
        weight = node.outputs[0].type if w is None else node.inputs[w].type
        return dimension(2 * windows.size * product(weight.shape[1:]))

    return count


_contraction(
    "convolution",
    "cross-correlation of data [N,C,...] with weight [O,C/groups,...], one to three spatial axes",
    _convolution_rule,
    _convolution_gradient,
    _convolution_oracle,
    GEOMETRY,
    convolution_flops(None, 1),
)
_contraction(
    "convolution_data_gradient",
    "gradient of a convolution's data, of `shape`, from the result's gradient and the weight; also a deconvolution",
    _data_rule,
    _data_gradient,
    _data_oracle,
    (*GEOMETRY, rules.SHAPE),
    convolution_flops(0, 1),
)
_contraction(
    "convolution_weight_gradient",
    "gradient of a convolution's weight, of `shape`, from the data and the result's gradient",
    _weight_rule,
    _weight_gradient,
    _weight_oracle,
    (*GEOMETRY, rules.SHAPE),
    convolution_flops(1, None),
)
