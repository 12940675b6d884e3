"""Powers with a constant exponent of quarters, made of roots: right for every value, zeros and infinities too."""

import pytest
import torch

import graphc as mx
from graphc.primitives.builder import Builder
from graphc.types import TensorType

INFINITY = float("inf")
SPECIAL = [0.0, -0.0, 1.0, -1.0, INFINITY, -INFINITY, float("nan"), 1e-38, 1e-45, 3e38, -2.5]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_powers_of_quarters(dtype: str) -> None:
    exponents = [-3.75, -1.75, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.5, 2.25, INFINITY, 4.25, 0.3]
    builder = Builder("powers")
    x = builder.input("x", TensorType.parse(f"{dtype}[1011]"))
    program = mx.compile(builder.finish([builder.pow(x, exponent) for exponent in exponents]), target="cpu")
    assert "gc_pow_quarters<-3>" in "".join(program.source.values())
    wide = torch.cat([torch.tensor(SPECIAL, dtype=torch.float64), torch.rand(1000, dtype=torch.float64) * 50])
    given = wide.to(torch.float32 if dtype == "f32" else torch.float64)
    for exponent, result in zip(exponents, program(given), strict=True):
        expected = given.double().pow(exponent).to(given.dtype)
        normal = ~((expected.abs() < 1.2e-38) & (expected != 0))  # results below may be flushed to zero
        tolerance = 3e-6 if dtype == "f32" else 1e-13
        torch.testing.assert_close(
            result[normal], expected[normal], rtol=tolerance, atol=0, equal_nan=True, msg=str(exponent)
        )
