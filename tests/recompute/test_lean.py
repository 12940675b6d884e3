"""By default a training step makes again what memory bounds: less arena, a bounded cost, the same bits."""

from dataclasses import replace

import pytest

import graphc as mx
from graphc.driver.compile import Options, compile, lower
from graphc.ir.graph import Graph
from graphc.ir.program import Program
from graphc.passes.fusion import FusionOptions, fuse, fuse_lean
from graphc.passes.fusion.fuse import fuse_again
from graphc.passes.plan import plan
from graphc.symbol.trace import trace
from support.deep_networks import chain, transformer, values
from support.same_bits import run, same_bits, same_steps

EAGER = FusionOptions(thrifty_peak=0)
NETWORKS = {
    "batch norm": lambda: chain(6, 12, 20, "relu", normalized=True),
    "batch norm and dropout": lambda: chain(6, 12, 20, "tanh", dropout=0.3, normalized=True),
    "primes": lambda: chain(7, 13, 31, "relu", normalized=True),
    "transformer": lambda: transformer(3, 8, 32, 32, 2, 11, dropout=0.2),
}


def optimized(graph: Graph) -> Graph:
    return lower(graph, Options(constants=False), "reference").optimized


def anchors(program: Program) -> int:
    return sum(program.kernels[step.kernel].anchor is not None for step in program.steps)


@pytest.mark.parametrize("name", NETWORKS)
def test_less_memory_and_the_same_bits(name: str) -> None:
    graph = optimized(NETWORKS[name]())
    plain, lean = fuse(graph, EAGER), fuse_lean(graph, EAGER, 0.2)
    assert lean.recomputed is not None and lean.recomputed.launches > 0
    assert plan(lean).size < plan(plain).size == lean.recomputed.plain
    assert anchors(lean) == anchors(plain)
    inputs = values(graph)
    same_bits(run(plain, inputs), run(lean, inputs))


def test_one_row_has_nothing_to_gain() -> None:
    graph = optimized(chain(5, 7, 1, "relu", normalized=True))
    plain, lean = fuse(graph, EAGER), fuse_lean(graph, EAGER, 0.2)
    assert plan(lean).size <= plan(plain).size
    inputs = values(graph)
    same_bits(run(plain, inputs), run(lean, inputs))


@pytest.mark.parametrize("share", [0.005, 0.02, 0.1])
def test_the_cost_is_bounded(share: float) -> None:
    graph = optimized(chain(12, 64, 256, "relu", normalized=True))
    plain, lean = fuse(graph, EAGER), fuse_lean(graph, EAGER, share)
    (first, *_) = fuse_again(graph, EAGER, {})[1]
    whole = replace(first, cheap=True).schedule().cost
    assert 0 <= moved(lean) - moved(plain) <= share * whole


def moved(program: Program) -> int:
    """Bytes that the launches of a program read and write."""
    return sum(
        int(program.buffers[index].type.nbytes)
        for step in program.steps
        for index in dict.fromkeys(step.arguments)
    )


def test_more_cost_less_memory() -> None:
    graph = optimized(chain(12, 64, 256, "relu", normalized=True))
    sizes = [plan(fuse_lean(graph, EAGER, share)).size for share in (0, 0.02, 0.05, 0.2)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) >= 3


def test_nothing_changes_without_need() -> None:
    graph = optimized(NETWORKS["batch norm"]())
    # Small programs, no share to spend, and inference.
    assert fuse_lean(graph, FusionOptions(), 0.2) == fuse(graph)
    assert fuse_lean(graph, EAGER, 0) == fuse(graph, EAGER)
    net = mx.sym.Activation(mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=8), act_type="tanh")
    forward = optimized(trace(net, {"data": (4, 8)}, None, False))
    assert fuse_lean(forward, EAGER, 0.2) == fuse(forward, EAGER)


def test_levels_and_strategies_that_stay_plain() -> None:
    graph = NETWORKS["batch norm"]()
    for options in (
        Options(level=1, fusion=EAGER),
        Options(memory="both", fusion=EAGER),
        Options(recompute=0.0, fusion=EAGER),
    ):
        assert lower(graph, options, "reference").program.recomputed is None
    assert lower(graph, Options(recompute=0.2, fusion=EAGER), "reference").program.recomputed is not None


def test_compiled_steps_keep_every_bit() -> None:
    """Three steps with dropout, moving averages and momentum in C++."""
    graph = chain(8, 256, 512, "relu", dropout=0.3, normalized=True)
    states = values(graph)
    plain = compile(graph, options=Options(fusion=EAGER, recompute=0.0))
    lean = compile(graph, options=Options(fusion=EAGER, recompute=0.1))
    assert lean.program.recomputed is not None and plain.program.recomputed is None
    assert lean.plan().size < plain.plan().size
    assert lean.memory()["recompute"]["plain_arena"] > lean.memory()["arena"]["planned"]
    same_steps(plain, lean, states)
