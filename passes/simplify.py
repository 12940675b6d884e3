"""Algebraic simplification, with folding and sharing of what it makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.ir.graph import Graph
from graphc.passes.rewrite import Rule, rewrite
from graphc.passes.rules import algebra, folding, pooling, reductions, sums, views

RULES: tuple[Rule, ...] = (
    *folding.RULES,
    *algebra.RULES,
    *views.RULES,
    *reductions.RULES,
    *sums.RULES,
    *pooling.RULES,
)


@dataclass(frozen=True, slots=True)
class Simplify:
    """Rewrite a graph to the normal form of all rules in one sweep.

    `strict` uses exact rules only: the same bits for every operand. `share` lets equal nodes, as they arise, be one.
    """

    name: ClassVar[str] = "simplify"
    needs: ClassVar[tuple[str, ...]] = ()
    strict: bool = False
    share: bool = True

    def __call__(self, graph: Graph) -> Graph:
        return rewrite(graph, [rule for rule in RULES if rule.exact or not self.strict], share=self.share)
