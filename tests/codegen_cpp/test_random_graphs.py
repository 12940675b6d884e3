"""Random graphs, optimized, fused, compiled natively, against the float64 reference."""

import pytest

from graphc.passes.fusion import fuse, unfused
from graphc.passes.manager import PassManager, default_pipeline
from support.graphs import random_graph, random_inputs
from support.native_graphs import NativeGraphs, compare

BATCH = 20


@pytest.mark.parametrize("batch", range(10))
def test_fused_graphs_agree_with_float64(batch: int) -> None:
    seeds = range(batch * BATCH, (batch + 1) * BATCH)
    graphs = [random_graph(seed) for seed in seeds]
    programs = [fuse(PassManager(default_pipeline(2)).run(graph)[0]) for graph in graphs]
    native = NativeGraphs(programs)
    sizes = {"N": 3 + batch}
    inputs = [random_inputs(graph, seed, sizes) for graph, seed in zip(graphs, seeds, strict=True)]
    results = native.run(inputs, dict.fromkeys(native.program.symbols, sizes["N"]))
    for seed, graph, given, got in zip(seeds, graphs, inputs, results, strict=True):
        compare(graph, given, got, f"random_graph({seed})")


def test_graphs_without_fusion_agree_with_float64() -> None:
    graphs = [random_graph(seed) for seed in range(BATCH // 2)]
    native = NativeGraphs([unfused(graph) for graph in graphs])
    inputs = [random_inputs(graph, seed, {"N": 2}) for seed, graph in enumerate(graphs)]
    results = native.run(inputs, dict.fromkeys(native.program.symbols, 2))
    for seed, (graph, given, got) in enumerate(zip(graphs, inputs, results, strict=True)):
        compare(graph, given, got, f"random_graph({seed}) without fusion")
