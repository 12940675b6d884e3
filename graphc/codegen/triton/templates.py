"""Which primitives Triton templates compute whole; the others are expanded before fusion."""

from __future__ import annotations

from graphc.ir.graph import Node


def has_template(node: Node) -> bool:
    """True when a template writes the node's results."""
    return False
