"""compile: from a Symbol or a Graph to an Executable, every stage kept for inspection.

stages = lower(graph)             # passes and fusion only: nothing is generated or built
executable = compile(graph)       # and generated, built (or found in the cache) and loaded
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from graphc.diagnostics import fail
from graphc.driver import start
from graphc.driver.backend import Backend
from graphc.driver.cpu_backend import CpuBackend
from graphc.driver.executable import Executable
from graphc.driver.interface import Interface
from graphc.driver.options import Options
from graphc.driver.start import Declared, as_graph, declared
from graphc.ir.graph import Graph
from graphc.ir.program import Program
from graphc.primitives.verify import verify_graph
from graphc.runtime.context import Context
from graphc.symbol import Symbol

if TYPE_CHECKING:
    from graphc.driver.lowering import Stages

__all__ = ["TARGETS", "Options", "as_graph", "compile", "lower", "make_backend", "synthetic_inputs"]

TARGETS = ("cpu", "gpu", "reference")


def lower(graph: Graph, options: Options | None = None, target: str = "cpu") -> Stages:
    """Run the passes and fusion on a graph; what the target has no template for is expanded first."""
    from graphc.driver import lowering

    return lowering.lower(graph, options, target)


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
    executable = compile_declared(
        declared(model, shapes, dtypes, is_train),
        target=target,
        memory_budget=memory_budget,
        options=options,
        choices=choices,
        tune=tune,
        tune_sizes=tune_sizes,
    )
    if parameters:
        executable.set_states(parameters)
    return executable


def compile_declared(
    model: Declared,
    *,
    target: str | Context | None = None,
    memory_budget: str | int | float | None = None,
    options: Options | None = None,
    choices: str | Path | None = None,
    tune: str | float | None = None,
    tune_sizes: Mapping[str, int] | None = None,
) -> Executable:
    """The executable of a declared model, found as it was compiled before or compiled; see `compile`."""
    begin = time.perf_counter()
    kind, context = _resolve(target)
    chosen = options or Options()
    if memory_budget is not None:
        chosen = replace(chosen, memory_budget=memory_budget)
    if choices is not None or tune is not None:
        text = _choices(model.graph, chosen, kind, choices, tune, tune_sizes or {})
        chosen = replace(chosen, choices=text)
    tuned = time.perf_counter()
    found = start.find(model, chosen) if kind == "cpu" else None
    if found is None:
        executable = _compiled(model, chosen, kind, context)
    else:
        executable = Executable(found.interface, found.graphs, found.backend)
    spent = {"total": time.perf_counter() - begin}
    executable.build_report |= spent if tune is None else {"tune": tuned - begin, **spent}
    return executable


def _compiled(model: Declared, options: Options, kind: str, context: Context) -> Executable:
    """Trace, lower, generate, build and load; and let the next process find it."""
    started = time.perf_counter()
    graph = model.graph()
    traced = time.perf_counter()
    from graphc.driver.loading import load
    from graphc.driver.lowering import generate

    imported = time.perf_counter()
    made, known = generate(graph, options, kind)
    generated = time.perf_counter()
    backend = load(made, context, options.memory)
    executable = Executable.of(graph, made.stages.optimized, backend)
    executable.build_report |= {
        "trace": traced - started,
        **({} if known else made.stages.seconds),
        "generate": generated - imported - (0.0 if known else sum(made.stages.seconds.values())),
        "build": time.perf_counter() - generated,
    }
    if isinstance(backend, CpuBackend):
        start.remember(model, options, Interface.of(graph, made.stages.optimized), backend.start)
    return executable


def _choices(
    graph: Callable[[], Graph],
    options: Options,
    kind: str,
    path: str | Path | None,
    budget: str | float | None,
    sizes: Mapping[str, int],
) -> str:
    """The text of the choices to follow: the file's, and those that tuning adds to them."""
    from graphc.codegen.cpp import NO_CHOICES
    from graphc.driver import tuning

    if kind != "cpu":
        raise fail("G507", f"choices are of generated C++; the target is {kind}", help='target="cpu"')
    known = tuning.read_choices(path, missing_ok=budget is not None) if path is not None else NO_CHOICES
    if budget is None:
        return str(known)
    seconds = tuning.budget_seconds(budget)
    wanted = graph()
    missing = [name for name in wanted.symbols if name not in sizes]
    if missing:
        raise fail(
            "G602", f"tuning {wanted.name} needs sizes of {', '.join(missing)}", help="tune_sizes={'N': 64}"
        )
    verify_graph(wanted)
    found = str(tuning.tune(lower(wanted, options).program, sizes, seconds, known))
    if path is not None:
        tuning.write_choices(path, found)
    return found


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


def make_backend(program: Program, target: str | Context | None = None) -> Backend:
    """Generate, build and load a Program for a target; see `compile`."""
    from graphc.driver.loading import backend_of

    return backend_of(program, *_resolve(target))


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
