"""The same kernels, graphs and models on a real device."""

import pytest
import torch

from graphc.codegen.triton import generate
from graphc.passes.fusion import fuse
from graphc.passes.manager import PassManager, default_pipeline
from graphc.runtime.gpu import load
from support import cpp_cases as c
from support.graphs import random_graph, random_inputs
from support.kernels import program_of
from support.native_programs import check, joined
from support.triton_programs import Kernels, assert_matches_reference, on_gpu, run_graphs
from support.triton_suites import SUITES

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("suite", SUITES)
def test_suite(suite: str) -> None:
    cases, all_sizes = SUITES[suite]()
    # The device's exponential and division are off by up to 2 units in the last place.
    looser = [type(case)(case.kernel, case.expected, 4 * case.tolerance) for case in cases]
    kernels = Kernels(joined([case.kernel for case in cases]), on_gpu)
    for sizes in all_sizes:
        check(kernels, looser, **sizes)  # type: ignore[arg-type]


def test_sizes_of_real_models() -> None:
    cases = [
        c.gelu_residual(8192, 1024, "gelu"),
        c.softmax(4096, 4096, "softmax"),
        c.cross_entropy(1024, 8192, "entropy"),
        c.layer_norm(8192, 1024, "norm"),
        c.batch_norm(32, 64, 3136, "bn"),
        c.column_statistics(4096, 1024, "columns"),
        c.transpose_scale(2048, 2048, "transpose"),
        c.dense(1024, 512, 768, False, True, name="fc"),
        c.dense(1024, 512, 768, False, True, "f16", name="half"),
    ]
    looser = [type(case)(case.kernel, case.expected, max(1e-4, 4 * case.tolerance)) for case in cases]
    check(Kernels(joined([case.kernel for case in cases]), on_gpu), looser)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", range(5))
def test_random_graphs(batch: int) -> None:
    seeds = range(batch * 40, (batch + 1) * 40)
    graphs = [random_graph(seed) for seed in seeds]
    programs = [fuse(PassManager(default_pipeline(2)).run(graph)[0]) for graph in graphs]
    sizes = {"N": 3 + batch}
    inputs = [random_inputs(graph, seed, sizes) for graph, seed in zip(graphs, seeds, strict=True)]
    results = run_graphs(programs, inputs, sizes, on_gpu)
    for seed, graph, given, got in zip(seeds, graphs, inputs, results, strict=True):
        assert_matches_reference(graph, given, got, f"random_graph({seed})", tolerance=2e-3)


def test_a_captured_run_replays() -> None:
    generated = generate(program_of(c.gelu_residual(64, 1024).kernel))
    tensors = [torch.randn(int(b.type.size), device="cuda") for b in generated.buffers]  # type: ignore[arg-type]
    program = load(generated)
    program.run(tensors)
    torch.cuda.synchronize()
    expected = tensors[-1].clone()
    replay = program.capture(tensors)
    tensors[-1].zero_()
    replay()
    torch.cuda.synchronize()
    assert torch.equal(tensors[-1], expected)


def test_every_run_gives_the_same_bits() -> None:
    case = c.batch_norm(64, 2, 40960, "bn")
    generated = generate(program_of(case.kernel))
    given = [torch.randn(int(b.type.size), device="cuda") for b in generated.buffers]  # type: ignore[arg-type]
    first, second = [t.clone() for t in given], [t.clone() for t in given]
    program = load(generated)
    program.run(first)
    program.run(second)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
