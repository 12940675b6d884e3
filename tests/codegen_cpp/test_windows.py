"""Pooling and its gradients in short rows: what lies outside, the first of equals, NaN and infinity, odd sizes."""

import itertools
import re

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


# The same, and images: windows side by side in rows shorter than a vector.
SHORT_ROWS = [
    (8, 8, 2, 2, 0, 2),
    (12, 4, 2, 2, 0, 9),
    (10, 2, 2, 2, 0, 31),
    (8, 8, 2, 2, 0, 40),
    (8, 8, 4, 4, 0, 77),
]


def pooled(height: int, width: int, kernel: int, stride: int, pad: int, batch: int = 2) -> Graph:
    """The maximum and its place of relu(x), then the gradient that goes back to those places."""
    b = Builder("pooled")
    x = b.input("x", TensorType(DType.F32, (batch, 3, height, width)))
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
    cases = list(itertools.product([pooled(*shape) for shape in [*SHAPES, *SHORT_ROWS]], (False, True)))
    native = NativeGraphs([fuse(graph) for graph, _ in cases])
    given = [inputs_of(graph, special) for graph, special in cases]
    for (graph, special), inputs, got in zip(cases, given, native.run(given, {}), strict=True):
        compare(graph, inputs, got, f"{graph.inputs[0].value.type}, special values {special}")


def test_short_rows_are_read_from_tiles() -> None:
    generated = generate(fuse(pooled(6, 33, 3, 2, 1)))
    assert "gc_fill_row" in dict(generated.files)[f"{generated.name}.cpp"]


def scaled(height: int, width: int, kernel: int, stride: int, pad: int) -> Graph:
    """The maximum and the mean of what a normalisation leaves of x: numbers of a channel stand inside the window."""
    b = Builder("scaled")
    x = b.input("x", TensorType(DType.F32, (2, 3, height, width)))
    scale, shift = (
        b.emit("broadcast", b.input(name, TensorType(DType.F32, (3,))), shape=x.type.shape, axes=(1,))
        for name in ("scale", "shift")
    )
    window = {
        "kernel": (kernel, kernel), "stride": (stride, stride), "pad_low": (pad, pad), "pad_high": (pad, pad)
    }  # fmt: skip
    data = b.maximum(b.add(b.mul(x, scale), shift), 0.0)
    y, index = b.emit_all("max_pool", data, **window)
    return b.finish({"y": y, "index": index, "mean": b.emit("window_sum", data, **window)})


def test_what_a_channel_shares_is_read_before_the_lanes() -> None:
    graphs = [scaled(*shape) for shape in SHAPES]
    programs = [fuse(graph) for graph in graphs]
    given = [inputs_of(graph, special=True) for graph in graphs]
    for graph, inputs, got in zip(graphs, given, NativeGraphs(programs).run(given, {}), strict=True):
        compare(graph, inputs, got, str(graph.inputs[0].value.type))
    for program in programs[2:]:
        generated = generate(program)
        source = dict(generated.files)[f"{generated.name}.cpp"]
        loops = [match[0] for match in re.finditer(r"#pragma omp simd\n( *)for .*?\n\1}", source, re.DOTALL)]
        assert loops and not any("scale[" in loop or "shift[" in loop for loop in loops)


def test_windows_in_very_short_rows_are_stored_as_whole_vectors() -> None:
    generated = generate(fuse(pooled(8, 8, 2, 2, 0, 40)))
    text = dict(generated.files)[f"{generated.name}.cpp"]
    assert "* 16 + 15] = " in text and "[i0 * 16 + i1 * 8" not in text
    # Forward too: no thread's rows lie between another's.
    assert "max_pool[i0 * 4 + 3] = " in text and "max_pool[i0 * 4 + i1]" not in text
