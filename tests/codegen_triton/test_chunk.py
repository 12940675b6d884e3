"""Programs that run part by part as Triton kernels: launches take slices of the buffers."""

import torch

from graphc.codegen.triton import generate
from graphc.driver.compile import Options, lower
from graphc.runtime.gpu.interpreter import Interpreter
from support.graphs import random_inputs
from support.heads import head
from support.triton_programs import assert_matches_reference, run_graphs


def test_a_head_in_parts(interpreter: Interpreter) -> None:
    graphs = [head("cross_entropy", rows, 300, 8) for rows in (256, 260)]
    programs = [lower(graph, Options(chunk_bytes=128 * 300 * 4), "gpu").program for graph in graphs]
    number = next(n for n, buffer in enumerate(programs[0].buffers) if buffer.name == "label")
    assert f"buffers[{number}][128:]" in generate(programs[0]).source
    inputs = [random_inputs(graph, seed) for seed, graph in enumerate(graphs)]
    for given in inputs:
        given["label"] = torch.randint(0, 300, given["label"].shape).float()
        for name in given.keys() - {"label"}:
            given[name] *= 0.1
    for graph, given, got in zip(
        graphs, inputs, run_graphs(programs, inputs, {}, interpreter.run), strict=True
    ):
        assert_matches_reference(graph, given, got, graph.name)
