"""f16 and bf16 in loops: every 16-bit pattern converts as torch does, in rows of any length, also past the cache."""

from dataclasses import replace

import pytest
import torch

from graphc.ir.graph import Attributes
from graphc.ir.program import Program
from graphc.passes.fusion import fuse
from graphc.primitives.builder import Builder
from graphc.types import DType, TensorType
from support.native_graphs import NativeGraphs

LENGTHS = (1, 15, 16, 255, 257, 1000, 65536)
TYPES = {DType.F16: torch.float16, DType.BF16: torch.bfloat16}


def scaled(dtype: DType, length: int) -> Program:
    """x * 1.25 for the elements of x, and f32 y rounded."""
    b = Builder("scaled")
    x, y = b.input("x", TensorType(dtype, (length,))), b.input("y", TensorType(DType.F32, (length,)))
    return fuse(
        b.finish({"z": b.cast(b.mul(b.cast(x, DType.F32), 1.25), dtype), "rounded": b.cast(y, dtype)})
    )


def softmax(dtype: DType, rows: int, columns: int) -> Program:
    b = Builder("softmax")
    x = b.cast(b.input("x", TensorType(dtype, (rows, columns))), DType.F32)
    e = b.exp(b.sub(x, b.reduce("reduce_max", x, [1], keepdims=True)))
    return fuse(b.finish({"y": b.cast(b.div(e, b.sum(e, [1], keepdims=True)), dtype)}))


def streamed(program: Program) -> Program:
    """The program with all outputs that allow it stored past the cache."""
    kernels = tuple(
        replace(kernel, attributes=Attributes({**kernel.attributes, "streams": 1}))
        for kernel in program.kernels
    )
    return replace(program, kernels=kernels)


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.value)
def test_every_pattern_converts_as_torch_does(dtype: DType) -> None:
    torch_type = TYPES[dtype]
    programs = [change(scaled(dtype, n)) for n in LENGTHS for change in (lambda p: p, streamed)]
    native = NativeGraphs(programs)
    patterns = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(torch_type)
    # Between every two neighbours: ties, what rounds up and down, and what overflows.
    between = patterns.float() * (1 + 2.0**-9 + torch.linspace(-(2.0**-12), 2.0**-12, 65536))
    lengths = [n for n in LENGTHS for _ in range(2)]
    given = [{"x": patterns[-n:].clone(), "y": between[-n:].clone()} for n in lengths]
    for inputs, got in zip(given, native.run(given, {}), strict=True):
        for name, want in (("z", inputs["x"].float() * 1.25), ("rounded", inputs["y"])):
            torch.testing.assert_close(got[name], want.to(torch_type), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.value)
def test_rows(dtype: DType) -> None:
    shapes = [(3, 1), (2, 17), (5, 300), (3, 1025), (2, 2500)]
    programs = [change(softmax(dtype, *shape)) for shape in shapes for change in (lambda p: p, streamed)]
    native = NativeGraphs(programs)
    given = [{"x": torch.randn(shape).to(TYPES[dtype])} for shape in shapes for _ in range(2)]
    for inputs, got in zip(given, native.run(given, {}), strict=True):
        want = inputs["x"].double().softmax(1).to(TYPES[dtype])
        unit = 2.0**-10 if dtype is DType.F16 else 2.0**-7
        torch.testing.assert_close(got["y"], want, rtol=unit, atol=1e-7)


def test_tiles_convert_by_vectors() -> None:
    generated = NativeGraphs([streamed(scaled(DType.F16, 1000))]).generated
    text = "".join(text for name, text in generated.files if name.endswith(".cpp"))
    assert "gc_widen(" in text and "gc_for_streams" in text
