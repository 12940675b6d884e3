"""Two programs of one graph must give the same bits, in a poisoned arena."""

from __future__ import annotations

import torch

from graphc.driver.kernel_interpreter import ProgramResult, run_program
from graphc.ir.program import Program
from graphc.passes.plan import plan
from support.fusion_checks import sizes_of


def run(program: Program, inputs: dict[str, torch.Tensor]) -> ProgramResult:
    """Run in the declared types and the planned arena, which is NaN wherever nothing lives."""
    made = plan(program, sizes_of(program.graph, inputs))
    return run_program(program, inputs, dtype=None, plan=made)


def same_bits(one: ProgramResult, other: ProgramResult) -> None:
    for name, value in [*one.outputs.items(), *one.updates.items()]:
        found = other.outputs[name] if name in one.outputs else other.updates[name]
        assert torch.equal(value.view(-1).contiguous().view(torch.uint8), found.view(-1).view(torch.uint8)), (
            name
        )
