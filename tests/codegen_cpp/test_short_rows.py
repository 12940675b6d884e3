"""Reductions over the last axis where it is short."""

import torch

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
