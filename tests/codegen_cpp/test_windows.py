"""Pooling and its gradients in short rows: what lies outside, the first of equals, NaN and infinity, odd sizes."""

import itertools

import numpy as np
import torch

from graphc.codegen.cpp import generate
from graphc.ir.graph import Graph
from graphc.passes.fusion import fuse
from graphc.primitives.builder import Builder
from graphc.types import DType, TensorType
from support.native_graphs import NativeGraphs, compare

# (rows, columns, kernel, stride, pad): one vector less one, exactly one, and more; a prime; a single pixel.
SHAPES = [
    (1, 1, 3, 1, 1),
    (5, 16, 3, 1, 1),
    (7, 31, 3, 2, 1),
    (6, 33, 3, 2, 1),
    (9, 37, 2, 2, 1),
    (8, 64, 3, 1, 1),
    (4, 130, 3, 2, 1),
    (11, 53, 4, 3, 2),
]


def pooled(height: int, width: int, kernel: int, stride: int, pad: int) -> Graph:
    """The maximum and its place of relu(x), then the gradient that goes back to those places."""
    b = Builder("pooled")
    x = b.input("x", TensorType(DType.F32, (2, 3, height, width)))
    window = {
        "kernel": (kernel, kernel), "stride": (stride, stride), "pad_low": (pad, pad), "pad_high": (pad, pad)
    }  # fmt: skip
    y, index = b.emit_all("max_pool", x, **window)
    dy = b.input("dy", y.type)
    dx = b.emit("window_scatter", dy, index, shape=x.type.shape, **window)
    mean = b.emit("window_sum", b.maximum(x, 0.0), **window)
    back = b.emit("window_sum_transpose", dy, shape=x.type.shape, **window)
    return b.finish({"y": y, "index": index, "dx": dx, "mean": mean, "back": back})


def inputs_of(graph: Graph, special: bool) -> dict[str, torch.Tensor]:
    """Few distinct values, so that many are equal; on demand infinities and NaN among them."""
    random = np.random.default_rng(len(str(graph)))
    values = [-2.0, -1.0, 0.0, 1.0, 2.0] + [np.inf, -np.inf, np.nan] * special
    return {
        item.name: torch.from_numpy(
            random.choice(values if item.name == "x" else values[:5], [int(n) for n in item.value.type.shape])
        ).float()
        for item in graph.inputs
    }


def test_pooling_agrees_with_float64() -> None:
    cases = list(itertools.product([pooled(*shape) for shape in SHAPES], (False, True)))
    native = NativeGraphs([fuse(graph) for graph, _ in cases])
    given = [inputs_of(graph, special) for graph, special in cases]
    for (graph, special), inputs, got in zip(cases, given, native.run(given, {}), strict=True):
        compare(graph, inputs, got, f"{graph.inputs[0].value.type}, special values {special}")


def test_short_rows_are_read_from_tiles() -> None:
    generated = generate(fuse(pooled(6, 33, 3, 2, 1)))
    assert "gc_fill_row" in dict(generated.files)[f"{generated.name}.cpp"]
