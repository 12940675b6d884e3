"""MXNet 0.7's memory planner, replayed on a Symbol: what graphc's plan is compared with. No part of the product.

The walk is MXNet's: nodes in topological order, references counted, backward nodes after forward ones. Every output
of an operator counts, hidden ones too; arguments, their gradients and auxiliary states are the caller's. In place: an
operator that allows it takes over its input's block when it reads it last. Co-share: a freed block waits in a list
ordered by size and serves the first later request within a factor of 16, larger blocks first. Blocks are counted in
f32 elements while planning.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphc.symbol import Symbol
from graphc.symbol.node import SymbolNode, topological

MATCH_RANGE = 16
ITEM_BYTES = 4
STRATEGIES = {
    "none": (False, False),
    "inplace": (True, False),
    "coshare": (False, True),
    "both": (True, True),
}
"""Whether operators work in place, and whether freed blocks are shared."""

Entry = tuple[int, int]
"""(number of a node, number of its output)."""
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Rule:
    """What the planner knows about an operator.

    hidden: sizes of outputs that only its backward reads: "like" the output, or one for each channel.
    forward: the operator may write its output over its first input.
    backward: what its backward reads: og (gradient of the output), x, w, y, label, gamma, beta, hiddenN.
    over: which of those the gradient of the first input may be written over.
    """

    backward: tuple[str, ...]
    hidden: tuple[str, ...] = ()
    forward: bool = False
    over: str = ""


RULES = {
    "Convolution": Rule(("og", "x", "w")),
    "FullyConnected": Rule(("og", "x", "w"), over="x"),
    "Activation": Rule(("og", "y"), forward=True, over="og"),
    "Pooling": Rule(("og", "x", "y"), over="x"),
    "LRN": Rule(("og", "x", "hidden0"), hidden=("like",)),
    "Dropout": Rule(("og", "hidden0"), hidden=("like",), forward=True, over="og"),
    "Flatten": Rule(("og",), forward=True, over="og"),
    "Concat": Rule(("og",)),
    "BatchNorm": Rule(("og", "hidden0", "hidden1", "x", "gamma", "beta"), hidden=("channel", "channel")),
    "SoftmaxOutput": Rule(("label", "y"), forward=True, over="y"),
}
"""MXNet's own operators, as on a CPU."""

CUDNN_RULES = {
    **RULES,
    "Activation": Rule(("og", "y", "x"), forward=True, over="og"),
    "Pooling": Rule(("og", "x", "y")),
    "LRN": Rule(("og", "x", "y")),
}
"""The operators as the published figure has them: cuDNN's backward functions read more, and need no scratch."""

INPUTS = {"x": 0, "w": 1, "label": 1, "gamma": 1, "beta": 2}


@dataclass(slots=True)
class _Node:
    """A variable (no sizes are planned), an operator, its backward, or a sum of gradients."""

    inputs: list[Entry]
    sizes: list[int]
    variable: bool = False
    source: int = -1
    takes: list[tuple[int, int]] = field(default_factory=list)
    """Pairs (input, output): the output may be written over the input."""


@dataclass(slots=True)
class _Network:
    """Nodes, results to keep, and outputs that are the caller's memory."""

    nodes: list[_Node] = field(default_factory=list)
    heads: list[Entry] = field(default_factory=list)
    external: set[Entry] = field(default_factory=set)

    def add(self, node: _Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1


def planned_bytes(symbol: Symbol, shapes: Shapes, training: bool, strategy: str, cudnn: bool = True) -> int:
    """Bytes that MXNet 0.7 plans for a Symbol's inner results, all f32.

    shapes: of the data inputs; all other arguments but labels are parameters, whose gradients the caller holds.
    """
    rules = CUDNN_RULES if cudnn else RULES
    network, variables = _forward(symbol, shapes, rules)
    order = _topological(network, range(len(network.nodes)))
    if training:
        forward = len(network.nodes)
        _backward(network, symbol, rules, [number for name, number in variables if name not in shapes])
        everything = _topological(network, range(len(network.nodes)))
        order = [n for n in everything if n < forward] + [n for n in everything if n >= forward]
    return _Planner(network, *STRATEGIES[strategy]).run(order) * ITEM_BYTES


def _forward(
    symbol: Symbol, shapes: Shapes, rules: Mapping[str, Rule]
) -> tuple[_Network, list[tuple[str, int]]]:
    """The operators as nodes; also the numbers of the variables that are no labels, by name."""
    internals = symbol.get_internals()
    arguments, outputs, _ = internals.infer_shape(**shapes)
    elements = {n: math.prod(s) for n, s in zip(internals.list_arguments(), arguments, strict=True)}
    shape_of = dict(zip(internals.list_outputs(), outputs, strict=True))
    network, numbers, variables = _Network(), dict[SymbolNode, int](), list[tuple[str, int]]()
    auxiliaries = set(symbol.list_auxiliary_states())
    for node in topological(symbol.entries):
        if node.operator is None:
            if node.name not in auxiliaries:
                numbers[node] = network.add(_Node([], [elements[node.name]], variable=True))
                if not node.name.endswith("_label"):
                    variables.append((node.name, numbers[node]))
            continue
        rule = rules[node.kind]
        shape = shape_of[node.output_names[0]]
        sizes = {"like": math.prod(shape), "channel": shape[1] if len(shape) > 1 else 1}
        count = len(node.inputs) - len(node.auxiliary_inputs)
        numbers[node] = network.add(
            _Node(
                [(numbers[entry.node], entry.output) for entry in node.inputs[:count]],
                [sizes["like"], *(sizes[kind] for kind in rule.hidden)],
                takes=[(0, 0)] if rule.forward else [],
            )
        )
    network.heads = [(numbers[entry.node], entry.output) for entry in symbol.entries]
    return network, variables


# Gradients


def _backward(
    network: _Network, symbol: Symbol, rules: Mapping[str, Rule], parameters: Sequence[int]
) -> None:
    """Append a backward node for each operator, last one first, and the sums of gradients that meet."""
    auxiliaries = set(symbol.list_auxiliary_states())
    kinds = [node.kind for node in topological(symbol.entries) if node.name not in auxiliaries]
    gradients: dict[Entry, list[Entry]] = {}
    for head in network.heads:
        gradients[head] = [(network.add(_Node([], [0], variable=True)), 0)]
    for number in reversed(_topological(network, range(len(kinds)))):
        node = network.nodes[number]
        if node.variable:
            continue
        rule = rules[kinds[number]]
        gradient = _total(network, gradients[number, 0], node.sizes[0])
        reads = [_read(node, number, gradient, what) for what in rule.backward]
        made = network.add(
            _Node(
                reads,
                [network.nodes[place].sizes[output] for place, output in node.inputs],
                source=number,
                takes=[(rule.backward.index(rule.over), 0)] if rule.over else [],
            )
        )
        for output, entry in enumerate(node.inputs):
            gradients.setdefault(entry, []).append((made, output))
    for number in parameters:
        (entry,) = gradients[number, 0]
        network.external.add(entry)
        network.heads.append(entry)


def _read(node: _Node, number: int, gradient: Entry, what: str) -> Entry:
    if what == "og":
        return gradient
    if what in INPUTS:
        return node.inputs[INPUTS[what]]
    return (number, 0 if what == "y" else 1 + int(what.removeprefix("hidden")))


def _total(network: _Network, gradients: list[Entry], size: int) -> Entry:
    """One gradient, or the node that adds several; a sum may work in its first operand."""
    if len(gradients) == 1:
        return gradients[0]
    return network.add(_Node(list(gradients), [size], takes=[(0, 0)])), 0


def _topological(network: _Network, numbers: range) -> list[int]:
    """Depth first from the nodes that nobody reads, operands in order, a backward node after its operator."""
    before = {
        n: [i for i, _ in node.inputs] + ([node.source] if node.source >= 0 else [])
        for n, node in ((n, network.nodes[n]) for n in numbers)
    }
    read = {operand for operands in before.values() for operand in operands}
    order: list[int] = []
    done: set[int] = set()
    for head in (number for number in numbers if number not in read):
        stack = [(head, iter(before[head]))]
        while stack:
            number, operands = stack[-1]
            following = next((operand for operand in operands if operand not in done), None)
            if following is not None:
                stack.append((following, iter(before[following])))
                continue
            stack.pop()
            if number not in done:
                done.add(number)
                order.append(number)
    return order


# Planning


class _Planner:
    """Blocks for the outputs of each node, in order."""

    def __init__(self, network: _Network, in_place: bool, share: bool) -> None:
        self.network, self.in_place, self.share = network, in_place, share
        self.blocks: list[int] = []
        self.free: list[tuple[int, int, int]] = []
        """(size, age, block): blocks that nobody uses, by size, the one freed first before others of its size."""
        self.freed = 0
        self.block: dict[Entry, int] = {}
        self.references: dict[Entry, int] = {}

    def run(self, order: Sequence[int]) -> int:
        """Elements of all blocks."""
        for entry in self.network.heads:
            self.references[entry] = self.references.get(entry, 0) + 1
        for number in order:
            for entry in self.network.nodes[number].inputs:
                self.references[entry] = self.references.get(entry, 0) + 1
        for number in order:
            if not self.network.nodes[number].variable:
                self.place(number)
        return sum(self.blocks)

    def place(self, number: int) -> None:
        node = self.network.nodes[number]
        taken = self.take_over(number, node) if self.in_place else set()
        for output, size in enumerate(node.sizes):
            entry = (number, output)
            if entry not in self.block and entry not in self.network.external:
                self.block[entry] = self.request(size)
        for entry in node.inputs:
            if entry in taken:
                continue
            self.references[entry] -= 1
            self.release(entry)
        for output in range(len(node.sizes)):
            self.release((number, output))

    def take_over(self, number: int, node: _Node) -> set[Entry]:
        """Give outputs the blocks of inputs that are read for the last time."""
        taken: set[Entry] = set()
        for source, output in node.takes:
            entry = node.inputs[source]
            if self.references[entry] == 1 and entry in self.block and (number, output) not in self.block:
                self.block[number, output] = self.block[entry]
                taken.add(entry)
        return taken

    def request(self, size: int) -> int:
        if self.share:
            middle = bisect.bisect_left(self.free, (size,))
            low = bisect.bisect_left(self.free, (size // MATCH_RANGE,))
            high = bisect.bisect_left(self.free, (size * MATCH_RANGE + 1,))
            # The smallest that is large enough, else the largest that is not, which grows.
            place = middle if middle < high else middle - 1
            if low <= place < high:
                _, _, block = self.free.pop(place)
                self.blocks[block] = max(self.blocks[block], size)
                return block
        self.blocks.append(size)
        return len(self.blocks) - 1

    def release(self, entry: Entry) -> None:
        if not self.share or self.references.get(entry, 0) or entry not in self.block:
            return
        block = self.block[entry]
        self.freed += 1
        bisect.insort(self.free, (self.blocks[block], self.freed, block))
