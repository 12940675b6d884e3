"""Programs compiled to C++ and run natively on numpy arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.codegen.cpp import CppProgram, CpuTarget, generate
from graphc.ir.kernel import Access, Kernel
from graphc.ir.program import Buffer, Program, Role, Step
from graphc.runtime.cpu import NativeProgram, load
from graphc.types import DType, evaluate, numpy_dtype
from support.kernels import program_of

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A kernel and what it must compute, in float64: `expected` maps its inputs to the buffers that it writes."""

    kernel: Kernel
    expected: Callable[[Arrays], Mapping[str, Any]]
    tolerance: float = 2e-6


def joined(kernels: list[Kernel]) -> Program:
    """All kernels as one program, each on buffers of its own, named kernel.parameter."""
    buffers: list[Buffer] = []
    steps = []
    for index, kernel in enumerate(kernels):
        start = len(buffers)
        for p in kernel.parameters:
            role = Role.INPUT if p.access is Access.IN else Role.OUTPUT
            buffers.append(Buffer(f"{kernel.name}.{p.name}", p.type, role))
        steps.append(Step(index, tuple(range(start, len(buffers)))))
    symbols = tuple(sorted({symbol for kernel in kernels for symbol in kernel.symbols}))
    single = program_of(kernels[0])
    return replace(
        single,
        buffers=tuple(buffers),
        kernels=tuple(kernels),
        steps=tuple(steps),
        inputs=(),
        outputs=(),
        symbols=symbols,
    )


class Native:
    """A program compiled natively."""

    def __init__(self, program: Program, target: CpuTarget | None = None) -> None:
        self.generated: CppProgram = generate(program, target)
        self.program = self.generated.program
        self.native: NativeProgram = load(self.generated)

    @property
    def source(self) -> str:
        return "\n".join(text for name, text in self.generated.files if name.endswith(".cpp"))

    def run(self, arrays: Mapping[str, np.ndarray], **sizes: int) -> Arrays:
        """Run on copies of the given arrays; buffers that are missing begin as poison."""
        return self.call({name: array.copy() for name, array in arrays.items()}, **sizes)

    def call(self, arrays: Arrays, **sizes: int) -> Arrays:
        """Run on the given arrays themselves, adding the missing ones."""
        table = (ctypes.c_void_p * max(1, len(self.program.buffers)))()
        for index, buffer in enumerate(self.program.buffers):
            if buffer.name not in arrays:
                shape = tuple(evaluate(dim, sizes) for dim in buffer.type.shape)
                arrays[buffer.name] = poison(shape, numpy_dtype(buffer.type.dtype))
            table[index] = arrays[buffer.name].ctypes.data
        dims = (ctypes.c_int64 * max(1, len(self.program.symbols)))(*(sizes[s] for s in self.program.symbols))
        self.native.run(table, dims)
        return arrays

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
            buffer.name: random_array(
                generator, tuple(evaluate(d, sizes) for d in buffer.type.shape), buffer.type.dtype
            )
            for index, buffer in enumerate(self.program.buffers)
            if index in read
        }


def random_array(generator: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    if dtype.is_float:
        return generator.standard_normal(shape).astype(numpy_dtype(dtype))
    return generator.integers(0, 2 if dtype is DType.BOOL else 5, shape).astype(numpy_dtype(dtype))


def poison(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Memory that no right answer contains."""
    return np.full(shape, np.nan if dtype.kind == "f" else 113, dtype=dtype)


def check(native: Native, cases: list[Case], seed: int = 0, **sizes: int) -> None:
    """Run a joined program and compare every written buffer with float64."""
    inputs = native.inputs(seed, **sizes)
    results = native.run(inputs, **sizes)
    for case in cases:
        prefix = f"{case.kernel.name}."
        mine = {name.removeprefix(prefix): wide(a) for name, a in inputs.items() if name.startswith(prefix)}
        with np.errstate(all="ignore"):
            expected = case.expected(mine)
        for name, value in expected.items():
            got = results[prefix + name]
            want = np.broadcast_to(value, got.shape)
            finite = np.abs(want[np.isfinite(want)]) if want.dtype.kind == "f" else np.ones(1)
            scale = max(1.0, float(finite.mean()) if finite.size else 1.0)
            np.testing.assert_allclose(
                got,
                want,
                rtol=case.tolerance,
                atol=case.tolerance * 10 * scale,
                err_msg=f"{prefix}{name} {sizes}",
            )


def wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind == "f" else array
