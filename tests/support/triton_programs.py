"""Generated Triton programs, run in the interpreter (or on a GPU) on arrays and on graphs' inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch

from graphc.codegen.triton import GpuTarget, TritonProgram, generate
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph
from graphc.ir.kernel import Access
from graphc.ir.program import Program
from graphc.types import evaluate
from support.native_graphs import concatenated
from support.native_programs import Arrays, poison, random_array

Runner: TypeAlias = "Callable[[TritonProgram, Sequence[torch.Tensor], Sequence[int]], list[torch.Tensor]]"
"""(program, one flat tensor a buffer, sizes) to the tensors after the run."""


class Kernels:
    """A program on numpy arrays by buffer name."""

    def __init__(self, program: Program, runner: Runner, target: GpuTarget | None = None) -> None:
        self.runner = runner
        self.generated = generate(program, target)
        self.program = self.generated.program

    def inputs(self, seed: int = 0, **sizes: int) -> Arrays:
        """Random arrays for every buffer that is read."""
        generator = np.random.default_rng(seed)
        read = {
            index
            for step in self.program.steps
            for p, index in zip(self.program.kernels[step.kernel].parameters, step.arguments, strict=True)
            if p.access is not Access.OUT
        }
        return {
            b.name: random_array(generator, tuple(evaluate(d, sizes) for d in b.type.shape), b.type.dtype)
            for index, b in enumerate(self.program.buffers)
            if index in read and b.role.value != "workspace"
        }

    def run(self, arrays: Mapping[str, np.ndarray], **sizes: int) -> Arrays:
        """The arrays after a run; those that are missing begin as poison."""
        tensors, shapes = [], []
        for b in self.program.buffers:
            shape = tuple(evaluate(d, sizes) for d in b.type.shape)
            array = arrays.get(b.name)
            if array is None:
                array = poison(shape, torch.empty(0, dtype=b.type.dtype.torch).numpy().dtype)
            tensors.append(torch.from_numpy(array.reshape(-1).copy()))
            shapes.append(shape)
        results = self.runner(self.generated, tensors, [sizes[name] for name in self.program.symbols])
        return {
            b.name: tensor.cpu().numpy().reshape(shape)
            for b, tensor, shape in zip(self.program.buffers, results, shapes, strict=True)
        }


def run_graphs(
    programs: Sequence[Program],
    inputs: Sequence[Mapping[str, torch.Tensor]],
    sizes: Mapping[str, int],
    runner: Runner,
) -> list[dict[str, torch.Tensor]]:
    """The outputs and updates of each program, updates under "update name"; all run as one module."""
    joined, starts = concatenated(list(programs))
    generated = generate(joined)
    tensors = []
    for b in generated.buffers:
        count, dtype = evaluate(b.type.size, sizes), b.type.dtype
        tensors.append(torch.full((count * dtype.itemsize,), 0xFF, dtype=torch.uint8).view(dtype.torch))
    for start, program, given in zip(starts, programs, inputs, strict=True):
        for name, index in program.inputs:
            tensors[start + index] = given[name].reshape(-1).clone()
    after = runner(generated, tensors, [sizes[name] for name in generated.symbols])
    results = []
    for start, program in zip(starts, programs, strict=True):
        places = dict(program.inputs)
        outputs = {name: after[start + index] for name, index in program.outputs}
        updates = {f"update {u.target}": after[start + places[u.target]] for u in program.graph.updates}
        results.append(outputs | updates)
    return results


def assert_matches_reference(
    graph: Graph,
    inputs: Mapping[str, torch.Tensor],
    got: Mapping[str, torch.Tensor],
    label: str,
    tolerance: float = 3e-4,
) -> None:
    """Results against float64."""
    reference = run_reference(graph, inputs)
    expected = reference.outputs | {f"update {name}": value for name, value in reference.updates.items()}
    for name, want in expected.items():
        have = got[name].cpu().reshape(want.shape)
        floating = have.dtype.is_floating_point
        limit = 2e-2 if have.dtype in (torch.float16, torch.bfloat16) else tolerance
        torch.testing.assert_close(
            have.double() if floating else have,
            want.double() if floating else want.to(have.dtype),
            rtol=limit,
            atol=limit,
            equal_nan=True,
            msg=lambda text, name=name: f"{label}, {name}: {text}",
        )


def on_gpu(
    program: TritonProgram, tensors: Sequence[torch.Tensor], sizes: Sequence[int]
) -> list[torch.Tensor]:
    """The runner for a real device."""
    from graphc.runtime.gpu import load

    moved = [tensor.cuda() for tensor in tensors]
    load(program).run(moved, sizes)
    torch.cuda.synchronize()
    return moved
