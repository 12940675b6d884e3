"""Convolution of images whose channels lie together, [N,...,C]; the weight is [O,C,...] as ever.

A pixel's channels are one contiguous row, so a convolution is a product of rows of pixels with the weight, and one of
kernel size 1 is a plain product. `passes/layout` chooses between this and `convolution`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphc.ir.graph import Attributes, Node, Value
from graphc.primitives import rules
from graphc.primitives.contraction import GEOMETRY, convolution_flops, convolution_shape
from graphc.primitives.declare import Kind, Primitive, declare
from graphc.types import Shape, TensorType

if TYPE_CHECKING:
    import torch

    from graphc.primitives.builder import Builder

Gradients = tuple[Value | None, ...]
Types = tuple[TensorType, ...]
Tensors = tuple["torch.Tensor", ...]

_GEOMETRY = tuple(spec for spec in GEOMETRY if spec.name != "groups")


def to_last(rank: int) -> tuple[int, ...]:
    """The axes of a transpose from [N,C,...] to [N,...,C]."""
    return (0, *range(2, rank), 1)


def to_first(rank: int) -> tuple[int, ...]:
    """The axes of a transpose from [N,...,C] to [N,C,...]."""
    return (0, rank - 1, *range(1, rank - 1))


def _moved(shape: Shape, axes: tuple[int, ...]) -> Shape:
    return tuple(shape[axis] for axis in axes)


def _rule(types: Types, attributes: Attributes) -> Types:
    rules.operands(types, 2)
    rules.floating(*types)
    rules.one_dtype(*types)
    x, w = types
    first = _moved(x.shape, to_first(x.rank)) if x.rank >= 2 else x.shape
    result = convolution_shape(first, w.shape, Attributes({**attributes, "groups": 1}))
    return (x.with_shape(_moved(result, to_last(x.rank))),)


def _gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    """Those of the convolution of [N,C,...], between transposes."""
    (g,), (x, w) = heads, node.inputs
    if g is None:
        return None, None
    there, back = to_first(x.type.rank), to_last(x.type.rank)
    geometry = {**node.attributes, "groups": 1}
    x_first, g_first = b.transpose(x, there), b.transpose(g, there)
    dx = b.emit("convolution_data_gradient", g_first, w, shape=x_first.type.shape, **geometry)
    dw = b.emit("convolution_weight_gradient", x_first, g_first, shape=w.type.shape, **geometry)
    return b.transpose(dx, back), dw


def _oracle(operands: Tensors, node: Node, shapes: Any) -> Tensors:
    import torch

    x, w = operands
    a = node.attributes
    function = getattr(torch.nn.functional, f"conv{x.dim() - 2}d")
    result = function(x.movedim(-1, 1), w, None, a["stride"], a["pad"], a["dilate"])
    return (result.movedim(1, -1),)


declare(
    Primitive(
        "channels_last_convolution",
        "cross-correlation of data [N,...,C] with weight [O,C,...] to [N,...,O], one to three spatial axes",
        Kind.CONTRACTION,
        _rule,
        _oracle,
        gradient=_gradient,
        attributes=_GEOMETRY,
        flops=convolution_flops(None, 1),
    )
)
