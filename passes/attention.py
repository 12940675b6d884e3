"""Attention as one primitive: found before gradients are built, so that they go through it too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.ir.graph import Graph
from graphc.passes.rewrite import rewrite
from graphc.passes.rules.attention import attention_rule


@dataclass(frozen=True, slots=True)
class RecognizeAttention:
    """Replace softmax(scale q kᵀ + bias) v by the primitive that stores no scores; see passes/rules/attention.py."""

    name: ClassVar[str] = "attention"
    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, graph: Graph) -> Graph:
        if not any(node.primitive == "exp" for node in graph.nodes):
            return graph
        return rewrite(graph, [attention_rule(graph)])
