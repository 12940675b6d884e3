"""Common subexpressions: nodes that compute the same are one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.ir.graph import Graph
from graphc.passes.rewrite import rewrite


@dataclass(frozen=True, slots=True)
class ShareCommon:
    """Let readers of equal nodes read the first of them, which gets the origins of all.

    Nodes are equal when primitive, operands (in any order, if it is commutative) and attributes are; random nodes
    too, as their numbers depend on nothing but seed, step and stream.
    """

    name: ClassVar[str] = "cse"
    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, graph: Graph) -> Graph:
        return rewrite(graph, (), share=True)
