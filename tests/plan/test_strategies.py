"""Every memory strategy keeps live tensors apart and gives the same numbers; each is no better than it promises."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import graphc as mx
from graphc.diagnostics import GraphcError
from graphc.driver.compile import Options, lower
from graphc.driver.kernel_interpreter import run_program
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph
from graphc.ir.program import Plan, Role
from graphc.passes.fusion import FusionOptions, fuse
from graphc.passes.gradient import gradient
from graphc.passes.offsets import (
    MATCH_RANGE,
    STRATEGIES,
    Block,
    best_offsets,
    live_bytes,
    separate,
    share_freed,
)
from graphc.passes.plan import plan
from graphc.symbol.trace import trace
from graphc.types import TensorType
from support.fusion_checks import check_program, sizes_of
from support.graphs import random_graph, random_inputs


def blocks_of(lives: list[tuple[int, int, int]]) -> list[Block]:
    return [Block(k, size, size, first, last) for k, (size, first, last) in enumerate(lives)]


def assert_apart(made: Plan) -> None:
    for k, p in enumerate(made.placements):
        for q in made.placements[k + 1 :]:
            together = p.lifetime.first <= q.lifetime.last and q.lifetime.first <= p.lifetime.last
            assert not together or p.offset + p.size <= q.offset or q.offset + q.size <= p.offset, (p, q)


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 15), st.integers(0, 8)), max_size=25))
def test_blocks_that_live_together_lie_apart(drawn: list[tuple[int, int, int]]) -> None:
    blocks = blocks_of([(size, first, first + length) for size, first, length in drawn])
    for name, place in STRATEGIES.items():
        offsets = place(blocks)
        assert offsets.keys() == {block.buffer for block in blocks}
        for one in blocks:
            for other in blocks[one.buffer + 1 :]:
                apart = one.last < other.first or other.last < one.first
                a, b = offsets[one.buffer], offsets[other.buffer]
                assert apart or a + one.size <= b or b + other.size <= a, name


def test_a_freed_place_serves_the_next_block_and_grows() -> None:
    # 100 is freed before 300 comes: its place grows; 90 fits into 120 rather than into 300.
    offsets = share_freed(blocks_of([(100, 0, 0), (120, 0, 1), (300, 1, 1), (90, 2, 2)]))
    assert offsets == {0: 0, 2: 0, 1: 300, 3: 300}


def test_places_of_very_different_size_are_not_shared() -> None:
    def shared(size: int) -> bool:
        offsets = share_freed(blocks_of([(10, 0, 0), (size, 1, 1)]))
        return offsets[0] == offsets[1]

    assert shared(10 * MATCH_RANGE)
    assert not shared(10 * MATCH_RANGE + 1)


def test_separate_shares_nothing() -> None:
    assert separate(blocks_of([(64, 0, 0), (128, 1, 1), (64, 2, 2)])) == {0: 0, 1: 64, 2: 192}


def test_search_mends_what_every_greedy_order_gets_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = blocks_of([(384, 1, 5), (448, 3, 6), (448, 6, 6), (320, 4, 9), (576, 2, 3), (192, 6, 8)])

    def arena() -> int:
        offsets = best_offsets(blocks)
        return max(offsets[block.buffer] + block.size for block in blocks)

    assert arena() == max(live_bytes(blocks, 10)) == 1408
    monkeypatch.setattr("graphc.passes.offsets.EFFORT", 0)
    assert arena() == 1728


@pytest.mark.parametrize("seed", range(0, 60, 2))
def test_random_graphs_in_a_poisoned_arena(seed: int) -> None:
    graph = random_graph(seed)
    inputs = random_inputs(graph, seed)
    sizes = sizes_of(graph, inputs)
    expected = run_reference(graph, inputs)
    for strategy in STRATEGIES:
        program = lower(graph, Options(memory=strategy, constants=False)).program
        made = plan(program, sizes, strategy)
        assert made.lower_bound <= made.size <= made.naive
        assert_apart(made)
        got = run_program(program, inputs, plan=made)
        for name, value in (expected.outputs | expected.updates).items():
            found = (got.outputs | got.updates)[name]
            torch.testing.assert_close(found.double(), value.double(), rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("start", range(1000, 1500, 50))
def test_no_two_live_tensors_overlap(start: int) -> None:
    for seed in range(start, start + 50):
        graph = random_graph(seed)
        program = fuse(graph)
        for strategy in STRATEGIES:
            assert_apart(plan(program, dict.fromkeys(graph.symbols, 3), strategy))


def picture_classifier() -> Graph:
    """The training graph of a convolution whose ReLU is pooled: only the mask and the positions are needed later."""
    data = mx.sym.Variable("data")
    convolution = mx.sym.Convolution(data, kernel=(3, 3), num_filter=4, pad=(1, 1), name="conv")
    active = mx.sym.Activation(convolution, act_type="relu", name="relu")
    pool = mx.sym.Pooling(active, kernel=(2, 2), stride=(2, 2), pool_type="max", name="pool")
    scores = mx.sym.FullyConnected(mx.sym.Flatten(pool), num_hidden=3, name="fc")
    symbol = mx.sym.SoftmaxOutput(scores, name="softmax")
    graph = trace(symbol, {"data": (2, 3, 8, 8), "softmax_label": (2,)}, is_train=True)
    return gradient(graph, ["conv_weight", "conv_bias", "fc_weight", "fc_bias"])


def test_where_memory_is_dear_a_mask_is_kept_instead_of_the_result() -> None:
    plain, thrifty = (
        lower(picture_classifier(), Options(fusion=FusionOptions(thrifty_peak=bytes))).program
        for bytes in (1 << 30, 0)
    )
    assert plan(thrifty).size <= 0.75 * plan(plain).size
    assert any(
        buffer.type == TensorType.parse("bool[2,4,8,8]") and buffer.role is Role.INTERMEDIATE
        for buffer in thrifty.buffers
    )
    for program in (plain, thrifty):
        check_program(program.graph, program)


def chain() -> tuple[mx.Symbol, dict[str, tuple[int, int]]]:
    """Products, each with an activation that may take over its memory."""
    result = mx.sym.Variable("data")
    for number in range(4):
        result = mx.sym.FullyConnected(result, num_hidden=256, no_bias=True, name=f"fc{number}")
    return result, {"data": (256, 256)}


def traced() -> Graph:
    symbol, shapes = chain()
    return trace(symbol, shapes)


def test_sharing_two_places_is_enough_for_a_chain() -> None:
    sizes = {
        name: plan(lower(traced(), Options(memory=name)).program, strategy=name).size for name in STRATEGIES
    }
    whole = 256 * 256 * 4
    assert sizes["none"] == 3 * whole
    assert sizes["both"] == sizes["optimal"] == 2 * whole
    assert sizes["optimal"] <= sizes["both"] <= sizes["inplace"] <= sizes["none"]
    assert sizes["both"] <= sizes["coshare"] <= sizes["none"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_executable_has_the_plan_that_was_asked_for(strategy: str) -> None:
    symbol, shapes = chain()
    executable = mx.compile(symbol, shapes=shapes, target="reference", options=Options(memory=strategy))
    assert executable.plan().size == plan(executable.program, strategy=strategy).size


def test_an_unknown_strategy_is_named() -> None:
    with pytest.raises(GraphcError, match="optimum"):
        Options(memory="optimum")
    with pytest.raises(GraphcError, match="both"):
        plan(lower(traced()).program, strategy="bot")
