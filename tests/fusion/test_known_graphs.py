"""Graphs whose fusion is known: their kernels as golden text, agreement with the reference, memory."""

import pytest

from graphc.ir.kernel_text import print_program
from graphc.passes.fusion import fuse, unfused
from graphc.passes.plan import plan
from support.fusion_cases import CASES
from support.fusion_checks import check_program


@pytest.mark.parametrize("name", CASES)
def test_kernels_are_as_expected(name: str, golden) -> None:
    make, count = CASES[name]
    program = fuse(make())
    golden(f"fusion/{name}.txt", print_program(program))
    assert len(program.steps) == count


@pytest.mark.parametrize("name", [name for name in CASES if name != "batch_norm_statistics"])
def test_programs_agree_with_the_reference(name: str) -> None:
    graph = CASES[name][0]()
    check_program(graph, fuse(graph), sizes=dict.fromkeys(graph.symbols, 3))


@pytest.mark.parametrize("name", CASES)
def test_the_peak_is_no_higher_than_unfused(name: str) -> None:
    graph = CASES[name][0]()
    sizes = dict.fromkeys(graph.symbols, 64)
    assert plan(fuse(graph), sizes).lower_bound <= plan(unfused(graph), sizes).lower_bound
