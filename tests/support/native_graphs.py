"""Many graphs compiled to one library and run natively, compared with the float64 reference."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from graphc.codegen.cpp import generate
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph
from graphc.ir.program import Buffer, Program, Role, Step
from graphc.passes.plan import plan
from graphc.runtime.cpu import load
from graphc.types import evaluate


def concatenated(programs: list[Program]) -> tuple[Program, list[int]]:
    """One program that runs all, and where the buffers of each begin."""
    buffers: list[Buffer] = []
    kernels, steps, starts = [], [], []
    for number, program in enumerate(programs):
        starts.append(len(buffers))
        buffers += [replace(buffer, name=f"g{number}.{buffer.name}") for buffer in program.buffers]
        steps += [
            Step(
                len(kernels) + step.kernel,
                tuple(starts[-1] + index for index in step.arguments),
                tuple((starts[-1] + index, start) for index, start in step.offsets),
            )
            for step in program.steps
        ]
        kernels += list(program.kernels)
    symbols = tuple(sorted({symbol for program in programs for symbol in program.symbols}))
    joined = replace(
        programs[0], name="many", buffers=tuple(buffers), kernels=tuple(kernels), steps=tuple(steps), inputs=(),
        outputs=(), symbols=symbols,
    )  # fmt: skip
    return joined, starts


class NativeGraphs:
    """Programs of several graphs in one library; intermediates lie in one poisoned arena."""

    def __init__(self, programs: list[Program]) -> None:
        self.programs = programs
        joined, self.starts = concatenated(programs)
        self.generated = generate(joined)
        self.program = self.generated.program
        self.native = load(self.generated)

    def run(
        self, inputs: list[Mapping[str, torch.Tensor]], sizes: Mapping[str, int]
    ) -> list[dict[str, torch.Tensor]]:
        """The outputs and updates of each graph, updates under "update name"."""
        arena_plan = plan(self.program, sizes)
        arena = np.full(arena_plan.size + 64, 0xFF, np.uint8)
        base = -(-arena.ctypes.data // 64) * 64
        tensors: list[torch.Tensor | None] = []
        table = (ctypes.c_void_p * max(1, len(self.program.buffers)))()
        offsets = arena_plan.offsets()
        for index, buffer in enumerate(self.program.buffers):
            if buffer.role in (Role.INTERMEDIATE, Role.WORKSPACE):
                tensors.append(None)
                table[index] = base + offsets.get(index, 0)
                continue
            shape = tuple(evaluate(dim, sizes) for dim in buffer.type.shape)
            count = int(np.prod(shape, dtype=np.int64)) * buffer.type.dtype.itemsize
            tensors.append(
                torch.full((count,), 0xFF, dtype=torch.uint8).view(buffer.type.dtype.torch).view(shape)
            )
        for start, program, given in zip(self.starts, self.programs, inputs, strict=True):
            for name, index in program.inputs:
                held = tensors[start + index]
                assert held is not None
                held.copy_(given[name].reshape(held.shape))
        for index, tensor in enumerate(tensors):
            if tensor is not None:
                table[index] = tensor.data_ptr()
        dims = (ctypes.c_int64 * max(1, len(self.program.symbols)))(*(sizes[s] for s in self.program.symbols))
        self.native.run(table, dims)
        return [
            self._results(start, program, tensors)
            for start, program in zip(self.starts, self.programs, strict=True)
        ]

    def _results(
        self, start: int, program: Program, tensors: list[torch.Tensor | None]
    ) -> dict[str, torch.Tensor]:
        def held(index: int) -> torch.Tensor:
            tensor = tensors[start + index]
            assert tensor is not None
            return tensor

        places = dict(program.inputs)
        results = {name: held(index) for name, index in program.outputs}
        return results | {f"update {u.target}": held(places[u.target]) for u in program.graph.updates}


def compare(
    graph: Graph, inputs: Mapping[str, torch.Tensor], got: Mapping[str, torch.Tensor], label: str
) -> None:
    """Results against float64; `label` names the graph in messages."""
    reference = run_reference(graph, inputs)
    expected = reference.outputs | {f"update {name}": value for name, value in reference.updates.items()}
    for name, want in expected.items():
        have = got[name].reshape(want.shape)
        half = have.dtype in (torch.float16, torch.bfloat16)
        tolerance = 2e-2 if half else 2e-3
        torch.testing.assert_close(
            have.double() if have.dtype.is_floating_point else have,
            want.double() if have.dtype.is_floating_point else want.to(have.dtype),
            rtol=tolerance,
            atol=tolerance,
            equal_nan=True,
            msg=lambda text: f"{label}, {name}: {text}",  # noqa: B023
        )
