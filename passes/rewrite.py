"""One forward sweep that rewrites a graph to a normal form by local rules.

    rule     = (rewriter, node) -> the value to read instead of the node's output, or None
    sweep    : every node, its operands rewritten already, is offered to the rules of its primitive; what a rule makes
               is offered to the rules too, before anything reads it

Rules look at a node and at what makes its operands, never at its readers, and each one makes progress (fewer nodes,
or less work). So every node that stays has been seen by every rule with its final operands: one sweep reaches the
normal form, a second one changes nothing, and the work is linear in the number of nodes offered.
Folding, simplification and sharing are combined in one sweep, as they help each other (C. Click, K. Cooper,
Combining Analyses, Combining Optimizations, TOPLAS 17:2, 1995).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphc.ir.graph import Attributes, Graph, Node, Origins, Value, merge_origins
from graphc.passes.base import NodeError
from graphc.passes.prune import Prune
from graphc.primitives.builder import Builder, Scalar
from graphc.primitives.declare import Kind, Primitive, primitive


@dataclass(frozen=True, slots=True)
class Rule:
    """One rewrite: what it does, on which primitives, and why its result is the same in floating point.

    An `exact` rule gives the same bits for every operand (all NaNs count as one); for another one `sound` says
    where they differ.
    """

    name: str
    sound: str
    matches: Callable[[Primitive], bool]
    apply: Callable[[Rewriter, Node], Value | None]
    exact: bool = True


def on(*names: str) -> Callable[[Primitive], bool]:
    """Rules for primitives of these names."""
    return lambda declared: declared.name in names


def of_kind(*kinds: Kind) -> Callable[[Primitive], bool]:
    """Rules for all primitives of these kinds."""
    return lambda declared: declared.kind in kinds


def rewrite(graph: Graph, rules: Sequence[Rule], *, share: bool = False) -> Graph:
    """The graph in normal form under `rules`, and with `share` without equal nodes; the same object if it was so."""
    rewriter = Rewriter(graph, rules, share=share)
    return rewriter.run()


class Rewriter(Builder):
    """A Builder whose nodes go through the rules before they are added."""

    def __init__(self, graph: Graph, rules: Sequence[Rule], *, share: bool) -> None:
        super().__init__(graph.name)
        self.inputs = list(graph.inputs)
        self._names = {value.name for value in graph.values()}
        self.offers = 0
        self.fired: dict[str, int] = {}
        self.depth = 0
        self._graph = graph
        self._rules = rules
        self._share = share
        self._rules_of: dict[str, tuple[Rule, ...]] = {}
        self._producer: dict[str, Node] = {}
        self._merged: dict[str, list[Origins]] = {}
        self._known: dict[Hashable, Node] = {}
        self._instead: dict[str, Value] = {}
        self._absorbed: list[Origins] = []

    # What rules ask

    def producer(self, value: Value, *names: str) -> Node | None:
        """The node that makes a value, if its primitive is one of `names` (any, when none are given).

        What the rule then makes carries this node's origins too.
        """
        node = self._producer.get(value.name)
        if node is None or (names and node.primitive not in names):
            return None
        self._absorbed.append(node.origins)
        return node

    def splat(self, value: Value) -> Scalar | None:
        """The number that every element of a value has, when it is a constant."""
        node = self._producer.get(value.name)
        if node is None or node.primitive != "full":
            return None
        number: Scalar = node.attributes["value"]
        return number

    def computed(self, name: str, *operands: Value, **attributes: Any) -> Value | None:
        """The result of a primitive on these operands, where an earlier node computes it.

        Found only while equal nodes are shared, as before that equal operands have different names.
        """
        node = self._known.get(_key(primitive(name), operands, Attributes(attributes)))
        return None if node is None else node.output

    # The sweep

    def run(self) -> Graph:
        for node in self._graph.nodes:
            inputs = tuple(self._read(value) for value in node.inputs)
            current = node if inputs == node.inputs else replace(node, inputs=inputs)
            try:
                with self.at(node.origins, hint=node.outputs[0].name):
                    results = self.place(current)
            except Exception as error:
                raise NodeError(node) from error
            for old, new in zip(node.outputs, results, strict=True):
                if old is not new and old.name != new.name:
                    self._instead[old.name] = new
        if not self.fired:
            return self._graph
        outputs = tuple(self._read(value) for value in self._graph.outputs)
        updates = tuple(replace(update, value=self._read(update.value)) for update in self._graph.updates)
        swept = replace(self._graph, nodes=self._with_merged_origins(), outputs=outputs, updates=updates)
        return _rename(Prune()(swept), self._old_names())

    def _old_names(self) -> dict[str, str]:
        """For each value that was made, the name of the first one that it replaced: users find their names again."""
        given = {value.name for value in self._graph.values()}
        names: dict[str, str] = {}
        for old, new in self._instead.items():
            if old not in self._producer and new.name not in given:
                names.setdefault(new.name, old)
        return names

    def _read(self, value: Value) -> Value:
        return self._instead.get(value.name, value)

    def emit_all(self, name: str, *operands: Value, hint: str = "", **attributes: Any) -> tuple[Value, ...]:
        with self.at(merge_origins(self.origins, *self._absorbed)):
            super().emit_all(name, *operands, hint=hint, **attributes)
            return self.place(self.nodes.pop())

    def place(self, node: Node) -> tuple[Value, ...]:
        """Add a node unless a rule or an equal node stands in for it; return the values to read."""
        self.offers += 1
        for rule in self._rules_for(node.primitive):
            value = self._apply(rule, node)
            if value is not None:
                self.fired[rule.name] = self.fired.get(rule.name, 0) + 1
                return (value,)
        if self._share and (shared := self._equal_node(node)) is not None:
            self.fired["share"] = self.fired.get("share", 0) + 1
            return shared.outputs
        for output in node.outputs:
            self._producer[output.name] = node
        self.nodes.append(node)
        return node.outputs

    def _rules_for(self, name: str) -> tuple[Rule, ...]:
        rules = self._rules_of.get(name)
        if rules is None:
            declared = primitive(name)
            rules = self._rules_of[name] = tuple(rule for rule in self._rules if rule.matches(declared))
        return rules

    def _apply(self, rule: Rule, node: Node) -> Value | None:
        outer, self._absorbed = self._absorbed, []
        self.depth += 1
        try:
            return rule.apply(self, node)
        finally:
            self.depth -= 1
            self._absorbed = outer

    def _equal_node(self, node: Node) -> Node | None:
        """The earlier node that computes the same, which gets the origins of both; None if there is none."""
        declared = primitive(node.primitive)
        # Two losses that ignore their heads send two gradients, one would send one.
        if not declared.side_effect_free or declared.ignores_head(node):
            return None
        key = _key(declared, node.inputs, node.attributes)
        earlier = self._known.setdefault(key, node)
        if earlier is node:
            return None
        if declared.kind is not Kind.CONSTANT:  # a constant that many operators use is of none of them
            self._merged.setdefault(earlier.outputs[0].name, [earlier.origins]).append(node.origins)
        return earlier

    def _with_merged_origins(self) -> tuple[Node, ...]:
        merged = self._merged
        return tuple(
            replace(node, origins=merge_origins(*merged[node.outputs[0].name]))
            if node.outputs[0].name in merged
            else node
            for node in self.nodes
        )


def _key(declared: Primitive, operands: Sequence[Value], attributes: Attributes) -> Hashable:
    names = [value.name for value in operands]
    return declared.name, tuple(sorted(names) if declared.commutative else names), attributes


def _rename(graph: Graph, names: dict[str, str]) -> Graph:
    def rename(value: Value) -> Value:
        name = names.get(value.name)
        return value if name is None else Value(name, value.type)

    if not names:
        return graph
    renamed = graph.substitute(rename)
    return renamed.with_nodes(
        node
        if (outputs := tuple(map(rename, node.outputs))) == node.outputs
        else replace(node, outputs=outputs)
        for node in renamed.nodes
    )
