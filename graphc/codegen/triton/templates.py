"""Which primitives Triton templates compute whole; the others are expanded before fusion."""

from __future__ import annotations

from graphc.codegen.triton.attention import has_attention
from graphc.ir.graph import Node


def has_template(node: Node) -> bool:
    """True when a template writes the node's results."""
    if node.primitive in ("attention", "attention_gradient"):
        return has_attention(node)
    return False
