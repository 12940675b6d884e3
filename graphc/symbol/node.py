"""The nodes behind a Symbol: variables and applied operators, immutable, with the user's source line.

    entry = (node, index of one of its outputs)

Walks are loops, never recursion: a graph may be deeper than Python's stack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from graphc.diagnostics import GraphcError, Location, Operand, fail
from graphc.ir.graph import Origin
from graphc.operators.declare import Operator
from graphc.operators.parameters import Parameters

NO_PARAMETERS = Parameters({})


class Entry(NamedTuple):
    """One output of a node."""

    node: SymbolNode
    output: int

    @property
    def name(self) -> str:
        """The variable's name, or <operator's name>_<output>."""
        return self.node.output_names[self.output]


@dataclass(frozen=True, slots=True, eq=False)
class SymbolNode:
    """A variable (no operator) or an applied operator.

    `texts` are the parameters that the user gave, as text for model files; `attributes` the user's own.
    """

    name: str
    operator: Operator | None = None
    inputs: tuple[Entry, ...] = ()
    parameters: Parameters = NO_PARAMETERS
    texts: Mapping[str, str] | None = None
    attributes: Mapping[str, str] | None = None
    location: Location | None = None

    @property
    def kind(self) -> str:
        """The operator's name, "Variable" for a variable."""
        return self.operator.name if self.operator else "Variable"

    @property
    def input_names(self) -> tuple[str, ...]:
        return self.operator.input_names(self.parameters) if self.operator else ()

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of its outputs in the whole graph."""
        if self.operator is None:
            return (self.name,)
        return tuple(f"{self.name}_{output}" for output in self.operator.output_names(self.parameters))

    @property
    def auxiliary_inputs(self) -> tuple[Entry, ...]:
        count = len(self.operator.auxiliaries) if self.operator else 0
        return self.inputs[len(self.inputs) - count :]

    @property
    def origin(self) -> Origin:
        return Origin(self.name, self.kind, self.location)

    def blame(self, code: str, message: str, operands: Sequence[Operand] = (), help: str = "") -> GraphcError:
        """An error at this node."""
        return fail(
            code,
            message,
            operator=self.kind,
            name=self.name,
            location=self.location,
            operands=operands,
            help=help,
        )


def describe_source(entry: Entry) -> str:
    """Where an entry comes from, for an operand's row in a diagnostic: "relu1, mlp.py:13"."""
    location = entry.node.location
    return f"{entry.node.name}, {location}" if location else entry.node.name


def topological(entries: Iterable[Entry]) -> tuple[SymbolNode, ...]:
    """All nodes below, inputs before users, in depth-first order of the inputs."""
    order: list[SymbolNode] = []
    seen: set[SymbolNode] = set()
    for root, _ in entries:
        if root in seen:
            continue
        seen.add(root)
        stack: list[tuple[SymbolNode, Iterator[Entry]]] = [(root, iter(root.inputs))]
        while stack:
            node, inputs = stack[-1]
            for child, _ in inputs:
                if child not in seen:
                    seen.add(child)
                    stack.append((child, iter(child.inputs)))
                    break
            else:
                order.append(node)
                stack.pop()
    return tuple(order)


def rewrite(entries: Sequence[Entry], change: Callable[[SymbolNode], Entry | None]) -> tuple[Entry, ...]:
    """The entries with every variable replaced by what `change` gives for it (None keeps it)."""
    new: dict[SymbolNode, Entry] = {}

    def moved(entry: Entry) -> Entry:
        target = new[entry.node]
        return target if entry.node.operator is None else Entry(target.node, entry.output)

    for node in topological(entries):
        if node.operator is None:
            new[node] = change(node) or Entry(node, 0)
            continue
        inputs = tuple(moved(entry) for entry in node.inputs)
        same = all(
            a.node is b.node and a.output == b.output for a, b in zip(inputs, node.inputs, strict=True)
        )
        new[node] = Entry(node if same else replace(node, inputs=inputs), 0)
    return tuple(moved(entry) for entry in entries)


def variables(entries: Iterable[Entry]) -> tuple[tuple[SymbolNode, ...], tuple[SymbolNode, ...]]:
    """The variables below that are arguments, and those that are auxiliary states."""
    order = topological(entries)
    auxiliary = {entry.node for node in order for entry in node.auxiliary_inputs}
    found = [node for node in order if node.operator is None]
    return (
        tuple(node for node in found if node not in auxiliary),
        tuple(node for node in found if node in auxiliary),
    )


def check_names(nodes: Iterable[SymbolNode]) -> None:
    """Error G107 when two variables share a name: which one is meant could not be told."""
    first: dict[str, SymbolNode] = {}
    for node in nodes:
        if node.operator is not None:
            continue
        other = first.setdefault(node.name, node)
        if other is not node:
            here = [Operand(node.name, "", str(v.location)) for v in (other, node) if v.location]
            raise node.blame(
                "G107", "two variables have this name", here, "make one of them, and use it in both places"
            )
