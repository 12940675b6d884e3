"""Fuse a graph to a program that stays within a memory budget: kernels run again rather than keep their results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from graphc.diagnostics import GraphcError, fail
from graphc.ir.graph import Graph
from graphc.ir.program import Program, Role
from graphc.passes.fusion.fuse import fuse_again
from graphc.passes.limits import FusionOptions
from graphc.passes.plan import buffer_nbytes, plan
from graphc.passes.recompute import Budget, Found, Search

HELD = (Role.STATE, Role.CONSTANT, Role.OUTPUT)
"""Memory that a budget counts besides the arena; inputs are the caller's."""

_ATTEMPTS = 4


def fuse_within(
    graph: Graph,
    options: FusionOptions,
    budget: Budget,
    strategy: str = "optimal",
    finish: Callable[[Program], Program] = lambda program: program,
) -> Program:
    """The graph's fused program, some of its kernels launched again where the budget asks for it.

    The kernels are those of `fuse`: each result has the same bits. strategy: how the arena is planned. finish: what
    code generation adds to a program, workspaces of its templates, which count. Errors: G609 when the budget cannot
    be met, with the lowest that can; G602 when the size of a symbolic dimension is missing from the budget.
    """
    missing = [name for name in graph.symbols if name not in budget.sizes]
    if missing:
        raise fail(
            "G602",
            f"a memory budget for {graph.name} needs sizes of {', '.join(missing)}",
            help="Options(memory_budget=..., budget_sizes={"
            + ", ".join(f"{name!r}: 64" for name in missing)
            + "}); on the command line --size",
        )
    return _Within(graph, options, budget, strategy, finish).run()


class _Within:
    def __init__(
        self,
        graph: Graph,
        options: FusionOptions,
        budget: Budget,
        strategy: str,
        finish: Callable[[Program], Program],
    ) -> None:
        self.budget = budget
        self.strategy = strategy
        self.finish = finish
        self.plain, self.repeaters = fuse_again(graph, options, budget.sizes)
        finished, sizes = finish(self.plain), dict(budget.sizes)
        self.plain_size = self.arena(finished)
        self.held = sum(buffer_nbytes(b, sizes) for b in finished.buffers if b.role in HELD)
        self.limit = budget.arena(self.plain_size, self.held)

    def arena(self, program: Program) -> int:
        return plan(program, self.budget.sizes, self.strategy).size

    def run(self) -> Program:
        if self.plain_size <= self.limit:
            return self.plain
        search = Search([
            (repeater.schedule(), partial(repeater.measure, strategy=self.strategy))
            for repeater in self.repeaters
        ])  # fmt: skip
        added = self.plain_size - self.arena(self.plain)
        for _ in range(_ATTEMPTS):
            found = search.best(self.limit - added)
            program = self.bound(found)
            size = self.arena(self.finish(program))
            if size <= self.limit:
                return program
            if found == search.least:
                raise self.unattainable(size)
            # Code generation adds more to this program than to the one before.
            added = max(added + 1, size - found.planned)
        program = self.bound(search.least)
        size = self.arena(self.finish(program))
        if size > self.limit:
            raise self.unattainable(size)
        return program

    def bound(self, found: Found) -> Program:
        """The program of an arrangement."""
        repeater, arrangement = self.repeaters[found.alternative], found.arrangement
        again = repeater.report(arrangement, self.plain_size)
        return replace(repeater.program(arrangement), recomputed=again)

    def unattainable(self, arena: int) -> GraphcError:
        """What cannot be met, and the lowest budget that can."""
        parts = f"{arena:,} bytes of intermediates"
        if self.budget.fraction:
            asked = f"{self.budget.fraction:g} of the plain plan's {self.plain_size:,} bytes"
            lowest = f"{self.lowest_fraction(arena):.4f}"
        else:
            asked = f"{self.budget.nbytes:,} bytes"
            lowest = f"{arena + self.held:,} bytes"
            parts += f" and {self.held:,} of parameters, states and outputs"
        return fail(
            "G609",
            f"the memory budget of {asked} cannot be met; the lowest that can is {lowest}: {parts}",
            name=self.plain.name,
            help="give a larger budget or smaller inputs; graphc dump --stage plan lists what is live at the peak",
        )

    def lowest_fraction(self, arena: int) -> float:
        """The least fraction in ten-thousandths that allows the arena."""
        parts = arena * 10_000 // max(self.plain_size, 1)
        while int(parts / 10_000 * self.plain_size) < arena:
            parts += 1
        return parts / 10_000
