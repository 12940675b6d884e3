"""The arena: no two live buffers overlap, bounds hold, memory is reported in the user's words."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphc.diagnostics import GraphcError
from graphc.ir.graph import Graph
from graphc.ir.program import Buffer, Plan, Program, Role, Step
from graphc.passes.fusion import fuse, unfused
from graphc.passes.memory import memory_report, memory_text
from graphc.passes.plan import ALIGNMENT, plan
from graphc.types import DType, TensorType
from support.fusion_cases import attention, batch_norm_statistics, layer_norm_backward
from support.graphs import random_graph


def assert_sound(program: Program, made: Plan) -> None:
    """Live buffers are disjoint, aligned and inside; the bounds are in order."""
    assert made.lower_bound <= made.size <= made.naive
    for p in made.placements:
        assert p.offset % ALIGNMENT == 0
        assert 0 <= p.offset <= p.offset + p.size <= made.size
    for k, p in enumerate(made.placements):
        for q in made.placements[k + 1 :]:
            apart = p.lifetime.last < q.lifetime.first or q.lifetime.last < p.lifetime.first
            assert apart or p.offset + p.size <= q.offset or q.offset + q.size <= p.offset, (p, q)
    touched = {
        index
        for step in program.steps
        for index in step.arguments
        if program.buffers[index].role is Role.INTERMEDIATE
    }
    assert touched <= set(made.offsets())


def program_of(lives: list[tuple[int, int, int]]) -> Program:
    """A program whose buffers live as given: bytes, first and last step."""
    steps = max((last for _, _, last in lives), default=-1) + 1
    buffers = tuple(
        Buffer(f"b{k}", TensorType(DType.U8, (size,)), Role.INTERMEDIATE)
        for k, (size, _, _) in enumerate(lives)
    )
    used = tuple(
        Step(0, tuple(k for k, (_, first, last) in enumerate(lives) if step in (first, last)))
        for step in range(steps)
    )
    return Program("p", Graph("p", (), (), ()), buffers, (), used, (), (), ())


@st.composite
def lifetimes(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    count = draw(st.integers(0, 25))
    result = []
    for _ in range(count):
        first = draw(st.integers(0, 15))
        result.append((draw(st.integers(0, 1000)), first, first + draw(st.integers(0, 8))))
    return result


@given(lifetimes())
def test_buffers_that_live_together_lie_apart(lives: list[tuple[int, int, int]]) -> None:
    program = program_of(lives)
    assert_sound(program, plan(program))


def test_memory_is_reused_when_it_is_free() -> None:
    made = plan(program_of([(100, 0, 1), (100, 1, 2), (100, 2, 3), (100, 3, 4)]))
    assert made.naive == 512
    assert made.size == made.lower_bound == 256


def test_a_better_order_than_by_size_is_found() -> None:
    # By size alone the long-lived small buffer lands above the two large ones that never live together.
    made = plan(program_of([(640, 0, 1), (64, 0, 5), (576, 2, 3), (640, 4, 5)]))
    assert made.size == made.lower_bound == 704


@pytest.mark.parametrize("seed", range(40))
def test_plans_of_programs_are_sound(seed: int) -> None:
    graph = random_graph(seed)
    sizes = dict.fromkeys(graph.symbols, 5)
    for program in (fuse(graph), unfused(graph)):
        assert_sound(program, plan(program, sizes))


def test_a_program_without_intermediates_needs_no_arena() -> None:
    made = plan(fuse(attention()))
    assert made.size > 0
    empty = plan(program_of([]))
    assert (empty.size, empty.naive, empty.lower_bound, empty.placements) == (0, 0, 0, ())


def test_a_missing_size_is_named() -> None:
    with pytest.raises(GraphcError) as caught:
        plan(fuse(layer_norm_backward()))
    assert caught.value.diagnostic.code == "G602"
    assert "dimension N" in str(caught.value)


def test_plans_are_for_given_sizes() -> None:
    program = fuse(layer_norm_backward())
    small, large = plan(program, {"N": 16}), plan(program, {"N": 1600})
    assert dict(small.sizes) == {"N": 16}
    assert large.size == 100 * small.size
    assert json.loads(json.dumps(small.to_json()))["size"] == small.size


def test_workspace_lies_in_the_arena() -> None:
    program = program_of([(100, 0, 1)])
    workspace = Buffer("scratch", TensorType(DType.F32, (64,)), Role.WORKSPACE)
    steps = (program.steps[0], Step(0, (0, 1)))
    program = Program("p", program.graph, (*program.buffers, workspace), (), steps, (), (), ())
    made = plan(program)
    assert {p.buffer for p in made.placements} == {0, 1}
    assert_sound(program, made)


def test_the_report_names_operators_and_lines(golden) -> None:
    program = fuse(batch_norm_statistics())
    made = plan(program)
    report = memory_report(program, made)
    assert json.loads(json.dumps(report)) == report
    assert report["arena"]["planned"] == made.size
    assert report["bytes"]["state"] == 2 * 64 * 4
    assert all(
        row["operator"] == "BatchNorm bn" and row["line"] == "model.py:1" for row in report["peak"]["live"]
    )
    golden("plan/memory.txt", memory_text(report))
