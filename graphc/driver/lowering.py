"""From a Graph to generated sources: passes, fusion, code generation, and what they gave for the same graph before.

A warm start imports none of this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from graphc.codegen import cpp as cpp_codegen
from graphc.codegen import triton as triton_codegen
from graphc.driver.options import Options
from graphc.driver.store import collector_rests, remember
from graphc.ir.digest import digest_text
from graphc.ir.graph import Graph, Node
from graphc.ir.program import Program
from graphc.passes.chunk import chunk
from graphc.passes.constants import hoist
from graphc.passes.expand import Expand
from graphc.passes.fusion import FusionOptions, fuse, fuse_lean
from graphc.passes.fusion.within import fuse_within
from graphc.passes.layout import ChooseLayout
from graphc.passes.manager import PassManager, Report, default_pipeline
from graphc.passes.offsets import TAKE_OVER
from graphc.passes.recompute import Budget
from graphc.primitives.verify import verify_graph

_HAS_TEMPLATE: Mapping[str, Callable[[Node], bool]] = {
    "cpu": cpp_codegen.has_template,
    "gpu": triton_codegen.has_template,
    "reference": lambda node: True,
}


@dataclass(frozen=True)
class Stages:
    """What each step before code generation gave, with its seconds."""

    graph: Graph
    optimized: Graph
    report: Report
    program: Program
    seconds: Mapping[str, float]


def lower(graph: Graph, options: Options | None = None, target: str = "cpu") -> Stages:
    """Run the passes and fusion on a graph; what the target has no template for is expanded first."""
    chosen = options or Options()
    start = time.perf_counter()
    layout = ChooseLayout(chosen.layout if chosen.level >= 2 and target == "cpu" else "keep")
    pipeline = (Expand(_HAS_TEMPLATE[target]), *default_pipeline(chosen.level))
    simplified, report = PassManager(pipeline, verify=chosen.verify).run(graph)
    optimized, more = PassManager((layout,), verify=chosen.verify).run(simplified)
    report = Report((*report.runs, *more.runs), report.verified)
    passed = time.perf_counter()
    in_place = chosen.fusion.in_place and chosen.memory in TAKE_OVER
    fusion = replace(chosen.fusion, in_place=in_place)
    prologue, main = hoist(optimized) if chosen.constants and chosen.level else (None, optimized)
    program = _chunked(_fused(main, fusion, chosen, target), chosen)
    program = replace(program, decisions=(*layout.decisions(simplified), *program.decisions))
    if prologue is not None:
        program = replace(program, prologue=fuse(prologue, fusion))
    seconds = {"passes": passed - start, "fusion": time.perf_counter() - passed}
    return Stages(graph, optimized, report, program, seconds)


def _chunked(program: Program, options: Options) -> Program:
    """The program with very large tensors cut by rows, which changes the rounding of sums over rows."""
    return chunk(program, options.chunk_bytes) if options.level >= 2 else program


def _fused(graph: Graph, fusion: FusionOptions, options: Options, target: str) -> Program:
    """The fused program, within the memory budget where there is one, else lean."""
    if options.memory_budget is None:
        lean = options.level >= 2 and options.memory == "optimal"
        return fuse_lean(graph, fusion, options.recompute if lean else 0, options.memory)

    def finish(program: Program) -> Program:
        if target == "reference":
            return program
        return sources_of(_chunked(program, options), target, options).program

    budget = Budget.of(options.memory_budget, options.budget_sizes)
    return fuse_within(graph, fusion, budget, options.memory, finish)


@dataclass(frozen=True)
class Made:
    """A lowered graph and what was generated from it: sources, or nothing for the reference target."""

    stages: Stages
    generated: cpp_codegen.CppProgram | triton_codegen.TritonProgram | None


def generate(graph: Graph, options: Options, kind: str) -> tuple[Made, bool]:
    """Passes, fusion and code generation, or what they gave for the same graph before; True when it was found."""
    if kind == "reference":
        verify_graph(graph)
        return Made(lower(graph, options, kind), None), False

    def make() -> Made:
        verify_graph(graph)
        with collector_rests():
            stages = lower(graph, options, kind)
            return Made(stages, sources_of(stages.program, kind, options))

    machine = repr(cpp_codegen.detect()) if kind == "cpu" else ""
    return remember(f"lowered-{kind}", [digest_text(graph), repr(options), machine], make)


def sources_of(
    program: Program, kind: str, options: Options
) -> cpp_codegen.CppProgram | triton_codegen.TritonProgram:
    """The generated sources of a fused program for the cpu or the gpu."""
    if kind == "gpu":
        return triton_codegen.generate(program)
    program = cpp_codegen.apply_choices(program, cpp_codegen.Choices.parse(options.choices))
    packed = options.constants and options.level > 0
    return cpp_codegen.generate(cpp_codegen.pack_constants(program) if packed else program)
