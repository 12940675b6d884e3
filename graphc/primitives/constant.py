"""Constants: primitives without tensor operands, computed again wherever they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphc.ir.graph import Attributes, Node
from graphc.primitives import rules
from graphc.primitives.declare import AttributeSpec, Kind, Primitive, TypeRuleError, declare, no_operations
from graphc.types import DType, TensorType, dimension

if TYPE_CHECKING:
    import torch

NO_OPERAND = "it has no operand"


def _type(attributes: Attributes) -> TensorType:
    dtype = attributes["dtype"]
    if not isinstance(dtype, DType):
        raise TypeRuleError(f"dtype must be an element type, got {dtype!r}")
    return TensorType(dtype, rules.shape_attribute(attributes["shape"]))


def _full_rule(types: tuple[TensorType, ...], attributes: Attributes) -> tuple[TensorType, ...]:
    rules.operands(types, 0)
    result = _type(attributes)
    rules.constant(attributes["value"], result.dtype)
    return (result,)


def _full_oracle(operands: Any, node: Node, shapes: tuple[tuple[int, ...], ...]) -> tuple[torch.Tensor, ...]:
    import torch

    value = node.attributes["value"]
    # torch.full refuses what a narrow type cannot hold; a cast gives infinity, or wraps.
    wide = torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
    return (wide.to(node.attributes["dtype"].torch).expand(shapes[0]).contiguous(),)


declare(
    Primitive(
        "full",
        "a tensor of one value",
        Kind.CONSTANT,
        _full_rule,
        _full_oracle,
        no_gradient=NO_OPERAND,
        attributes=(AttributeSpec("value", "float, int or bool, as dtype asks"), rules.DTYPE, rules.SHAPE),
        flops=no_operations,
    )
)


def _iota_rule(types: tuple[TensorType, ...], attributes: Attributes) -> tuple[TensorType, ...]:
    rules.operands(types, 0)
    type = _type(attributes)
    rules.numeric(type)
    rules.axis_in(attributes["axis"], type.rank)
    return (type,)


def _iota_oracle(operands: Any, node: Node, shapes: tuple[tuple[int, ...], ...]) -> tuple[torch.Tensor, ...]:
    import torch

    (shape,) = shapes
    axis = node.attributes["axis"]
    index = torch.arange(shape[axis], dtype=node.attributes["dtype"].torch)
    return (index.reshape([-1 if k == axis else 1 for k in range(len(shape))]).expand(shape).contiguous(),)


declare(
    Primitive(
        "iota",
        "the index along an axis, from 0",
        Kind.CONSTANT,
        _iota_rule,
        _iota_oracle,
        no_gradient=NO_OPERAND,
        attributes=(AttributeSpec("axis", "the axis that is counted"), rules.DTYPE, rules.SHAPE),
        flops=no_operations,
    )
)


def _dim_rule(types: tuple[TensorType, ...], attributes: Attributes) -> tuple[TensorType, ...]:
    rules.operands(types, 0)
    dtype = attributes["dtype"]
    if not isinstance(dtype, DType):
        raise TypeRuleError(f"dtype must be an element type, got {dtype!r}")
    type = TensorType(dtype, ())
    rules.numeric(type)
    try:
        dimension(attributes["value"])
    except TypeError as error:
        raise TypeRuleError(f"value must be a dimension: {error}") from None
    return (type,)


def _dim_oracle(operands: Any, node: Node, shapes: Any) -> tuple[torch.Tensor, ...]:
    import torch

    return (torch.tensor(int(node.attributes["value"]), dtype=node.attributes["dtype"].torch),)


declare(
    Primitive(
        "dim",
        "the size of a symbolic dimension (an expression) as a scalar",
        Kind.CONSTANT,
        _dim_rule,
        _dim_oracle,
        no_gradient=NO_OPERAND,
        attributes=(AttributeSpec("value", "the dimension"), rules.DTYPE),
        flops=no_operations,
    )
)
