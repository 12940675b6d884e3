"""Reductions over the last axis where it is short."""

import pytest
import torch

from graphc.ir.program import Program
from graphc.passes.fusion import fuse
from graphc.primitives.builder import Builder
from graphc.types import DType, TensorType
from support.native_graphs import NativeGraphs


def test_searches_join_lanes_in_any_order() -> None:
    """Of equal elements the first wins, and the first NaN of all, wherever in a vector they lie."""
    rows, columns = 300, 64
    values = torch.randint(-3, 3, (rows, columns)).float()
    values[::7, 40] = torch.nan
    values[::14, 11] = torch.nan
    b = Builder("searches")
    x = b.input("x", TensorType(DType.F32, (rows, columns)))
    graph = b.finish({name: b.reduce(name, x, [1]) for name in ("argmax", "argmin")})
    (got,) = NativeGraphs([fuse(graph)]).run([{"x": values}], {})
    for name, best in (("argmax", values.max(1).values), ("argmin", values.min(1).values)):
        equal = (values == best[:, None]) | (values.isnan() & best.isnan()[:, None])
        assert torch.equal(got[name].long(), equal.int().argmax(1))


def softmax_and_sums(rows: tuple[int, ...], columns: int, dtype: DType) -> Program:
    """Softmax of x * gamma + shift[row], the largest element's place, and a sum, of short rows."""
    b = Builder("short")
    x = b.input("x", TensorType(dtype, (*rows, columns)))
    gamma, shift = b.input("gamma", TensorType(dtype, (columns,))), b.input("shift", TensorType(dtype, rows))
    last = [len(rows)]
    moved = b.add(b.mul(x, gamma), b.reshape(shift, (*rows, 1)))
    e = b.exp(b.sub(moved, b.reduce("reduce_max", moved, last, keepdims=True)))
    y = b.div(e, b.sum(e, last, keepdims=True))
    return fuse(b.finish({"y": y, "at": b.reduce("argmax", moved, last), "sum": b.sum(x, last)}))


SHAPES = (
    ((256,), 2), ((257,), 3), ((5, 300), 7), ((1000,), 10), ((3, 2, 320), 16), ((319,), 31), ((256,), 32), ((9,), 10),
)  # fmt: skip


@pytest.mark.parametrize("dtype", [DType.F32, DType.F64], ids=lambda dtype: dtype.value)
def test_rows_of_any_length(dtype: DType) -> None:
    native = NativeGraphs([softmax_and_sums(*shape, dtype) for shape in SHAPES])
    given = []
    for rows, columns in SHAPES:
        x = torch.randn(*rows, columns, dtype=dtype.torch)
        x.view(-1, columns)[5] = torch.tensor([torch.inf, -torch.inf] * columns)[:columns]
        x.view(-1, columns)[7, -1] = torch.nan
        given.append({
            "x": x, "gamma": torch.randn(columns, dtype=dtype.torch), "shift": torch.randn(*rows, dtype=dtype.torch),
        })  # fmt: skip
    for inputs, got in zip(given, native.run(given, {}), strict=True):
        moved = inputs["x"].double() * inputs["gamma"] + inputs["shift"][..., None]
        torch.testing.assert_close(got["y"].double(), moved.softmax(-1), rtol=1e-5, atol=1e-6, equal_nan=True)
        torch.testing.assert_close(
            got["sum"].double(), inputs["x"].double().sum(-1), rtol=1e-5, atol=1e-5, equal_nan=True
        )
        in_its_type = inputs["x"] * inputs["gamma"] + inputs["shift"][..., None]
        assert (got["at"].long() == in_its_type.argmax(-1)).float().mean() > 0.99


def test_short_rows_are_turned() -> None:
    generated = NativeGraphs([softmax_and_sums((1000,), 10, DType.F32)]).generated
    text = "".join(text for name, text in generated.files if name.endswith(".cpp"))
    assert "gc_turn_rows(" in text and "gc_turn_back(" in text
