"""Reductions over axes; the reduced axes are gone from the result. Over no elements they give the neutral value."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from graphc.ir.graph import Attributes, Node, Value
from graphc.primitives import rules
from graphc.primitives.declare import AttributeSpec, GradientRule, Kind, Primitive, TypeRuleError, declare
from graphc.types import Dim, DType, TensorType

if TYPE_CHECKING:
    import torch

    from graphc.primitives.builder import Builder

Gradients = tuple[Value | None, ...]
Types = tuple[TensorType, ...]
Reducer: TypeAlias = "Callable[[torch.Tensor, tuple[int, ...]], torch.Tensor]"

AXES = AttributeSpec("axes", "the axes to reduce, increasing, at least one")


def _reduced_elements(node: Node) -> Dim:
    """One operation an element that is read."""
    return node.inputs[0].type.size


def _kept(operand: TensorType, axes: tuple[int, ...]) -> TensorType:
    return operand.with_shape(dim for axis, dim in enumerate(operand.shape) if axis not in axes)


def _rule(domain: Callable[..., None]) -> Callable[[Types, Attributes], Types]:
    def infer(types: Types, attributes: Attributes) -> Types:
        rules.operands(types, 1)
        (operand,) = types
        domain(operand)
        axes = rules.increasing_axes(attributes["axes"], operand.rank)
        if not axes:
            raise TypeRuleError("axes must name at least one axis")
        return (_kept(operand, axes),)

    return infer


def _spread(b: Builder, node: Node, value: Value) -> Value:
    """A value of the result's shape, repeated along the reduced axes."""
    operand, axes = node.inputs[0].type, node.attributes["axes"]
    return b.broadcast(value, operand.shape, [axis for axis in range(operand.rank) if axis not in axes])


def _sum_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,) = heads
    return (None if g is None else _spread(b, node, g),)


def _prod_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,) = heads
    if g is None:
        return (None,)
    (x,), axes = node.inputs, node.attributes["axes"]
    zero = b.eq(x, 0.0)
    others = b.where(zero, 1.0, x)
    zeros = _spread(b, node, b.reduce("reduce_sum", b.cast(zero, x.type.dtype), axes))
    rest = _spread(b, node, b.reduce("reduce_prod", others, axes))
    # The product of the other elements: nothing is left of it when one of those is 0.
    alone = b.logical_and(zero, b.eq(zeros, 1.0))
    factor = b.where(alone, rest, b.where(b.eq(zeros, 0.0), b.div(rest, others), 0.0))
    return (b.mul(_spread(b, node, g), factor),)


def _extreme_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,) = heads
    if g is None:
        return (None,)
    chosen = b.eq(node.inputs[0], _spread(b, node, node.outputs[0]))
    return (b.where(chosen, _spread(b, node, g), 0.0),)


def least(dtype: torch.dtype) -> float | int:
    """The neutral value of max."""
    import torch

    return float("-inf") if dtype.is_floating_point else torch.iinfo(dtype).min


def greatest(dtype: torch.dtype) -> float | int:
    """The neutral value of min."""
    import torch

    return float("inf") if dtype.is_floating_point else torch.iinfo(dtype).max


def _reduce_prod(x: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    for axis in reversed(axes):
        x = x.prod(axis, dtype=x.dtype)
    return x


def _reduce_max(x: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    return x.amax(axes) if x.numel() else _empty(x, axes, least(x.dtype))


def _reduce_min(x: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    return x.amin(axes) if x.numel() else _empty(x, axes, greatest(x.dtype))


def _empty(x: torch.Tensor, axes: tuple[int, ...], value: float) -> torch.Tensor:
    return x.new_full([dim for axis, dim in enumerate(x.shape) if axis not in axes], value)


def _reduction(
    name: str,
    doc: str,
    reducer: Reducer,
    gradient: GradientRule | None,
    domain: Callable[..., None] = rules.numeric,
) -> None:
    def oracle(operands: tuple[torch.Tensor, ...], node: Node, shapes: Any) -> tuple[torch.Tensor, ...]:
        return (reducer(operands[0], node.attributes["axes"]),)

    declare(
        Primitive(
            name,
            doc,
            Kind.REDUCTION,
            _rule(domain),
            oracle,
            gradient=gradient,
            no_gradient="" if gradient else "its result is a truth value",
            attributes=(AXES,),
            flops=_reduced_elements,
        )
    )


_reduction(
    "reduce_sum", "sum; 0 over nothing; integers wrap", lambda x, a: x.sum(a, dtype=x.dtype), _sum_gradient
)
_reduction(
    "reduce_prod",
    "product; 1 over nothing; integers wrap. The first derivative holds everywhere, higher ones where no element is 0",
    _reduce_prod,
    _prod_gradient,
)
_reduction(
    "reduce_max",
    "greatest element; NaN when there is one; -inf (least integer) over nothing. Every element that equals the result "
    "receives the whole gradient, as in MXNet",
    _reduce_max,
    _extreme_gradient,
)
_reduction(
    "reduce_min",
    "least element; NaN when there is one; inf (greatest integer) over nothing. Every element that equals the result "
    "receives the whole gradient, as in MXNet",
    _reduce_min,
    _extreme_gradient,
)
_reduction("reduce_any", "whether one holds; false over nothing", lambda x, a: x.any(a), None, rules.boolean)


def _position_rule(types: Types, attributes: Attributes) -> Types:
    rules.operands(types, 1)
    (operand,) = types
    rules.numeric(operand)
    axes = rules.increasing_axes(attributes["axes"], operand.rank)
    if len(axes) != 1:
        raise TypeRuleError(f"axes must name exactly one axis, got {axes}")
    if operand.shape[axes[0]] == 0:
        raise TypeRuleError(f"axis {axes[0]} of {operand} must not be empty")
    return (_kept(operand, axes).with_dtype(DType.I64),)


def _first(x: torch.Tensor, extreme: torch.Tensor, axis: int) -> torch.Tensor:
    """The first position that holds the extreme value or NaN."""
    import torch

    return ((x == extreme) | (x != x)).to(torch.uint8).argmax(axis)


def _position(name: str, doc: str, finder: Callable[[torch.Tensor, int], torch.Tensor]) -> None:
    def oracle(operands: tuple[torch.Tensor, ...], node: Node, shapes: Any) -> tuple[torch.Tensor, ...]:
        return (finder(operands[0], node.attributes["axes"][0]),)

    declare(
        Primitive(
            name,
            doc,
            Kind.REDUCTION,
            _position_rule,
            oracle,
            no_gradient="its result is a position",
            attributes=(AttributeSpec("axes", "the one axis to search, as a tuple"),),
            flops=_reduced_elements,
        )
    )


_position(
    "argmax",
    "position (i64) of the greatest element, the first of equals; a NaN counts as greatest",
    lambda x, a: _first(x, x.amax(a, keepdim=True), a),
)
_position(
    "argmin",
    "position (i64) of the least element, the first of equals; a NaN counts as least",
    lambda x, a: _first(x, x.amin(a, keepdim=True), a),
)
