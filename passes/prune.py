"""Dead-output pruning: nodes that no output and no update needs go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from graphc.ir.graph import Graph, Input, Node
from graphc.primitives.declare import primitive
from graphc.types import dim_symbols


@dataclass(frozen=True, slots=True)
class Prune:
    """Remove nodes that nothing reads; a node stays whole while one of its outputs is read.

    Inputs stay, as they are what a caller passes, unless `drop_inputs`: then unread ones without an update go, but
    for those that alone tell the size of a named dimension.
    """

    name: ClassVar[str] = "prune"
    needs: ClassVar[tuple[str, ...]] = ()
    drop_inputs: bool = False

    def __call__(self, graph: Graph) -> Graph:
        live = live_values(graph)
        nodes = tuple(node for node in graph.nodes if _is_live(node, live))
        inputs = graph.inputs
        if self.drop_inputs:
            inputs = _needed_inputs(graph, nodes, live | {update.target for update in graph.updates})
        if len(nodes) == len(graph.nodes) and len(inputs) == len(graph.inputs):
            return graph
        return replace(graph, nodes=nodes, inputs=inputs)


def _needed_inputs(graph: Graph, nodes: tuple[Node, ...], live: set[str]) -> tuple[Input, ...]:
    live_inputs = [item.value for item in graph.inputs if item.name in live]
    known = set(dim_symbols(dim for value in live_inputs for dim in value.type.shape))
    for name in dim_symbols(dim for node in nodes for value in node.outputs for dim in value.type.shape):
        if name not in known:
            source = next(item.value for item in graph.inputs if name in dim_symbols(item.value.type.shape))
            live.add(source.name)
            known.update(dim_symbols(source.type.shape))
    return tuple(item for item in graph.inputs if item.name in live)


def live_values(graph: Graph) -> set[str]:
    """Names of all values from which an output or an update is computed, these included."""
    live = set(graph.results)
    for node in reversed(graph.nodes):
        if _is_live(node, live):
            live.update(value.name for value in node.inputs)
    return live


def _is_live(node: Node, live: set[str]) -> bool:
    return not primitive(node.primitive).side_effect_free or any(value.name in live for value in node.outputs)
