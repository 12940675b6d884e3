"""Regions: convolutions and what can run beside them on [N,...,C], joined by the images that they share."""

from __future__ import annotations

from dataclasses import dataclass, field

from graphc.ir.graph import Graph, Node, Value
from graphc.passes.layout.moves import Move, is_image, move_of, source_of
from graphc.primitives.declare import Kind, primitive


@dataclass(slots=True)
class Region:
    """Nodes that run on [N,...,C] together, in order; images that come from outside, and that are read there."""

    nodes: list[Node] = field(default_factory=list)
    entries: list[Value] = field(default_factory=list)
    exits: list[Value] = field(default_factory=list)

    @property
    def convolutions(self) -> list[Node]:
        return [node for node in self.nodes if primitive(node.primitive).kind is Kind.CONTRACTION]


def regions(graph: Graph) -> tuple[list[Region], dict[str, Move]]:
    """The regions that hold a convolution, and how each of their nodes moves, by the name of its first output."""
    moves: dict[str, Move] = {}
    sources: set[str] = set()
    for node in graph.nodes:
        if source_of(node) is not None:
            sources.add(node.outputs[0].name)
        elif (move := move_of(node)) is not None:
            moves[node.outputs[0].name] = move
    sets = _Sets()
    for node in graph.nodes:
        if (move := moves.get(node.outputs[0].name)) is not None:
            for value in _images(node, move):
                if value.name not in sources:
                    sets.join(node.outputs[0].name, value.name)
    found: dict[str, Region] = {}
    for node in graph.nodes:
        if node.outputs[0].name in moves:
            found.setdefault(sets.find(node.outputs[0].name), Region()).nodes.append(node)
    wanted = [region for region in found.values() if region.convolutions]
    for region in wanted:
        _set_borders(graph, region, moves, sources)
    return wanted, moves


def _images(node: Node, move: Move) -> list[Value]:
    operands = [value for value, is_moved in zip(node.inputs, move.operands, strict=True) if is_moved]
    return [*operands, *(node.outputs if move.results else ())]


def _set_borders(graph: Graph, region: Region, moves: dict[str, Move], sources: set[str]) -> None:
    inside = {node.outputs[0].name for node in region.nodes}
    made: set[str] = set()
    seen: set[str] = set()
    for node in region.nodes:
        move = moves[node.outputs[0].name]
        for value, is_moved in zip(node.inputs, move.operands, strict=True):
            if is_moved and value.name not in made | seen | sources:
                seen.add(value.name)
                region.entries.append(value)
        if move.results:
            made.update(value.name for value in node.outputs)
            region.exits += [v for v in node.outputs if is_image(v) and _leaves(graph, v, inside, moves)]


def _leaves(graph: Graph, value: Value, inside: set[str], moves: dict[str, Move]) -> bool:
    """True when something beside the region reads the value as [N,C,...]."""
    if value.name in graph.results:
        return True
    for reader in graph.readers[value.name]:
        name = reader.outputs[0].name
        if name not in inside:
            return True
        if any(
            v.name == value.name and not m for v, m in zip(reader.inputs, moves[name].operands, strict=True)
        ):
            return True
    return False


class _Sets:
    """Disjoint sets of names."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        root = name
        while (above := self.parent.get(root, root)) != root:
            root = above
        while (above := self.parent.get(name, root)) != root:
            self.parent[name], name = root, above
        return root

    def join(self, first: str, second: str) -> None:
        self.parent[self.find(first)] = self.find(second)
