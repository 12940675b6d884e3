"""Random graphs, optimized, fused, interpreted, against the float64 reference."""

import pytest

from graphc.passes.fusion import fuse, unfused
from graphc.passes.manager import PassManager, default_pipeline
from graphc.runtime.gpu.interpreter import Interpreter
from support.graphs import random_graph, random_inputs
from support.triton_programs import assert_matches_reference, run_graphs

BATCH = 10


def check_seeds(seeds: range, n: int, interpreter: Interpreter, fused: bool = True) -> None:
    graphs = [random_graph(seed) for seed in seeds]
    lower = fuse if fused else unfused
    programs = [lower(PassManager(default_pipeline(2)).run(graph)[0]) for graph in graphs]
    sizes = {"N": n}
    inputs = [random_inputs(graph, seed, sizes) for graph, seed in zip(graphs, seeds, strict=True)]
    results = run_graphs(programs, inputs, sizes, interpreter.run)
    for seed, graph, given, got in zip(seeds, graphs, inputs, results, strict=True):
        assert_matches_reference(graph, given, got, f"random_graph({seed})")


@pytest.mark.parametrize("batch", range(4))
def test_fused_graphs_agree_with_float64(batch: int, interpreter: Interpreter) -> None:
    check_seeds(range(batch * BATCH, (batch + 1) * BATCH), 3 + batch, interpreter)


def test_graphs_without_fusion_agree_with_float64(interpreter: Interpreter) -> None:
    check_seeds(range(300, 306), 4, interpreter, fused=False)
