"""Backends: what turns a Program into something that runs. One protocol; CPU, GPU and reference implementations.

A backend makes frames. A frame is one call in flight: its own arena and a table of buffer addresses, so two threads
may run one executable at once. Frames are kept and reused, so a steady call allocates nothing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

import torch

from graphc.codegen import cpp as cpp_codegen
from graphc.codegen import triton as triton_codegen
from graphc.diagnostics import Diagnostic, GraphcError
from graphc.driver.reference import run_reference
from graphc.ir.program import Plan, Program, Role
from graphc.passes.plan import plan as make_plan
from graphc.runtime import cpu as cpu_runtime
from graphc.runtime import gpu as gpu_runtime
from graphc.runtime.memory import OutputPool, allocate
from graphc.types import TensorType

_ARENA_ROLES = (Role.INTERMEDIATE, Role.WORKSPACE)
SMALL_OUTPUT = 16 << 10
"""Bytes below which malloc reuses a block without a page fault."""


class Frame(Protocol):
    """One call in flight for given sizes of the symbolic dimensions."""

    constants: Mapping[str, torch.Tensor] | None
    """Those that are bound, if they last; None at first."""

    def bind(self, buffer: int, tensor: torch.Tensor) -> None:
        """Let a buffer be this tensor's memory: dense, of the buffer's type, on the backend's device."""

    def bind_states(self, buffers: Sequence[int], tensors: Sequence[torch.Tensor]) -> None:
        """As `bind`, for what most often is where it was at the call before."""

    def output(self, buffer: int) -> torch.Tensor:
        """Fresh memory for an output, the caller's from then on; contents undefined."""

    def run(self) -> None:
        """Execute all steps; every input, state and output buffer must be bound."""


class Backend(Protocol):
    """A compiled program on a device."""

    @property
    def name(self) -> str: ...
    @property
    def program(self) -> Program: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def sources(self) -> Mapping[str, str]: ...
    @property
    def source_paths(self) -> tuple[str, ...]:
        """The files of the generated sources."""

    @property
    def prologue(self) -> Backend | None:
        """What computes the program's constant buffers, where it has any."""

    def frame(self, sizes: Mapping[str, int]) -> Frame: ...
    def touched(self) -> frozenset[int]:
        """The buffers that a run reads or writes."""

    def output(self, type: TensorType, sizes: Mapping[str, int]) -> torch.Tensor:
        """Fresh memory for an output, the caller's from then on; contents undefined."""

    def state(self, type: TensorType) -> torch.Tensor:
        """Zeros that live as long as the executable, for a parameter or a state of static shape."""

    def plan(self, sizes: Mapping[str, int]) -> Plan: ...


def element_count(shape: tuple[int, ...]) -> int:
    """Elements of a tensor of that shape."""
    count = 1
    for extent in shape:
        count *= extent
    return count


def _out_of_memory(program: Program, plan: Plan, error: MemoryError | RuntimeError) -> GraphcError:
    largest = max(plan.placements, key=lambda placement: placement.size, default=None)
    what = (
        f"; the largest is {program.buffers[largest.buffer].name} with {largest.size:,} bytes"
        if largest
        else ""
    )
    return GraphcError(
        Diagnostic(
            "G606",
            f"no memory for the arena of {program.name}: {plan.size:,} bytes for "
            f"{len(plan.placements)} intermediate tensors{what} ({error})",
            help="use smaller inputs; graphc dump --stage plan lists every tensor",
        )
    )


def no_memory(
    what: str, type: TensorType, sizes: Mapping[str, int], error: MemoryError | RuntimeError
) -> GraphcError:
    """G606: what did not fit, and how much it is."""
    nbytes = element_count(type.concrete_shape(sizes)) * type.dtype.itemsize
    return GraphcError(
        Diagnostic(
            "G606",
            f"no memory for {what}: {type} takes {nbytes:,} bytes ({error})",
            help="use smaller inputs, or drop what is no longer needed",
        )
    )


def _of_steps(program: Program) -> frozenset[int]:
    return frozenset(index for step in program.steps for index in step.arguments)


class CpuBackend:
    """Generated C++ in one shared library; one native call runs the whole program."""

    name = "cpu"

    def __init__(self, generated: cpp_codegen.CppProgram, memory: str = "optimal") -> None:
        self.program = generated.program
        self._memory = memory
        self.sources = dict(generated.files)
        with ThreadPoolExecutor(1) as other:
            # Both libraries are built side by side.
            made = other.submit(CpuBackend, generated.prologue, memory) if generated.prologue else None
            self.native = cpu_runtime.load(generated)
            self.prologue: Backend | None = made.result() if made is not None else None
        folder = self.native.path.parent
        self.source_paths = tuple(str(folder / name) for name in self.sources if name.endswith(".cpp"))
        self.device = torch.device("cpu")
        self._outputs = OutputPool()

    def plan(self, sizes: Mapping[str, int]) -> Plan:
        return make_plan(self.program, sizes, self._memory)

    def frame(self, sizes: Mapping[str, int]) -> CpuFrame:
        return CpuFrame(self, sizes)

    def touched(self) -> frozenset[int]:
        return _of_steps(self.program)

    def output(self, type: TensorType, sizes: Mapping[str, int]) -> torch.Tensor:
        return self.outputs(type, sizes)()

    def outputs(self, type: TensorType, sizes: Mapping[str, int]) -> Callable[[], torch.Tensor]:
        """What gives memory for an output of these sizes, again and again."""
        shape, dtype = type.concrete_shape(sizes), type.dtype.torch
        nbytes = element_count(shape) * type.dtype.itemsize
        if nbytes < SMALL_OUTPUT:
            return partial(torch.empty_like, torch.empty(shape, dtype=dtype))
        return lambda: torch.from_numpy(self._outputs.take(nbytes)).view(dtype).view(shape)

    def state(self, type: TensorType) -> torch.Tensor:
        # Pages of a fresh block are zero, and untouched until somebody writes: a model of any size starts at once.
        shape = type.concrete_shape({})
        block = allocate(element_count(shape) * type.dtype.itemsize)
        if not element_count(shape):
            return torch.empty(shape, dtype=type.dtype.torch)
        return torch.from_numpy(block).view(type.dtype.torch).view(shape)


class CpuFrame:
    """An arena and the pointer table that the generated entry point reads."""

    def __init__(self, backend: CpuBackend, sizes: Mapping[str, int]) -> None:
        program = backend.program
        self._native = backend.native
        self._steps = len(program.steps)
        plan = backend.plan(sizes)
        try:
            self._arena = allocate(plan.size)
        except MemoryError as error:
            raise _out_of_memory(program, plan, error) from error
        base = self._arena.ctypes.data
        self._table = (ctypes.c_void_p * max(len(program.buffers), 1))()
        for index, offset in plan.offsets().items():
            self._table[index] = base + offset
        self._sizes = (ctypes.c_int64 * max(len(program.symbols), 1))(
            *(sizes[name] for name in program.symbols)
        )
        self._outputs = {
            index: backend.outputs(program.buffers[index].type, sizes) for _, index in program.outputs
        }
        self.constants: Mapping[str, torch.Tensor] | None = None
        self._state_places: frozenset[int] = frozenset()
        self._state_addresses: list[int] = []
        self.run = backend.native.prepared(self._table, self._sizes)

    def bind(self, buffer: int, tensor: torch.Tensor) -> None:
        self._table[buffer] = tensor.data_ptr()
        if buffer in self._state_places:
            self._state_addresses = []

    def bind_states(self, buffers: Sequence[int], tensors: Sequence[torch.Tensor]) -> None:
        addresses = list(map(torch.Tensor.data_ptr, tensors))
        if addresses != self._state_addresses:
            for buffer, address in zip(buffers, addresses, strict=True):
                self._table[buffer] = address
            self._state_places, self._state_addresses = frozenset(buffers), addresses

    def output(self, buffer: int) -> torch.Tensor:
        return self._outputs[buffer]()

    def profile(self) -> list[float]:
        """As `run`; the seconds of each step of the program."""
        return self._native.profile(self._table, self._sizes, self._steps)


class GpuBackend:
    """Generated Triton kernels, launched on the current stream over tensors in one arena."""

    name = "gpu"

    def __init__(
        self, generated: triton_codegen.TritonProgram, device: torch.device, memory: str = "optimal"
    ) -> None:
        self.program = generated.program
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

    def touched(self) -> frozenset[int]:
        return _of_steps(self.program)

    def output(self, type: TensorType, sizes: Mapping[str, int]) -> torch.Tensor:
        return torch.empty(type.concrete_shape(sizes), dtype=type.dtype.torch, device=self.device)

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
            raise _out_of_memory(program, plan, error) from error
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


class ReferenceBackend:
    """Each primitive through torch, in the graph's own dtypes: the fallback where no C++ compiler is found."""

    name = "reference"

    def __init__(self, program: Program, memory: str = "optimal") -> None:
        self.program = program
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

    def touched(self) -> frozenset[int]:
        return frozenset(index for _, index in self.program.inputs)

    def output(self, type: TensorType, sizes: Mapping[str, int]) -> torch.Tensor:
        return torch.empty(type.concrete_shape(sizes), dtype=type.dtype.torch)

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
