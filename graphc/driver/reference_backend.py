"""The reference backend: each primitive through torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from graphc.driver.backend import Backend
from graphc.driver.interface import Bindings
from graphc.driver.reference import run_reference
from graphc.ir.program import Plan, Program, Role
from graphc.passes.plan import plan as make_plan
from graphc.types import TensorType


class ReferenceBackend:
    """Each primitive through torch, in the graph's own dtypes: the fallback where no C++ compiler is found."""

    name = "reference"

    def __init__(self, program: Program, memory: str = "optimal") -> None:
        self.program = program
        # The graph itself runs, and reads what fused kernels would not.
        every = frozenset(index for _, index in program.inputs)
        self.bindings = replace(Bindings.of(program), touched=every)
        self._memory = memory
        prologue = program.prologue
        self.prologue: Backend | None = ReferenceBackend(prologue, memory) if prologue else None
        self.sources: dict[str, str] = {}
        self.source_paths: tuple[str, ...] = ()
        self.device = torch.device("cpu")

    def plan(self, sizes: Mapping[str, int]) -> Plan:
        return make_plan(self.program, sizes, self._memory)

    def frame(self, sizes: Mapping[str, int]) -> ReferenceFrame:
        return ReferenceFrame(self, sizes)

    def output(self, type: TensorType, sizes: Mapping[str, int]) -> torch.Tensor:
        return torch.empty(type.concrete_shape(sizes), dtype=type.dtype.torch)

    def together(self, types: Sequence[TensorType]) -> list[torch.Tensor]:
        return [self.output(type, {}) for type in types]

    def state(self, type: TensorType) -> torch.Tensor:
        return torch.zeros(type.concrete_shape({}), dtype=type.dtype.torch)


class ReferenceFrame:
    """Runs the graph itself and copies results into the bound tensors."""

    def __init__(self, backend: ReferenceBackend, sizes: Mapping[str, int]) -> None:
        self._backend, self._program, self._sizes = backend, backend.program, sizes
        self.constants: Mapping[str, torch.Tensor] | None = None
        self._bound: dict[int, torch.Tensor] = {}

    def bind(self, buffer: int, tensor: torch.Tensor) -> None:
        self._bound[buffer] = tensor

    def bind_states(self, buffers: Sequence[int], tensors: Sequence[torch.Tensor]) -> None:
        self._bound.update(zip(buffers, tensors, strict=True))

    def output(self, buffer: int) -> torch.Tensor:
        return self._backend.output(self._program.buffers[buffer].type, self._sizes)

    def run(self) -> None:
        index_of = dict(self._program.inputs)
        result = run_reference(
            self._program.graph, {name: self._bound[index] for name, index in index_of.items()}, dtype=None
        )
        for name, index in self._program.outputs:
            if self._program.buffers[index].role is Role.OUTPUT:
                self._bound[index].copy_(result.outputs[name])
        for name, value in result.updates.items():
            self._bound[index_of[name]].copy_(value)
