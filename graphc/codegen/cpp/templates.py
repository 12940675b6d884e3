"""Which primitives C++ templates compute whole; the others are expanded before fusion."""

from __future__ import annotations

from graphc.ir.graph import Node
from graphc.types import DType

_TEMPLATED = (DType.F32, DType.F64)


def has_template(node: Node) -> bool:
    """True when a template writes the node's results."""
    return node.outputs[0].type.dtype in _TEMPLATED
