"""Markers: values pass unchanged, gradients do not. They go when no more gradient is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphc.ir.graph import Attributes, Node, Value
from graphc.primitives import rules
from graphc.primitives.declare import AttributeSpec, Kind, Primitive, TypeRuleError, declare, no_operations
from graphc.types import TensorType

if TYPE_CHECKING:
    import torch

    from graphc.primitives.builder import Builder


def _first_oracle(operands: tuple[torch.Tensor, ...], node: Node, shapes: Any) -> tuple[torch.Tensor, ...]:
    return (operands[0],)


def _stop_rule(types: tuple[TensorType, ...], attributes: Attributes) -> tuple[TensorType, ...]:
    rules.operands(types, 1)
    return types


declare(
    Primitive(
        "stop_gradient",
        "x; no gradient passes",
        Kind.IDENTITY,
        _stop_rule,
        _first_oracle,
        no_gradient="it is there to stop the gradient",
        flops=no_operations,
    )
)


def _with_rule(types: tuple[TensorType, ...], attributes: Attributes) -> tuple[TensorType, ...]:
    rules.operands(types, 3)
    out, data, gradient = types
    rules.floating(data)
    rules.one_dtype(data, gradient)
    rules.shape_is("gradient", gradient.shape, data.shape)
    if not isinstance(attributes["scaled"], bool):
        raise TypeRuleError(f"scaled must be a bool, got {attributes['scaled']!r}")
    if attributes["scaled"]:
        rules.one_dtype(out, data)
        rules.shape_is("out (scaled by its own gradient)", out.shape, data.shape)
    return (out,)


def _with_gradient(b: Builder, node: Node, heads: tuple[Value | None, ...]) -> tuple[Value | None, ...]:
    gradient = node.inputs[2]
    if not node.attributes["scaled"]:
        return None, gradient, None
    (head,) = heads
    return None, None if head is None else b.mul(gradient, head), None


declare(
    Primitive(
        "with_gradient",
        "out; in the backward pass data receives gradient (whatever the gradient of the result is, even none), or with "
        "scaled=true gradient times the gradient of the result; out and gradient receive none",
        Kind.IDENTITY,
        _with_rule,
        _first_oracle,
        gradient=_with_gradient,
        attributes=(
            AttributeSpec("scaled", "multiply by the gradient of the result", required=False, default=False),
        ),
        flops=no_operations,
        differentiable_inputs=(1,),
        ignores_head=lambda node: not node.attributes["scaled"],
    )
)
