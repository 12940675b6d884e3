"""Which values are the same on every call: computed from parameters and states that the program does not update.

    constants(graph)   names of those values
    hoist(graph)       the graph in two: a prologue that computes them, and the rest, which takes them as inputs

A prologue runs when parameters change, not on each call: weights scaled by a folded BatchNorm, casts and transposes of
weights, scale and shift of a normalization. Only what saves more than it costs is hoisted (`_Choice.pays`): a
constant value is held between calls, so one that is larger than what it is made from stays in the main program.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import NamedTuple

from graphc.ir.graph import Graph, Input, InputKind, Node, Value
from graphc.passes.prune import Prune
from graphc.primitives.declare import Kind, primitive

SLACK = 1 << 16
"""Bytes that a constant value may always take."""

_MOVES = (Kind.VIEW, Kind.RESHAPE)
_READS_WHOLE = (Kind.CONTRACTION, Kind.SCATTER, Kind.TEMPLATE)
"""Kinds whose operands lie in memory: a view before one is a kernel of its own."""


class Hoisted(NamedTuple):
    """`prologue` gives the constant inputs of `main`, by name; None where there are none."""

    prologue: Graph | None
    main: Graph


def constants(graph: Graph) -> frozenset[str]:
    """Names of the inputs that keep their content, and of all values computed from at least one and nothing else."""
    literal: set[str] = set()
    found = _sources(graph)
    for node in graph.nodes:
        declared = primitive(node.primitive)
        operands = {value.name for value in node.inputs}
        names = [value.name for value in node.outputs]
        if operands <= literal and declared.kind is not Kind.RANDOM:
            literal.update(names)
        elif (
            all(name in found or name in literal for name in operands)
            and declared.side_effect_free
            and all(value.type.is_static for value in node.outputs)
        ):
            found.update(names)
    return frozenset(found)


def _sources(graph: Graph) -> set[str]:
    """Parameters and states that no update changes."""
    updated = {update.target for update in graph.updates}
    return {
        item.name
        for item in graph.inputs
        # What has a named dimension (a label at inference, which nothing reads) is no parameter of the program.
        if item.kind in (InputKind.PARAMETER, InputKind.STATE)
        and item.value.type.is_static
        and item.name not in updated
    }


def hoist(graph: Graph) -> Hoisted:
    """Split off what is worth computing once; (None, the same graph) when nothing is."""
    fixed = constants(graph)
    taken = _Choice(graph, fixed).taken()
    if not taken:
        return Hoisted(None, graph)
    whole = replace(
        graph, name=f"{graph.name}_constants", outputs=tuple(taken.values()), output_names=(), updates=()
    )
    made = tuple(Input(value, InputKind.CONSTANT) for value in taken.values())
    rest = tuple(node for node in graph.nodes if not any(value.name in taken for value in node.outputs))
    main = replace(graph, inputs=(*graph.inputs, *made), nodes=rest)
    return Hoisted(Prune(drop_inputs=True)(whole), Prune()(main))


class _Choice:
    """Decides from the results backwards which constant values are held."""

    def __init__(self, graph: Graph, fixed: Collection[str]) -> None:
        self.graph, self.fixed = graph, fixed
        self.readers: dict[str, list[Node]] = {}
        self.moved: set[str] = set()
        self.sources: dict[str, Mapping[str, int]] = {}
        for item in graph.inputs:
            if item.name in fixed:
                self.moved.add(item.name)
                self.sources[item.name] = {item.name: _nbytes(item.value)}
        for node in graph.nodes:
            if node.outputs[0].name in fixed:
                self._describe(node)

    def _describe(self, node: Node) -> None:
        """Note what a constant value is made from, and whether it only moves the elements of one input."""
        operands = [value.name for value in node.inputs if value.name in self.fixed]
        known: dict[str, int] = {}
        for name in operands:
            known.update(self.sources[name])
        moves = primitive(node.primitive).kind in _MOVES and len(node.inputs) == 1
        for value in node.outputs:
            self.sources[value.name] = known
            if moves and all(name in self.moved for name in operands):
                self.moved.add(value.name)

    def taken(self) -> dict[str, Value]:
        """The values to hold; every other constant value is computed where it is read."""
        results = self.graph.results
        kept: dict[str, Value] = {}
        for node in reversed(self.graph.nodes):
            is_fixed = node.outputs[0].name in self.fixed
            read = [v for v in node.outputs if v.name in self.readers or v.name in results]
            if is_fixed and (not read or all(self.pays(node, value) for value in read)):
                kept.update((value.name, value) for value in read)
                continue
            for value in node.inputs:
                self.readers.setdefault(value.name, []).append(node)
        return dict(reversed(kept.items()))

    def pays(self, node: Node, value: Value) -> bool:
        """True when the work saved on each call is worth the bytes held.

        A contraction's operand lies in memory anyway, so only a reshape, which is free, is not worth it. Elsewhere a
        view is fused for nothing, a gather computes only the rows that it takes, and what is larger than all that it
        is made from (a broadcast) would be read from memory instead of computed in registers.
        """
        kinds = [primitive(reader.primitive).kind for reader in self.readers.get(value.name, ())]
        limit = sum(self.sources[value.name].values())
        nbytes = _nbytes(value)
        if primitive(node.primitive).kind in _READS_WHOLE:
            return True
        if any(kind in _READS_WHOLE for kind in kinds):
            return not self._only_reshaped(value) and nbytes <= 2 * limit + SLACK
        if value.name in self.moved or nbytes > limit + SLACK:
            return False
        return value.name in self.graph.results or any(kind is not Kind.GATHER for kind in kinds)

    def _only_reshaped(self, value: Value) -> bool:
        node = self.graph.producers.get(value.name)
        while node is not None and primitive(node.primitive).kind is Kind.RESHAPE:
            node = self.graph.producers.get(node.inputs[0].name)
        return node is None


def _nbytes(value: Value) -> int:
    size = value.type.size
    assert isinstance(size, int)
    return size * value.type.dtype.itemsize
