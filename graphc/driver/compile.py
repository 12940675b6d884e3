"""compile: from a Symbol or a Graph to an Executable, every stage kept for inspection.

stages = lower(graph)             # passes and fusion only: nothing is generated or built
executable = compile(graph)       # and generated, built (or found in the cache) and loaded
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from graphc.codegen import cpp as cpp_codegen
from graphc.codegen import triton as triton_codegen
from graphc.diagnostics import ToolchainError, fail
from graphc.driver import tuning
from graphc.driver.backend import Backend, CpuBackend, GpuBackend, ReferenceBackend
from graphc.driver.executable import Executable
from graphc.driver.store import collector_rests, remember
from graphc.ir.digest import digest_text
from graphc.ir.graph import Graph, Node
from graphc.ir.program import Program
from graphc.passes.chunk import CHUNK_BYTES, chunk
from graphc.passes.constants import hoist
from graphc.passes.expand import Expand
from graphc.passes.fusion import FusionOptions, fuse, fuse_lean
from graphc.passes.fusion.within import fuse_within
from graphc.passes.layout import ChooseLayout, check_layout
from graphc.passes.manager import PassManager, Report, default_pipeline
from graphc.passes.offsets import TAKE_OVER
from graphc.passes.plan import check_strategy
from graphc.passes.recompute import Budget
from graphc.primitives.verify import verify_graph
from graphc.runtime.context import Context
from graphc.symbol import Symbol
from graphc.symbol.trace import trace

TARGETS = ("cpu", "gpu", "reference")
_HAS_TEMPLATE: Mapping[str, Callable[[Node], bool]] = {
    "cpu": cpp_codegen.has_template,
    "gpu": triton_codegen.has_template,
    "reference": lambda node: True,
}


@dataclass(frozen=True)
class Options:
    """How to compile: `level` 0 runs only the passes that lowering needs; `fusion` as in passes.fusion.

    memory: how intermediates share memory, a strategy of passes/offsets.py; G101 for one that there is not.
    chunk_bytes: at level 2, tensors of more than twice that are not stored whole where their rows can be worked on
        part by part (passes/chunk); 0 for never.
    constants: what follows from parameters alone is computed once, when they change, and held between calls.
    memory_budget: the most bytes that parameters, states, outputs and the arena may take together ("2GB"), or a
        fraction of the arena of the plain plan (0.25); kernels of the forward pass then run again in the backward pass
        rather than keep their results. G608 for what is no budget. budget_sizes: of the named dimensions, for which
        the budget holds.
    recompute: without a budget, kernels of a training step that only memory bounds (no contraction) run again in the
        backward pass where that lowers a large peak; the most that they may add to the step's estimated time, as a
        share of it, 0 for never. Results keep their bits.
    choices: the text of a file of choices (codegen/cpp/choices.py), pinned over what the cost models choose.
    layout: how images lie in memory inside a program for the CPU (passes/layout): "auto" chooses for each region of
        convolutions, "keep" leaves [N,C,...], "channels_last" moves all of them to [N,...,C]. Level 2 only.
    """

    level: int = 2
    fusion: FusionOptions = field(default_factory=FusionOptions)
    verify: bool | str = "auto"
    memory: str = "optimal"
    chunk_bytes: int = CHUNK_BYTES
    constants: bool = True
    memory_budget: str | int | float | None = None
    budget_sizes: Mapping[str, int] = field(default_factory=dict)
    recompute: float = 0.02
    choices: str = ""
    layout: str = "auto"

    def __post_init__(self) -> None:
        check_strategy(self.memory)
        check_layout(self.layout)
        if self.memory_budget is not None:
            Budget.of(self.memory_budget)


@dataclass(frozen=True)
class Stages:
    """What each step before code generation gave, with its seconds."""

    graph: Graph
    optimized: Graph
    report: Report
    program: Program
    seconds: Mapping[str, float]


def as_graph(
    model: Symbol | Graph,
    shapes: Mapping[str, Any] | None = None,
    dtypes: Mapping[str, Any] | None = None,
    is_train: bool = False,
    verify: bool = True,
) -> Graph:
    """The Graph of a model: a Symbol is traced with these shapes, a Graph is verified and taken as it is."""
    if isinstance(model, Symbol):
        return trace(model, shapes or {}, dtypes, is_train)
    if not isinstance(model, Graph):
        raise fail("G105", f"compile takes a Symbol or a Graph, not {type(model).__name__}")
    if shapes or dtypes:
        raise fail("G105", "a Graph has its shapes and types; leave shapes= and dtypes= out")
    if verify:
        verify_graph(model)
    return model


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
        return _sources(_chunked(program, options), target, options).program

    budget = Budget.of(options.memory_budget, options.budget_sizes)
    return fuse_within(graph, fusion, budget, options.memory, finish)


def compile(
    model: Symbol | Graph,
    *,
    shapes: Mapping[str, Any] | None = None,
    dtypes: Mapping[str, Any] | None = None,
    is_train: bool = False,
    target: str | Context | None = None,
    parameters: Mapping[str, Any] | None = None,
    memory_budget: str | int | float | None = None,
    options: Options | None = None,
    choices: str | Path | None = None,
    tune: str | float | None = None,
    tune_sizes: Mapping[str, int] | None = None,
) -> Executable:
    """Compile a model to a callable.

    shapes: shape of each data input of a Symbol; names in it are symbolic dimensions, ("N", 784) runs for any N from 1.
    target: "cpu" (generated C++), "gpu" (generated Triton), "reference" (torch), or a Context; by default the
        current context. parameters: values of parameters and states, checked and copied in.
    memory_budget: "2GB", bytes, or a fraction of the plain plan's arena; see Options.
    choices: a file of choices of code generation to follow (CPU); the same file gives the same code and bits.
    tune: time to measure alternatives for, "30s" or seconds; what is found is followed, and written to `choices`.
    tune_sizes: sizes of the named dimensions to measure with.
    Raises GraphcError for a wrong model; ToolchainError when the compiler fails. Where no C++ compiler is found the
    reference backend takes over with a RuntimeWarning.
    """
    start = time.perf_counter()
    # A graph that was compiled before was verified before.
    graph = as_graph(model, shapes, dtypes, is_train, verify=False)
    traced = time.perf_counter()
    kind, context = _resolve(target)
    chosen = options or Options()
    if memory_budget is not None:
        chosen = replace(chosen, memory_budget=memory_budget)
    if choices is not None or tune is not None:
        chosen = replace(chosen, choices=_choices(graph, chosen, kind, choices, tune, tune_sizes or {}))
    started = time.perf_counter()
    made, found = _generate(graph, chosen, kind)
    generated = time.perf_counter()
    backend = _load(made, kind, context, chosen.memory)
    report = {
        "trace": traced - start,
        **({} if found else made.stages.seconds),
        **({"tune": started - traced} if tune is not None else {}),
        "generate": generated - started - (0.0 if found else sum(made.stages.seconds.values())),
        "build": time.perf_counter() - generated,
        "total": time.perf_counter() - start,
    }
    executable = Executable(graph, made.stages.optimized, backend, report)
    if parameters:
        executable.set_states(parameters)
    return executable


def _choices(
    graph: Graph,
    options: Options,
    kind: str,
    path: str | Path | None,
    budget: str | float | None,
    sizes: Mapping[str, int],
) -> str:
    """The text of the choices to follow: the file's, and those that tuning adds to them."""
    if kind != "cpu":
        raise fail("G507", f"choices are of generated C++; the target is {kind}", help='target="cpu"')
    known = (
        tuning.read_choices(path, missing_ok=budget is not None)
        if path is not None
        else cpp_codegen.NO_CHOICES
    )
    if budget is None:
        return str(known)
    seconds = tuning.budget_seconds(budget)
    missing = [name for name in graph.symbols if name not in sizes]
    if missing:
        raise fail(
            "G602", f"tuning {graph.name} needs sizes of {', '.join(missing)}", help="tune_sizes={'N': 64}"
        )
    verify_graph(graph)
    found = str(tuning.tune(lower(graph, options).program, sizes, seconds, known))
    if path is not None:
        tuning.write_choices(path, found)
    return found


@dataclass(frozen=True)
class _Made:
    """A lowered graph and what was generated from it; nothing for the reference target."""

    stages: Stages
    generated: cpp_codegen.CppProgram | triton_codegen.TritonProgram | None


def _generate(graph: Graph, options: Options, kind: str) -> tuple[_Made, bool]:
    """Passes, fusion and code generation, or what they gave for the same graph before; True when it was found."""
    if kind == "reference":
        verify_graph(graph)
        return _Made(lower(graph, options, kind), None), False

    def make() -> _Made:
        verify_graph(graph)
        with collector_rests():
            stages = lower(graph, options, kind)
            return _Made(stages, _sources(stages.program, kind, options))

    machine = repr(cpp_codegen.detect()) if kind == "cpu" else ""
    return remember(f"lowered-{kind}", [digest_text(graph), repr(options), machine], make)


def _sources(
    program: Program, kind: str, options: Options
) -> cpp_codegen.CppProgram | triton_codegen.TritonProgram:
    if kind == "gpu":
        return triton_codegen.generate(program)
    program = cpp_codegen.apply_choices(program, cpp_codegen.Choices.parse(options.choices))
    packed = options.constants and options.level > 0
    return cpp_codegen.generate(cpp_codegen.pack_constants(program) if packed else program)


def _resolve(target: str | Context | None) -> tuple[str, Context]:
    """(cpu, gpu or reference; the context), errors for what is no target or not there."""
    if target == "reference":
        return "reference", Context("cpu")
    if isinstance(target, str) and target.partition(":")[0] not in ("cpu", "gpu", "cuda"):
        raise fail("G506", f"there is no target {target!r}", help=f"use {', '.join(TARGETS)} or a context")
    context = Context.of(target)
    # A device that is missing is reported before anything is built for it.
    _ = context.torch_device
    return context.device_type, context


def _load(made: _Made, kind: str, context: Context, memory: str) -> Backend:
    match made.generated:
        case None:
            return ReferenceBackend(made.stages.program, memory)
        case triton_codegen.TritonProgram() as module:
            return GpuBackend(module, context.torch_device, memory)
        case cpp_codegen.CppProgram() as sources:
            try:
                return CpuBackend(sources, memory)
            except ToolchainError as error:
                if error.diagnostic.code != "G501":
                    raise
                warnings.warn(
                    f"{error.diagnostic.message}; running on the slow reference backend (see graphc doctor)",
                    RuntimeWarning,
                    stacklevel=3,
                )
                return ReferenceBackend(made.stages.program, memory)


def make_backend(program: Program, target: str | Context | None = None) -> Backend:
    """Generate, build and load a Program for a target; see `compile`."""
    kind, context = _resolve(target)
    if kind == "reference":
        return ReferenceBackend(program)
    return (
        CpuBackend(cpp_codegen.generate(program))
        if kind == "cpu"
        else GpuBackend(triton_codegen.generate(program), context.torch_device)
    )


def synthetic_inputs(
    executable: Executable, sizes: Mapping[str, int], seed: int = 0
) -> dict[str, torch.Tensor]:
    """Random data inputs of the right types: floats from a standard normal, integers 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {}
    for item in executable.data_inputs:
        type = item.value.type
        shape = type.concrete_shape(sizes)
        if type.dtype.is_float:
            tensor = torch.randn(shape, generator=generator).to(type.dtype.torch)
        else:
            tensor = torch.randint(0, 2, shape, generator=generator).to(type.dtype.torch)
        inputs[item.name] = tensor.to(executable.backend.device)
    return inputs
