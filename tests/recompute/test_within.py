"""A program stays within its memory budget, or the error names the lowest budget that can be met."""

import re
from functools import cache

import pytest

import graphc as mx
from graphc.diagnostics import GraphcError
from graphc.driver.compile import Options, compile, lower
from graphc.ir.graph import Graph
from graphc.ir.program import Program
from graphc.passes.fusion import FusionOptions, fuse
from graphc.passes.fusion.within import fuse_within
from graphc.passes.gradient import gradient
from graphc.passes.plan import plan
from graphc.passes.recompute import Budget
from graphc.passes.split import split
from graphc.symbol.trace import trace
from graphc.training import training_graph
from support.deep_networks import chain, transformer, values
from support.same_bits import same_steps

ROWS = 64


@cache
def optimized(layers: int) -> Graph:
    return lower(chain(layers, 32, ROWS), Options(constants=False), "reference").optimized


def within(graph: Graph, budget: str | float) -> Program:
    return fuse_within(graph, FusionOptions(), Budget.of(budget))


def more_operations(program: Program) -> float:
    assert program.recomputed is not None
    return program.recomputed.more / program.recomputed.operations


@pytest.mark.parametrize(("layers", "fraction"), [(40, 0.9), (40, 0.6), (40, 0.35), (100, 0.25)])
def test_a_fraction_of_the_plain_plan(layers: int, fraction: float) -> None:
    graph = optimized(layers)
    plain = plan(fuse(graph)).size
    program = within(graph, fraction)
    assert program.recomputed is not None and program.recomputed.plain == plain
    assert plan(program).size <= fraction * plain
    assert 0 < more_operations(program) < 0.35


def test_less_memory_costs_more_operations() -> None:
    graph = optimized(40)
    costs = [more_operations(within(graph, fraction)) for fraction in (0.9, 0.7, 0.5, 0.35)]
    assert costs == sorted(costs) and len(set(costs)) == 4


def least(graph: Graph) -> float:
    with pytest.raises(GraphcError) as caught:
        within(graph, 0.0001)
    assert caught.value.diagnostic.code == "G609"
    found = re.search(r"the lowest that can is ([0-9.]+)", caught.value.diagnostic.message)
    assert found is not None
    return float(found[1])


def test_the_least_grows_like_the_square_root_of_the_layers() -> None:
    sizes = {}
    for layers in (25, 100):
        graph = optimized(layers)
        lowest = least(graph)
        program = within(graph, lowest)
        assert more_operations(program) < 0.35
        sizes[layers] = plan(program).size
        # One ten-thousandth less is refused.
        with pytest.raises(GraphcError):
            within(graph, round(lowest - 0.0001, 4))
    assert sizes[100] < 2.3 * sizes[25]


def test_a_small_transformer_within_six_tenths() -> None:
    graph = transformer(5, 2, 16, 32, 2, 24)
    graph = lower(graph, Options(constants=False), "reference").optimized
    plain = plan(fuse(graph)).size
    program = within(graph, 0.6)
    assert plan(program).size <= 0.6 * plain
    assert more_operations(program) < 0.35


def test_a_budget_that_is_large_enough_changes_nothing() -> None:
    graph = optimized(25)
    assert within(graph, 1.0) == fuse(graph) == within(graph, "1GB")


def test_bytes_count_parameters_and_outputs_too() -> None:
    graph = optimized(25)
    plain = fuse(graph)
    held = sum(
        int(buffer.type.nbytes) for buffer in plain.buffers if buffer.role.value in ("state", "output")
    )
    arena = plan(plain).size
    program = within(graph, str(held + arena // 2))
    assert plan(program).size <= arena // 2
    with pytest.raises(GraphcError) as caught:
        within(graph, str(held))
    message = caught.value.diagnostic.message
    found = re.search(r"lowest that can is ([0-9,]+) bytes", message)
    assert found is not None and f"{held:,} of parameters, states and outputs" in message
    lowest = int(found[1].replace(",", ""))
    assert plan(within(graph, str(lowest))).size + held == lowest
    with pytest.raises(GraphcError):
        within(graph, str(lowest - 1))


def test_named_dimensions_need_a_size() -> None:
    data = mx.sym.Variable("data")
    for layer in range(12):
        data = mx.sym.Activation(
            mx.sym.FullyConnected(data, num_hidden=16, name=f"fc{layer}"), act_type="tanh"
        )
    net = mx.sym.LinearRegressionOutput(data, name="out")
    graph = training_graph(net, mx.optimizer.SGD(0.1), shapes={"data": ("N", 16), "out_label": ("N", 16)})
    with pytest.raises(GraphcError) as caught:
        lower(graph, Options(memory_budget=0.6))
    assert caught.value.diagnostic.code == "G602" and "N" in caught.value.diagnostic.message
    options = Options(memory_budget=0.6, budget_sizes={"N": 512})
    program = lower(graph, options, "reference").program
    plain = lower(graph, None, "reference").program
    assert plan(program, {"N": 512}).size <= 0.6 * plan(plain, {"N": 512}).size
    # It runs for other sizes too.
    assert plan(program, {"N": 7}).size < plan(plain, {"N": 7}).size


def test_half_a_program_has_its_own_budget() -> None:
    """A forward part returns what backward needs: its outputs count, and no budget makes them smaller."""
    net = mx.sym.Variable("data")
    for layer in range(6):
        net = mx.sym.Activation(mx.sym.FullyConnected(net, num_hidden=8, name=f"fc{layer}"), act_type="tanh")
    graph = trace(
        mx.sym.SoftmaxOutput(net, name="softmax"), {"data": (4, 8), "softmax_label": (4,)}, None, True
    )
    joint = gradient(graph, [item.name for item in graph.inputs if item.kind.value == "parameter"])
    forward, _ = split(joint, graph.output_names)
    with pytest.raises(GraphcError) as caught:
        compile(forward, target="reference", memory_budget="1KB")
    assert caught.value.diagnostic.code == "G609"


@pytest.mark.parametrize("budget", ["60%", "5.2MB"])
def test_compiled_steps_keep_every_bit(budget: str) -> None:
    """Three steps with dropout, moving averages and momentum in C++; what is allocated is what was planned."""
    graph = chain(10, 256, 512, "relu", dropout=0.3, normalized=True)
    states = values(graph)
    if budget.endswith("MB"):
        held = compile(graph).memory()["bytes"]
        budget = str(held["state"] + held["output"] + int(7.5e6))
    plain, within_budget = compile(graph), compile(graph, memory_budget=budget)
    assert within_budget.program.recomputed is not None
    assert within_budget.plan().size < plain.plan().size
    report = within_budget.memory()
    assert report["recompute"]["plain_arena"] == plain.plan().size
    frame = within_budget.backend.frame({})
    assert frame._arena.nbytes == report["arena"]["planned"]
    same_steps(plain, within_budget, states)
