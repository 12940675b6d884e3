"""Attention from Triton's templates: interpreted on small odd shapes, compiled to sm_90 at real sizes."""

from __future__ import annotations

import pytest
import torch

from graphc.codegen.triton import GpuTarget, generate
from graphc.driver.compile import lower
from graphc.ir.graph import Graph
from graphc.ir.program import Program
from graphc.runtime.gpu import compile_for
from graphc.runtime.gpu.interpreter import Interpreter
from graphc.types import DType
from support.attention_graphs import FORMS, N, with_gradient
from support.graphs import random_inputs
from support.triton_programs import assert_matches_reference, run_graphs

SMALL = {
    "odd": with_gradient((2,), 5, 7, 3, 6),
    "ones": with_gradient((1,), 1, 1, 1, 1, causal=True),
    "several blocks": with_gradient((2, 1), 150, 70, 20, 17, causal=True, bias=True),
    "last query sees all": with_gradient((), 9, 40, 16, 16, causal=True, offset=31),
    "rows that see nothing": with_gradient((2,), 20, 11, 5, 3, causal=True, offset=-4),
    "named sizes": with_gradient((2,), N, N + 3, 8, 8, causal=True),
    "dropout": with_gradient((2,), 40, 37, 5, 6, causal=True, bias=True, keep=0.7),
    "dropout of named sizes": with_gradient((), N, 7, 3, 2, keep=0.5),
    "f16": with_gradient((2,), 33, 40, 16, 16, dtype=DType.F16),
}


def compiled(graph: Graph) -> Program:
    return lower(graph, target="gpu").program


def test_small_shapes(interpreter: Interpreter) -> None:
    graphs = [*SMALL.values(), *(graph for graph, _ in FORMS.values())]
    sizes = {"N": 37}
    programs = [compiled(graph) for graph in graphs]
    inputs = [random_inputs(graph, k, sizes) for k, graph in enumerate(graphs)]
    for graph, given in zip(graphs, inputs, strict=True):
        given.update({i.name: given[i.name].to(i.value.type.dtype.torch) for i in graph.inputs})
    results = run_graphs(programs, inputs, sizes, interpreter.run)
    for graph, given, got, label in zip(graphs, inputs, results, [*SMALL, *FORMS], strict=True):
        assert_matches_reference(graph, given, got, label)


def test_all_rows_hidden_by_a_mask_are_nan(interpreter: Interpreter) -> None:
    graph, _ = FORMS["padded"]
    given = random_inputs(graph, 0)
    given = {i.name: given[i.name].to(i.value.type.dtype.torch) for i in graph.inputs}
    given["mask"][0] = -torch.inf
    (got,) = run_graphs([compiled(graph)], [given], {}, interpreter.run)
    out = got["out"].reshape(2, 3, 5, 6)
    assert torch.isnan(out[0]).all() and not torch.isnan(out[1]).any()


def test_no_template_where_registers_would_not_do() -> None:
    for graph in (with_gradient((2,), 8, 8, 300, 4), with_gradient((2,), 8, 8, 4, 4, dtype=DType.F64)):
        assert not any(kernel.anchor and kernel.anchor.results for kernel in compiled(graph).kernels)


def test_nothing_is_added_across_programs() -> None:
    source = generate(compiled(with_gradient((2,), 64, 64, 64, 64))).source
    assert "atomic" not in source
    assert source.count("@triton.jit") == 4


@pytest.mark.parametrize("dtype", [DType.BF16, DType.F32], ids=str)
@pytest.mark.parametrize("depth", [40, 64, 128, 256])
def test_compiles_without_spills(dtype: DType, depth: int) -> None:
    graph = with_gradient((4, 12), 512, 512, depth, depth, causal=True, dtype=dtype)
    reports = compile_for(generate(compiled(graph)))
    assert len(reports) == 4
    for report in reports:
        assert report.spills <= 16, report
        assert report.shared_bytes <= GpuTarget().shared_bytes, report


def test_compiles_with_dropout() -> None:
    graph = with_gradient((4, 12), 512, 512, 64, 64, causal=True, keep=0.9, dtype=DType.BF16)
    reports = compile_for(generate(compiled(graph)))
    assert len(reports) == 4
    for report in reports:
        assert report.spills <= 16, report


def test_compiles_for_named_sizes_with_a_bias() -> None:
    graph = with_gradient((4, 12), N, N, 64, 64, bias=True, dtype=DType.BF16)
    for report in compile_for(generate(compiled(graph))):
        assert report.spills <= 16, report
