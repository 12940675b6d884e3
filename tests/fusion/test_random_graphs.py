"""Random graphs, fused and unfused, agree with the float64 reference and never need more memory than unfused."""

import pytest

from graphc.ir.kernel_parse import parse_kernel
from graphc.ir.kernel_text import print_kernel
from graphc.passes.fusion import FusionOptions, fuse, unfused
from support.fusion_checks import check_program
from support.graphs import random_graph


@pytest.mark.parametrize("seed", range(60))
def test_fused_program_agrees_with_the_reference(seed: int) -> None:
    graph = random_graph(seed)
    fused, plain = fuse(graph), unfused(graph)
    made = check_program(graph, fused, seed)
    assert made.lower_bound <= check_program(graph, plain, seed).lower_bound
    assert len(fused.steps) <= len(plain.steps)


@pytest.mark.parametrize("seed", range(100, 112))
@pytest.mark.parametrize(
    "options",
    [
        FusionOptions(in_place=False, horizontal=False),
        FusionOptions(conservative=True, merge=False),
        FusionOptions(max_row_elements=2, min_parallel=1),
        FusionOptions(max_nodes=3, max_nests=2),
    ],
    ids=["plain", "careful", "short rows", "small kernels"],
)
def test_every_option_keeps_the_numbers(seed: int, options: FusionOptions) -> None:
    graph = random_graph(seed)
    check_program(graph, fuse(graph, options), seed)


@pytest.mark.parametrize("seed", range(60, 75))
def test_text_of_every_kernel_parses_back(seed: int) -> None:
    for kernel in fuse(random_graph(seed)).kernels:
        assert parse_kernel(print_kernel(kernel)) == kernel


def test_the_same_graph_gives_the_same_program() -> None:
    assert fuse(random_graph(7)) == fuse(random_graph(7))
