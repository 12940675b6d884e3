"""Expansion: templates that the target does not have become other primitives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from graphc.diagnostics import fail
from graphc.ir.graph import Graph, Node, Value
from graphc.passes.prune import Prune
from graphc.primitives.builder import Builder
from graphc.primitives.declare import TypeRuleError, never, primitive


@dataclass(frozen=True, slots=True)
class Expand:
    """Replace each node whose primitive has an expansion by that, but for those that `has_template` tells.

    Error G406 where an expansion needs sizes that are symbolic.
    """

    name: ClassVar[str] = "expand"
    needs: ClassVar[tuple[str, ...]] = ()
    has_template: Callable[[Node], bool] = never

    def __call__(self, graph: Graph) -> Graph:
        if not any(self._is_due(node) for node in graph.nodes):
            return graph
        builder = Builder.extend(graph)
        builder.nodes = []
        made: dict[str, Value] = {}
        for node in graph.nodes:
            self._add(builder, _reading(node, made), made)
        return Prune()(graph.with_nodes(builder.nodes).substitute(lambda value: made.get(value.name, value)))

    def _is_due(self, node: Node) -> bool:
        return primitive(node.primitive).expansion is not None and not self.has_template(node)

    def _add(self, builder: Builder, node: Node, made: dict[str, Value]) -> None:
        """Keep a node, or add what it expands to, which may expand in turn."""
        if not self._is_due(node):
            builder.nodes.append(node)
            return
        rule = primitive(node.primitive).expansion
        assert rule is not None
        before, builder.nodes = builder.nodes, []
        with builder.at(node.origins, hint=node.outputs[0].name):
            try:
                results = rule(builder, node)
            except TypeRuleError as problem:
                raise _refused(node, problem) from None
        inner, builder.nodes = builder.nodes, before
        for step in inner:
            self._add(builder, _reading(step, made), made)
        for value, result in zip(node.outputs, results, strict=True):
            made[value.name] = made.get(result.name, result)


def _reading(node: Node, made: dict[str, Value]) -> Node:
    """The node with expanded values for those that it reads."""
    return replace(node, inputs=tuple(made.get(value.name, value) for value in node.inputs))


def _refused(node: Node, problem: TypeRuleError) -> Exception:
    origin = node.origins[0] if node.origins else None
    return fail(
        "G406",
        f"the target has no template for {node.primitive}: {problem}",
        operator=origin.operator if origin else node.primitive,
        name=origin.name if origin else node.outputs[0].name,
        location=origin.location if origin else None,
        help="give the sizes that the message names, or compile for the CPU",
    )
