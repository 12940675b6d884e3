"""The CPU backend: generated C++ in one shared library; one native call runs the whole program.

A program that was built before starts from a CpuStart, which is read from the cache: the sources, the kernels and the
graph that they were made from are made again only when somebody asks for them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from graphc.driver.backend import Backend, element_count, out_of_memory
from graphc.driver.interface import Bindings
from graphc.ir.program import Plan, Program
from graphc.passes.plan import plan as make_plan
from graphc.runtime import cpu as cpu_runtime
from graphc.runtime.compilers import Compilers
from graphc.runtime.memory import ALIGNMENT, OutputPool, allocate
from graphc.types import TensorType

if TYPE_CHECKING:
    from graphc.codegen.cpp import CppProgram

SMALL_OUTPUT = 16 << 10
"""Bytes below which malloc reuses a block without a page fault."""


@dataclass(frozen=True, slots=True)
class Arena:
    """The bytes of an arena, and where in it each buffer lies."""

    size: int
    offsets: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, plan: Plan) -> Arena:
        return cls(plan.size, tuple(plan.offsets().items()))


@dataclass(frozen=True, slots=True)
class CpuStart:
    """What running a built program takes: the `key` of its library in the cache, its arena where sizes are static."""

    name: str
    key: str
    bindings: Bindings
    arena: Arena | None
    prologue: CpuStart | None


class CpuBackend:
    """A loaded library and what its buffers are; made by `build` or `find`."""

    name = "cpu"

    def __init__(
        self,
        start: CpuStart,
        native: cpu_runtime.NativeProgram,
        generated: Callable[[], CppProgram],
        memory: str,
        prologue: CpuBackend | None,
    ) -> None:
        self.start, self.native, self._generated, self._memory = start, native, generated, memory
        self.bindings = start.bindings
        self.prologue: Backend | None = prologue
        self.device = torch.device("cpu")
        self._outputs = OutputPool()

    @classmethod
    def build(cls, generated: CppProgram, memory: str = "optimal") -> CpuBackend:
        """Build the library, or find it in the cache; `memory` is the strategy of the plan."""
        return cls._built(generated, memory, Compilers())

    @classmethod
    def _built(cls, generated: CppProgram, memory: str, compilers: Compilers) -> CpuBackend:
        with ThreadPoolExecutor(1) as other, compilers.all_or_none():
            # Both libraries are built side by side.
            made = (
                other.submit(cls._built, generated.prologue, memory, compilers)
                if generated.prologue
                else None
            )
            native = cpu_runtime.load(generated, compilers)
            prologue = made.result() if made is not None else None
        program = generated.program
        arena = None if program.symbols else Arena.of(make_plan(program, {}, memory))
        first = prologue.start if prologue is not None else None
        start = CpuStart(program.name, native.key, Bindings.of(program), arena, first)
        return cls(start, native, lambda: generated, memory, prologue)

    @classmethod
    def find(cls, start: CpuStart, generated: Callable[[], CppProgram], memory: str) -> CpuBackend | None:
        """The backend of a program whose libraries are in the cache; None when one is not."""
        prologue = None
        if start.prologue is not None:
            prologue = cls.find(start.prologue, lambda: _prologue_of(generated()), memory)
            if prologue is None:
                return None
        native = cpu_runtime.find(start.name, start.key)
        return cls(start, native, generated, memory, prologue) if native is not None else None

    @property
    def program(self) -> Program:
        return self._generated().program

    @property
    def sources(self) -> Mapping[str, str]:
        return dict(self._generated().files)

    @property
    def source_paths(self) -> tuple[str, ...]:
        folder = self.native.path.parent
        return tuple(str(folder / name) for name in self.sources if name.endswith(".cpp"))

    def plan(self, sizes: Mapping[str, int]) -> Plan:
        return make_plan(self.program, sizes, self._memory)

    def arena(self, sizes: Mapping[str, int]) -> Arena:
        """The arena for these sizes."""
        return self.start.arena or Arena.of(self.plan(sizes))

    def frame(self, sizes: Mapping[str, int]) -> CpuFrame:
        return CpuFrame(self, sizes)

    def output(self, type: TensorType, sizes: Mapping[str, int]) -> torch.Tensor:
        return self.outputs(type, sizes)()

    def outputs(self, type: TensorType, sizes: Mapping[str, int]) -> Callable[[], torch.Tensor]:
        """What gives memory for an output of these sizes, again and again."""
        shape, dtype = type.concrete_shape(sizes), type.dtype.torch
        nbytes = element_count(shape) * type.dtype.itemsize
        if nbytes < SMALL_OUTPUT:
            return partial(torch.empty_like, torch.empty(shape, dtype=dtype))
        return lambda: torch.from_numpy(self._outputs.take(nbytes)).view(dtype).view(shape)

    def together(self, types: Sequence[TensorType]) -> list[torch.Tensor]:
        # In one block: small ones too lie in huge pages, and a network reads all of them on each run.
        bytes = [element_count(type.concrete_shape({})) * type.dtype.itemsize for type in types]
        ends = list(accumulate(-(-nbytes // ALIGNMENT) * ALIGNMENT for nbytes in bytes))
        block = torch.from_numpy(allocate(ends[-1] if ends else 0))
        return [
            block[begin : begin + nbytes].view(type.dtype.torch).view(type.concrete_shape({}))
            for type, nbytes, begin in zip(types, bytes, (0, *ends), strict=False)
        ]

    def state(self, type: TensorType) -> torch.Tensor:
        # Pages of a fresh block are zero, and untouched until somebody writes: a model of any size starts at once.
        shape = type.concrete_shape({})
        block = allocate(element_count(shape) * type.dtype.itemsize)
        if not element_count(shape):
            return torch.empty(shape, dtype=type.dtype.torch)
        return torch.from_numpy(block).view(type.dtype.torch).view(shape)


def _prologue_of(generated: CppProgram) -> CppProgram:
    assert generated.prologue is not None
    return generated.prologue


class CpuFrame:
    """An arena and the pointer table that the generated entry point reads."""

    def __init__(self, backend: CpuBackend, sizes: Mapping[str, int]) -> None:
        bindings = backend.bindings
        self._native = backend.native
        self._steps = bindings.steps
        arena = backend.arena(sizes)
        try:
            self._arena = allocate(arena.size)
        except MemoryError as error:
            raise out_of_memory(backend.program, backend.plan(sizes), error) from error
        base = self._arena.ctypes.data
        self._table = (ctypes.c_void_p * max(bindings.buffers, 1))()
        for index, offset in arena.offsets:
            self._table[index] = base + offset
        self._sizes = (ctypes.c_int64 * max(len(bindings.symbols), 1))(
            *(sizes[name] for name in bindings.symbols)
        )
        self._outputs = {result.buffer: backend.outputs(result.type, sizes) for result in bindings.outputs}
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
