"""Every scalar operation against float64, special values included."""

import numpy as np
import pytest
import torch

from graphc.codegen.triton import generate
from graphc.codegen.triton.scalars import FORMS
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph
from graphc.passes.fusion import fuse
from graphc.primitives import primitives
from graphc.primitives.builder import Builder
from graphc.primitives.declare import Kind
from graphc.runtime.gpu.interpreter import Interpreter
from graphc.types import DType, TensorType
from support.triton_programs import run_graphs

SPECIAL = [
    0.0,
    -0.0,
    np.inf,
    -np.inf,
    np.nan,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    1e-7,
    -1e-7,
    3e-5,
    20.5,
    -20.5,
    88.0,
    -88.0,
]
UNARY = [
    "neg",
    "abs",
    "sign",
    "floor",
    "ceil",
    "round",
    "trunc",
    "exp",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "rsqrt",
    "cbrt",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "erf",
    "sigmoid",
    "is_nan",
]
BINARY = [
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "maximum",
    "minimum",
    "mod",
    "atan2",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
]


def test_every_elementwise_primitive_has_a_form() -> None:
    elementwise = {p.name for p in primitives() if p.kind is Kind.ELEMENTWISE}
    assert elementwise - {"cast"} == set(FORMS)


def values_of(dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(300, generator=generator, dtype=torch.float64)
    spread = normal * 10 ** torch.linspace(-6, 2, 300, dtype=torch.float64)
    unit = torch.rand(200, generator=generator, dtype=torch.float64) * 2 - 1
    return torch.cat([torch.tensor(SPECIAL, dtype=torch.float64), normal, spread, unit]).to(dtype)


def all_operations(dtype: DType, count: int) -> Graph:
    b = Builder("operations")
    x = b.input("x", TensorType(dtype, (count,)))
    y = b.input("y", TensorType(dtype, (count,)))
    outputs = {name: b.emit(name, x) for name in UNARY} | {name: b.emit(name, x, y) for name in BINARY}
    return b.finish(outputs)


@pytest.mark.parametrize(("dtype", "tolerance"), [(DType.F32, 1.5e-6), (DType.F64, 2e-14)])
def test_floating_operations(dtype: DType, tolerance: float, interpreter: Interpreter) -> None:
    x = values_of(dtype.torch)
    specials = torch.tensor(SPECIAL, dtype=dtype.torch)
    pairs = torch.cartesian_prod(specials, specials)
    inputs = {"x": torch.cat([x, pairs[:, 0]]), "y": torch.cat([x.flip(0), pairs[:, 1]])}
    graph = all_operations(dtype, len(inputs["x"]))
    (got,) = run_graphs([fuse(graph)], [inputs], {}, interpreter.run)
    expected = run_reference(graph, inputs).outputs
    tiny = torch.finfo(dtype.torch).tiny
    for name, want in expected.items():
        have = got[name]
        if have.dtype == torch.bool:
            assert torch.equal(have, want), name
            continue
        want = want.to(dtype.torch)
        # Large arguments and cancelling quotients lose digits in any precision.
        allowed = tolerance * (
            100 if name in ("pow", "mod", "sinh", "cosh", "tan") and dtype is DType.F64 else 1
        )
        torch.testing.assert_close(
            have,
            want,
            rtol=allowed,
            atol=max(tiny, allowed * 1e-3),
            equal_nan=True,
            msg=lambda m, name=name: f"{name}: {m}",
        )


def test_signs_of_zero_and_quadrants(interpreter: Interpreter) -> None:
    b = Builder("angles")
    y, x = (b.input(name, TensorType(DType.F32, (8,))) for name in ("y", "x"))
    graph = b.finish({"angle": b.emit("atan2", y, x)})
    ys = torch.tensor([0.0, -0.0, 0.0, -0.0, 1.0, 1.0, -1.0, -1.0])
    xs = torch.tensor([1.0, 1.0, -1.0, -0.0, 1.0, -1.0, 1.0, -1.0])
    (got,) = run_graphs([fuse(graph)], [{"y": ys, "x": xs}], {}, interpreter.run)
    want = torch.atan2(ys, xs)
    torch.testing.assert_close(got["angle"], want)
    assert torch.equal(got["angle"].signbit(), want.signbit())


@pytest.mark.parametrize("dtype", [DType.I8, DType.U8, DType.I16, DType.I32, DType.I64])
def test_integer_operations(dtype: DType, interpreter: Interpreter) -> None:
    info = torch.iinfo(dtype.torch)
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(info.min, info.max, (400,), generator=generator, dtype=dtype.torch)
    y = torch.randint(max(info.min, -9), 10, (400,), generator=generator, dtype=dtype.torch)
    x[:3], y[:3] = info.min, -1 if info.min < 0 else 3
    b = Builder("integers")
    u, v = (b.input(name, TensorType(dtype, (400,))) for name in ("x", "y"))
    names = ("add", "sub", "mul", "div", "mod", "maximum", "minimum", "eq", "lt", "ge")
    graph = b.finish({n: b.emit(n, u, v) for n in names} | {n: b.emit(n, u) for n in ("neg", "abs", "sign")})
    (got,) = run_graphs([fuse(graph)], [{"x": x, "y": y}], {}, interpreter.run)
    for name, want in run_reference(graph, {"x": x, "y": y}).outputs.items():
        assert torch.equal(got[name], want), name


def test_casts(interpreter: Interpreter) -> None:
    b = Builder("casts")
    x = b.input("x", TensorType(DType.F32, (64,)))
    dtypes = (DType.F16, DType.BF16, DType.F64, DType.I8, DType.I16, DType.I32, DType.I64, DType.BOOL)
    outputs = {d.value: b.emit("cast", x, dtype=d) for d in dtypes}
    graph = b.finish(outputs | {"back": b.emit("cast", outputs["bool"], dtype=DType.F32)})
    given = torch.linspace(-8, 7.5, 64)
    (got,) = run_graphs([fuse(graph)], [{"x": given}], {}, interpreter.run)
    for d in dtypes:
        assert torch.equal(got[d.value], given.to(d.torch)), d
    assert torch.equal(got["back"], (given != 0).float())


def test_constants_keep_their_digits_in_f64(interpreter: Interpreter) -> None:
    b = Builder("digits")
    x = b.input("x", TensorType(DType.F64, (4,)))
    graph = b.finish({"y": b.mul(x, 0.1), "z": b.where(b.gt(x, 0.3), 0.7, x)})
    given = torch.tensor([1.0, 0.3, 0.30000000000000004, -2.0], dtype=torch.float64)
    (got,) = run_graphs([fuse(graph)], [{"x": given}], {}, interpreter.run)
    assert torch.equal(got["y"], given * 0.1)
    assert torch.equal(got["z"], torch.where(given > 0.3, torch.tensor(0.7, dtype=torch.float64), given))


def test_helpers_are_written_once_and_only_where_used() -> None:
    b = Builder("tanh")
    x = b.input("x", TensorType(DType.F32, (64,)))
    source = generate(fuse(b.finish({"y": b.emit("tanh", b.emit("tanh", x))}))).source
    assert source.count("def tanh(") == 1 and source.count("def expm1(") == 1
    assert "def cbrt(" not in source
