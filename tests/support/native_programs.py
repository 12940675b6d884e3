"""Hand-made kernels, wrapped as programs and run natively on numpy arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence

import numpy as np

from graphc.codegen.cpp import CppProgram, CpuTarget, generate
from graphc.ir.graph import Graph
from graphc.ir.kernel import Access, Affine, Axis, Compute, Constant, Kernel, Load, Nest, Parameter, Statement, Store
from graphc.ir.program import Buffer, Program, Role, Step
from graphc.runtime.cpu import NativeProgram, load
from graphc.types import Dim, DType, TensorType, dim_symbols, evaluate, numpy_dtype

F32 = DType.F32


def at(*names: str | Affine) -> tuple[Affine, ...]:
    """An index of plain axes."""
    return tuple(name if isinstance(name, Affine) else Affine.axis(name) for name in names)


def read(name: str, buffer: str, *axes: str | Affine, dtype: DType = F32) -> Load:
    return Load(name, dtype, buffer, at(*axes))


def op(name: str, operation: str, *arguments: str, dtype: DType = F32) -> Compute:
    return Compute(name, dtype, operation, arguments)


def constant(name: str, value: float) -> Constant:
    return Constant(name, F32, value)


def write(buffer: str, value: str, *axes: str | Affine) -> Store:
    return Store(buffer, at(*axes), value)


def parameter(text: str) -> Parameter:
    """From "in x: f32[4,8]"."""
    access, rest = text.split(" ", 1)
    name, type = rest.split(":")
    return Parameter(name.strip(), TensorType.parse(type), Access(access))


def kernel(name: str, parameters: Sequence[str], *nests: Nest) -> Kernel:
    return Kernel(name, tuple(map(parameter, parameters)), nests)


def nest(axes: Mapping[str, Dim], reductions: Mapping[str, Dim], *body: Statement) -> Nest:
    parallel = tuple(Axis(name, extent) for name, extent in axes.items())
    return Nest(parallel + tuple(Axis(name, extent, True) for name, extent in reductions.items()), body)


def program_of(*kernels: Kernel, name: str = "") -> Program:
    """Every kernel once, each with buffers of its own, named kernel.parameter."""
    buffers: list[Buffer] = []
    steps = []
    for index, item in enumerate(kernels):
        start = len(buffers)
        for p in item.parameters:
            role = Role.INPUT if p.access is Access.IN else Role.OUTPUT
            buffers.append(Buffer(f"{item.name}.{p.name}", p.type, role))
        steps.append(Step(index, tuple(range(start, len(buffers)))))
    symbols = dim_symbols(dim for buffer in buffers for dim in buffer.type.shape)
    inputs = tuple((b.name, i) for i, b in enumerate(buffers) if b.role is Role.INPUT)
    outputs = tuple((b.name, i) for i, b in enumerate(buffers) if b.role is Role.OUTPUT)
    title = name or kernels[0].name
    return Program(title, Graph(title, (), (), ()), tuple(buffers), kernels, tuple(steps), inputs, outputs, symbols)


class Native:
    """A program compiled natively; `arrays` holds its buffers by name."""

    def __init__(self, program: Program, target: CpuTarget | None = None) -> None:
        self.generated: CppProgram = generate(program, target)
        self.program = self.generated.program
        self.native: NativeProgram = load(self.generated)

    @property
    def source(self) -> str:
        return "\n".join(text for name, text in self.generated.files if name.endswith(".cpp"))

    def run(self, arrays: Mapping[str, np.ndarray], **sizes: int) -> dict[str, np.ndarray]:
        """Run on copies of the given arrays; buffers that are missing begin as poison."""
        return self.call({name: array.copy() for name, array in arrays.items()}, **sizes)

    def call(self, arrays: dict[str, np.ndarray], **sizes: int) -> dict[str, np.ndarray]:
        """Run on the given arrays themselves, adding the missing ones."""
        table = (ctypes.c_void_p * len(self.program.buffers))()
        for index, buffer in enumerate(self.program.buffers):
            if buffer.name not in arrays:
                shape = tuple(evaluate(dim, sizes) for dim in buffer.type.shape)
                arrays[buffer.name] = poison(shape, numpy_dtype(buffer.type.dtype))
            table[index] = arrays[buffer.name].ctypes.data
        dims = (ctypes.c_int64 * max(1, len(self.program.symbols)))(*(sizes[s] for s in self.program.symbols))
        self.native.run(table, dims)
        return arrays


def poison(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Memory that no right answer contains."""
    return np.full(shape, np.nan if dtype.kind == "f" else 113, dtype=dtype)
