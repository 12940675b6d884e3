"""The GPU backend: generated Triton kernels, launched on the current stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from graphc.codegen import triton as triton_codegen
from graphc.driver.backend import Backend, element_count, out_of_memory
from graphc.driver.interface import Bindings
from graphc.ir.program import Plan
from graphc.passes.plan import plan as make_plan
from graphc.runtime import gpu as gpu_runtime
from graphc.types import TensorType


class GpuBackend:
    """Generated Triton kernels, launched on the current stream over tensors in one arena."""

    name = "gpu"

    def __init__(
        self, generated: triton_codegen.TritonProgram, device: torch.device, memory: str = "optimal"
    ) -> None:
        self.program = generated.program
        self.bindings = Bindings.of(self.program)
        self._memory = memory
        prologue = generated.prologue
        self.prologue: Backend | None = GpuBackend(prologue, device, memory) if prologue else None
        self.sources = {f"{generated.name}.py": generated.source}
        self.native = gpu_runtime.load(generated)
        self.source_paths = (str(self.native.path),)
        self.device = device

    def plan(self, sizes: Mapping[str, int]) -> Plan:
        return make_plan(self.program, sizes, self._memory)

    def frame(self, sizes: Mapping[str, int]) -> GpuFrame:
        return GpuFrame(self, sizes)

    def output(self, type: TensorType, sizes: Mapping[str, int]) -> torch.Tensor:
        return torch.empty(type.concrete_shape(sizes), dtype=type.dtype.torch, device=self.device)

    def together(self, types: Sequence[TensorType]) -> list[torch.Tensor]:
        return [self.output(type, {}) for type in types]

    def state(self, type: TensorType) -> torch.Tensor:
        return torch.zeros(type.concrete_shape({}), dtype=type.dtype.torch, device=self.device)


class GpuFrame:
    """An arena tensor and one flat tensor a buffer."""

    def __init__(self, backend: GpuBackend, sizes: Mapping[str, int]) -> None:
        program = backend.program
        self._native = backend.native
        plan = backend.plan(sizes)
        try:
            arena = torch.empty(max(plan.size, 1), dtype=torch.uint8, device=backend.device)
        except RuntimeError as error:
            raise out_of_memory(program, plan, error) from error
        self.constants: Mapping[str, torch.Tensor] | None = None
        empty = torch.empty(0, dtype=torch.uint8, device=backend.device)
        self._tensors = [empty] * len(program.buffers)
        for index, offset in plan.offsets().items():
            type = program.buffers[index].type
            count = element_count(type.concrete_shape(sizes))
            block = arena[offset : offset + count * type.dtype.itemsize]
            self._tensors[index] = block.view(type.dtype.torch)
        self._sizes = [sizes[name] for name in program.symbols]
        self._backend, self._named_sizes = backend, sizes

    def bind(self, buffer: int, tensor: torch.Tensor) -> None:
        self._tensors[buffer] = tensor.view(-1)

    def bind_states(self, buffers: Sequence[int], tensors: Sequence[torch.Tensor]) -> None:
        for buffer, tensor in zip(buffers, tensors, strict=True):
            self.bind(buffer, tensor)

    def output(self, buffer: int) -> torch.Tensor:
        return self._backend.output(self._backend.program.buffers[buffer].type, self._named_sizes)

    def run(self) -> None:
        self._native.run(self._tensors, self._sizes)
