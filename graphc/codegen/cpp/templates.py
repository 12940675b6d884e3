"""Which primitives C++ templates compute whole; the others are expanded before fusion."""

from __future__ import annotations

from graphc.ir.graph import Node
from graphc.types import DType


def has_template(node: Node) -> bool:
    """True when a template writes the node's results."""
    if node.primitive in ("attention", "attention_gradient"):
        return all(value.type.dtype in (DType.F32, DType.F64) for value in node.inputs)
    return False
