"""The pass: regions of convolutions whose images lie better as [N,...,C] run so, between transposes at their borders.

Inside a region nothing is transposed: convolutions become `channels_last_convolution`, which reads its weight as it
is; windows, reductions, joins and elementwise operators run along the moved axes. The same elements are computed, sums
in another order, so it belongs to level 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from graphc.diagnostics import closest, fail
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.program import Decision
from graphc.passes.layout.cost import gain, transpose_cost
from graphc.passes.layout.moves import Move, source_of
from graphc.passes.layout.regions import Region, regions
from graphc.passes.prune import Prune
from graphc.passes.rewrite import rewrite
from graphc.passes.rules import views
from graphc.primitives.builder import Builder
from graphc.primitives.channels_last import to_first, to_last

LAYOUTS = ("auto", "keep", "channels_last")


def check_layout(name: str) -> None:
    """Error G101 for a layout that there is not."""
    if name not in LAYOUTS:
        raise fail(
            "G101", f"there is no layout {name!r}", help=closest(name, LAYOUTS) or f"use {', '.join(LAYOUTS)}"
        )


@dataclass(frozen=True, slots=True)
class ChooseLayout:
    """Move the channels of images behind their spatial axes where that is worth it.

    layout: "auto" weighs what convolutions gain against the transposes at a region's borders, "channels_last" moves
    every region that holds a convolution, "keep" none.
    """

    name: ClassVar[str] = "layout"
    needs: ClassVar[tuple[str, ...]] = ()
    layout: str = "auto"

    def __call__(self, graph: Graph) -> Graph:
        found, moves = regions(graph) if self.layout != "keep" else ([], {})
        taken = [region for region in found if self.accepts(region)]
        if not taken:
            return graph
        moving = {node.outputs[0].name for region in taken for node in region.nodes}
        moved = _Mover(graph, {name: moves[name] for name in moving}).run()
        return rewrite(moved, views.RULES, share=True)

    def accepts(self, region: Region) -> bool:
        return self.layout == "channels_last" or _balance(region)[0] > 0

    def decisions(self, graph: Graph) -> tuple[Decision, ...]:
        """What the pass does with each region of a graph, and why."""
        return tuple(self._decision(region) for region in regions(graph)[0])

    def _decision(self, region: Region) -> Decision:
        _, won, paid = _balance(region)
        accepted = self.layout != "keep" and self.accepts(region)
        nodes = region.convolutions
        first, last = (_label(node) for node in (nodes[0], nodes[-1]))
        borders = f"{len(region.entries)} images come in, {len(region.exits)} go out"
        reason = (
            f"layout: {len(nodes)} convolutions with their channels last would take {won / 1e6:.1f} million "
            f"multiply-adds of time less, transposes at the borders ({borders}) {paid / 1e6:.1f} million"
        )
        if self.layout != "auto":
            reason = f"{reason}; layout={self.layout} was asked for"
        return Decision(first, last, accepted, reason)


def _label(node: Node) -> str:
    name = node.origins[0].name if node.origins else node.outputs[0].name
    return f"{name} ({node.primitive})"


def _balance(region: Region) -> tuple[float, float, float]:
    """What is left of the gain, the gain, and what the borders cost."""
    won = sum(map(gain, region.convolutions))
    paid = sum(map(transpose_cost, (*region.entries, *region.exits)))
    return won - paid, won, paid


class _Mover:
    """Rebuilds a graph with some nodes on [N,...,C]; values are transposed where they are first read the other way."""

    def __init__(self, graph: Graph, moves: dict[str, Move]) -> None:
        self.graph, self.moves = graph, moves
        self.builder = Builder.extend(graph)
        self.first: dict[str, Value] = {}
        self.last: dict[str, Value] = {}
        self.sources = {node.outputs[0].name: node for node in graph.nodes if source_of(node) is not None}

    def run(self) -> Graph:
        self.builder.nodes = []
        for node in self.graph.nodes:
            with self.builder.at(node.origins, node.outputs[0].name):
                move = self.moves.get(node.outputs[0].name)
                if move is None:
                    inputs = tuple(map(self.as_first, node.inputs))
                    self.builder.nodes.append(node if inputs == node.inputs else replace(node, inputs=inputs))
                else:
                    self.emit(node, move)
        outputs = tuple(map(self.as_first, self.graph.outputs))
        updates = tuple(replace(u, value=self.as_first(u.value)) for u in self.graph.updates)
        nodes = tuple(self.builder.nodes)
        return Prune()(replace(self.graph, nodes=nodes, outputs=outputs, updates=updates))

    def emit(self, node: Node, move: Move) -> None:
        operands = [
            self.as_last(value) if is_moved else self.as_first(value)
            for value, is_moved in zip(node.inputs, move.operands, strict=True)
        ]
        made = self.builder.emit_all(move.primitive, *operands, **move.attributes)
        table = self.last if move.results else self.first
        table.update(zip((value.name for value in node.outputs), made, strict=True))

    def as_first(self, value: Value) -> Value:
        """The value as [N,C,...]."""
        if value.name not in self.last or value.name in self.first:
            return self.first.get(value.name, value)
        made = self.builder.transpose(self.last[value.name], to_first(value.type.rank))
        self.first[value.name] = made
        return made

    def as_last(self, value: Value) -> Value:
        """The value as [N,...,C]."""
        if value.name not in self.last:
            node = self.sources.get(value.name)
            source = source_of(node) if node is not None else None
            if node is not None and source is not None:
                operands = [self.as_first(operand) for operand in node.inputs]
                made = self.builder.emit(source.primitive, *operands, **source.attributes)
            else:
                made = self.builder.transpose(self.as_first(value), to_last(value.type.rank))
            self.last[value.name] = made
        return self.last[value.name]
