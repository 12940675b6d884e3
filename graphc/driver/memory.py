"""memory: what a model will take, by category, before anything is compiled or run.

    report = graphc.memory(net, shapes={"data": (64, 784)}, is_train=True)
    report["total"], report["categories"]["activations"], report["peak"]["live"]

The same as `Executable.memory()` and `graphc dump --stage plan`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphc.codegen import cpp, triton
from graphc.diagnostics import fail
from graphc.driver.compile import TARGETS, Options, as_graph, lower
from graphc.ir.graph import Graph
from graphc.ir.program import Program
from graphc.passes.memory import memory_report
from graphc.passes.plan import plan
from graphc.symbol import Symbol


def memory(
    model: Symbol | Graph,
    *,
    shapes: Mapping[str, Any] | None = None,
    dtypes: Mapping[str, Any] | None = None,
    is_train: bool = False,
    target: str = "cpu",
    options: Options | None = None,
    sizes: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Bytes by category, the arena beside its bounds, and the tensors live at the peak with the user's lines.

    sizes: of the named dimensions, G602 when one is missing; the rest as in `compile`. Pass the graph of
    `graphc.training.training_graph` for a whole training step. No compiler is called, no memory is taken. JSON-ready.
    """
    if target not in TARGETS:
        raise fail("G506", f"there is no target {target!r}", help=f"use {', '.join(TARGETS)}")
    chosen = options or Options()
    stages = lower(as_graph(model, shapes, dtypes, is_train), chosen, target)
    program = with_workspace(stages.program, target, chosen.constants and chosen.level > 0)
    return memory_report(program, plan(program, sizes, chosen.memory))


def with_workspace(program: Program, target: str, constants: bool = True) -> Program:
    """The program as it runs on a target: code generators add buffers of their own."""
    if target == "reference":
        return program
    if target == "gpu":
        return triton.generate(program).program
    return cpp.generate(cpp.pack_constants(program) if constants else program).program
