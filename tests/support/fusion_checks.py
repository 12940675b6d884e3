"""Checks that tests of fusion share: a program against the float64 reference, in a poisoned arena."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from graphc.driver.kernel_interpreter import run_program
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph
from graphc.ir.kernel_verify import verify_kernel
from graphc.ir.program import Plan, Program
from graphc.ir.sizes import bind_sizes
from graphc.passes.plan import plan
from support.graphs import random_inputs


def sizes_of(graph: Graph, inputs: Mapping[str, torch.Tensor]) -> dict[str, int]:
    return bind_sizes([item.value for item in graph.inputs], {n: tuple(t.shape) for n, t in inputs.items()})


def check_program(
    graph: Graph, program: Program, seed: int = 0, sizes: Mapping[str, int] | None = None
) -> Plan:
    """Every kernel is valid; run in the planned, poisoned arena, the program agrees with the reference in float64."""
    for kernel in program.kernels:
        verify_kernel(kernel)
    inputs = random_inputs(graph, seed, sizes)
    made = plan(program, sizes_of(graph, inputs))
    assert made.lower_bound <= made.size <= made.naive
    expected = run_reference(graph, inputs)
    got = run_program(program, inputs, plan=made)
    assert got.outputs.keys() == expected.outputs.keys()
    assert got.updates.keys() == expected.updates.keys()
    pairs = [(name, got.outputs[name], value) for name, value in expected.outputs.items()]
    pairs += [(f"{name}=", got.updates[name], value) for name, value in expected.updates.items()]
    for name, found, value in pairs:
        assert found.shape == value.shape, name
        torch.testing.assert_close(
            found.double(),
            value.double(),
            rtol=1e-9,
            atol=1e-9,
            equal_nan=True,
            msg=lambda text, name=name: f"{name}: {text}",
        )
    return made
