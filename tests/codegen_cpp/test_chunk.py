"""Programs that run part by part, natively: a part's rows are where the launch's offsets say."""

import torch

from graphc.driver.compile import Options, lower
from support.graphs import random_inputs
from support.heads import LOSSES, head
from support.native_graphs import NativeGraphs, compare

PART = 128 * 320 * 4


def test_heads_in_parts_agree_with_float64() -> None:
    graphs = [head(loss, rows, 320, 24) for loss in LOSSES for rows in (256, 300)]
    programs = [lower(graph, Options(chunk_bytes=PART)).program for graph in graphs]
    assert all(any(step.offsets for step in program.steps) for program in programs)
    native = NativeGraphs(programs)
    inputs = [random_inputs(graph, seed) for seed, graph in enumerate(graphs)]
    for given in inputs:
        given["label"] = torch.randint(0, 320, given["label"].shape).float()
        for name in given.keys() - {"label"}:
            given[name] *= 0.1
    for graph, given, got in zip(graphs, inputs, native.run(inputs, {}), strict=True):
        compare(graph, given, got, graph.name)
