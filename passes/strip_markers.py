"""Removal of the primitives that only stand for a gradient rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.ir.graph import Graph, Value
from graphc.passes.prune import Prune
from graphc.primitives.declare import Kind, primitive


@dataclass(frozen=True, slots=True)
class StripMarkers:
    """Let every reader of an IDENTITY primitive read its first operand, and prune what only the marker held.

    Run it when all gradients are built: a stripped graph has forgotten where gradients stop or are replaced.
    """

    name: ClassVar[str] = "strip_markers"
    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, graph: Graph) -> Graph:
        source: dict[str, Value] = {}
        for node in graph.nodes:
            if primitive(node.primitive).kind is Kind.IDENTITY:
                operand = node.inputs[0]
                source[node.output.name] = source.get(operand.name, operand)
        if not source:
            return graph
        kept = graph.with_nodes(node for node in graph.nodes if node.outputs[0].name not in source)
        return Prune()(kept.substitute(lambda value: source.get(value.name, value)))
