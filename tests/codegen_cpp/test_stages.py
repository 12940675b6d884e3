"""Maps whose dear functions follow from one another run in stages, with the same results."""

import torch

from graphc.codegen.cpp import generate
from graphc.ir.graph import Graph
from graphc.passes.fusion import fuse
from graphc.primitives.builder import Builder
from graphc.types import DType, TensorType
from support.native_graphs import NativeGraphs, compare

LENGTHS = (1, 16, 255, 257, 1000)


def chained(length: int) -> Graph:
    """Functions of functions; an early one is also stored, and a comparison is read late."""
    b = Builder("chained")
    x, y = (b.input(name, TensorType(DType.F32, (length,))) for name in "xy")
    bent = b.tanh(b.add(b.mul(x, y), x))
    positive = b.gt(b.exp(x), 1.0)
    ratio = b.div(x, b.add(b.sqrt(b.abs(b.mul(bent, y))), 1.0))
    z = b.where(positive, b.sigmoid(ratio), b.sub(b.exp(b.tanh(ratio)), bent))
    return b.finish({"z": z, "bent": bent})


def short(length: int) -> Graph:
    b = Builder("short")
    x = b.input("x", TensorType(DType.F32, (length,)))
    return b.finish({"y": b.add(b.tanh(x), b.exp(x))})


def test_stages_agree_with_float64() -> None:
    graphs = [chained(length) for length in LENGTHS]
    native = NativeGraphs([fuse(graph) for graph in graphs])
    given = [{name: torch.randn(n, dtype=torch.float32) for name in "xy"} for n in LENGTHS]
    for values in given:
        values["x"][0] = torch.nan
    for length, graph, inputs, got in zip(LENGTHS, graphs, given, native.run(given, {}), strict=True):
        compare(graph, inputs, got, f"chained({length})")


def loops(graph: Graph) -> int:
    files = generate(fuse(graph)).files
    return sum(text.count("#pragma omp simd") for name, text in files if name.endswith(".cpp"))


def test_only_long_chains_have_stages() -> None:
    assert loops(chained(1000)) == 4  # tanh; sqrt and div; sigmoid and tanh; exp
    assert loops(short(1000)) == 1
