"""Hand-made kernels in Triton's interpreter, compared with float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from graphc.codegen.triton import GpuTarget, generate
from graphc.runtime.gpu.interpreter import Interpreter
from graphc.types import DType
from support import cpp_cases as c
from support.kernels import NestBuilder, make_kernel, program_of, types
from support.native_programs import check, joined
from support.triton_programs import Kernels
from support.triton_suites import SUITES


@pytest.mark.parametrize("suite", SUITES)
def test_suite(suite: str, interpreter: Interpreter) -> None:
    cases, all_sizes = SUITES[suite]()
    kernels = Kernels(joined([case.kernel for case in cases]), interpreter.run)
    for sizes in all_sizes:
        check(kernels, cases, **sizes)  # type: ignore[arg-type]


def test_nothing_to_do(interpreter: Interpreter) -> None:
    cases = [c.gelu_residual(0, 5, "gelu"), c.total((0, 4), "total"), c.softmax(3, 0, "softmax")]
    kernels = Kernels(joined([case.kernel for case in cases]), interpreter.run)
    got = kernels.run({"gelu.bias": np.ones(5, "f")})
    assert np.isnan(got["total.y"]) and got["softmax.y"].shape == (3, 0)


def test_nan_and_infinity(interpreter: Interpreter) -> None:
    cases = [
        c.row_statistics(4, 70, "rows"),
        c.row_statistics(4, 17000, "long"),
        c.column_statistics(70, 40, "columns"),
        c.softmax(4, 70, "softmax"),
    ]
    kernels = Kernels(joined([case.kernel for case in cases]), interpreter.run)
    arrays = kernels.inputs()
    for name in ("rows", "long"):
        x = arrays[f"{name}.x"]
        x[0, 13], x[1, 69], x[2], x[3, [5, -1]] = np.nan, np.inf, -np.inf, np.nan
    arrays["columns.x"][50, 3] = np.nan
    arrays["columns.x"][:, 4] = -np.inf
    arrays["softmax.x"][0, 5], arrays["softmax.x"][1, 5] = np.nan, -np.inf
    got = kernels.run(arrays)
    for name in ("rows", "long"):
        x = arrays[f"{name}.x"]
        np.testing.assert_array_equal(got[f"{name}.hi"], x.max(1))
        np.testing.assert_array_equal(got[f"{name}.lo"], x.min(1))
        np.testing.assert_array_equal(got[f"{name}.amax"], x.argmax(1))
        np.testing.assert_array_equal(got[f"{name}.amin"], x.argmin(1))
    x = arrays["columns.x"]
    np.testing.assert_array_equal(got["columns.hi"], x.max(0))
    np.testing.assert_array_equal(got["columns.arg"], x.argmax(0))
    assert np.isnan(got["columns.s"][3]) and got["columns.s"][4] == -np.inf
    assert np.isnan(got["softmax.y"][0]).all()
    assert got["softmax.y"][1, 5] == 0 and abs(got["softmax.y"][1].sum() - 1) < 1e-5


def test_bfloat16_products_and_rows(interpreter: Interpreter) -> None:
    kernel = c.dense(33, 20, 50, False, True, "f16", name="fc").kernel
    bf16 = replace(
        kernel, parameters=tuple(replace(p, type=p.type.with_dtype(DType.BF16)) for p in kernel.parameters)
    )
    nest = replace(
        bf16.nests[0],
        body=tuple(
            replace(s, dtype=DType.BF16) if getattr(s, "dtype", None) is DType.F16 else s
            for s in bf16.nests[0].body
        ),
    )
    generated = generate(program_of(replace(bf16, nests=(nest,))))
    torch.manual_seed(0)
    tensors = [torch.randn(int(b.type.size)).bfloat16() for b in generated.buffers]  # type: ignore[arg-type]
    names = [b.name for b in generated.buffers]
    got = dict(zip(names, interpreter.run(generated, tensors), strict=True))
    given = dict(zip(names, tensors, strict=True))
    product = given["a"].float().view(33, 50) @ given["b"].float().view(20, 50).T + given["bias"].float()
    torch.testing.assert_close(got["y"].view(33, 20), product.relu().bfloat16(), rtol=1e-2, atol=1e-2)


def test_integers_wrap_and_small_types_keep_their_width(interpreter: Interpreter) -> None:
    for name in ("i8", "u8", "i16", "i32", "i64"):
        ts = types(x=f"{name}[5,40]", total=f"{name}[5]", most=f"{name}[5]", y=f"{name}[5,40]")
        b = NestBuilder(ts, i=5, j=("reduce", 40))
        x = b.load("x", "i", "j")
        b.store("total", ["i"], b.reduce("sum", x))
        b.store("most", ["i"], b.reduce("max", x))
        b.store("y", ["i", "j"], b.compute("mul", x, 3))
        kernel = make_kernel(f"integers_{name}", ts, [b], outputs=["total", "most", "y"])
        kernels = Kernels(program_of(kernel), interpreter.run)
        limits = np.iinfo(kernels.inputs()["x"].dtype)
        values = np.random.default_rng(0).integers(limits.min, limits.max, (5, 40), dtype=limits.dtype)
        got = kernels.run({"x": values})
        np.testing.assert_array_equal(got["total"], values.sum(1, dtype=limits.dtype))
        np.testing.assert_array_equal(got["most"], values.max(1))
        np.testing.assert_array_equal(got["y"], values * limits.dtype.type(3))


def test_truth_values(interpreter: Interpreter) -> None:
    ts = types(x="f32[6,50]", any="bool[6]", y="bool[6,50]", count="i64[6]")
    b = NestBuilder(ts, i=6, j=("reduce", 50))
    positive = b.compute("gt", b.load("x", "i", "j"), 2.0)
    b.store("any", ["i"], b.reduce("any", positive))
    b.store("count", ["i"], b.reduce("sum", b.cast(positive, DType.I64)))
    b.store("y", ["i", "j"], b.compute("logical_not", positive, dtype=DType.BOOL))
    kernels = Kernels(
        program_of(make_kernel("truth", ts, [b], outputs=["any", "y", "count"])), interpreter.run
    )
    arrays = kernels.inputs(3)
    got = kernels.run(arrays)
    np.testing.assert_array_equal(got["any"], (arrays["x"] > 2).any(1))
    np.testing.assert_array_equal(got["count"], (arrays["x"] > 2).sum(1))
    np.testing.assert_array_equal(got["y"], arrays["x"] <= 2)


def test_tf32_is_an_option() -> None:
    program = program_of(c.dense(64, 64, 64, False, False).kernel)
    assert 'input_precision="ieee"' in generate(program).source
    assert 'input_precision="tf32"' in generate(program, GpuTarget(tf32=True)).source


def test_maximum_and_sum_of_a_softmax_in_one_pass(interpreter: Interpreter) -> None:
    """Rows of unknown length: rescaled sums, with infinities and NaN where float64 has them."""
    kernels = Kernels(program_of(c.softmax("N", "M").kernel), interpreter.run)
    assert kernels.generated.source.count("for r_start in range") == 2
    arrays = kernels.inputs(N=6, M=2500)
    x = arrays["x"]
    x[0, 3], x[1, 7], x[2] = np.nan, np.inf, -np.inf
    x[3, 1030:], x[3, :5] = -np.inf, 200
    x[4] = np.linspace(-300, 300, 2500)
    with np.errstate(invalid="ignore"):
        e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    got = kernels.run(arrays, N=6, M=2500)["y"]
    np.testing.assert_allclose(got, e / e.sum(1, keepdims=True), rtol=2e-5, atol=1e-7)
