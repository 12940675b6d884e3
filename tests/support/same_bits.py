"""Two programs of one graph must give the same bits, in a poisoned arena."""

from __future__ import annotations

import torch

from graphc.driver.executable import Executable
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


def same_steps(one: Executable, other: Executable, values: dict[str, torch.Tensor]) -> None:
    """Three training steps from the same states and seed give the same bits, and no NaN."""
    results = []
    for executable in (one, other):
        executable.set_states({name: values[name].clone() for name in executable.states})
        executable.seed(3)
        data = {item.name: values[item.name] for item in executable.data_inputs}
        outputs = [executable.run(**data)["softmax_output"] for _ in range(3)]
        results.append([*outputs, *executable.states.values()])
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second) and not first.isnan().any()
