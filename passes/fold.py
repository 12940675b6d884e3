"""Constant folding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.ir.graph import Graph
from graphc.passes.rewrite import rewrite
from graphc.passes.rules import folding


@dataclass(frozen=True, slots=True)
class Fold:
    """Replace what is computed from constants alone by constants; `strict` keeps reductions of constants."""

    name: ClassVar[str] = "fold"
    needs: ClassVar[tuple[str, ...]] = ()
    strict: bool = False

    def __call__(self, graph: Graph) -> Graph:
        return rewrite(graph, [rule for rule in folding.RULES if rule.exact or not self.strict])
