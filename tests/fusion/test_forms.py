"""A network that repeats its layers is fused with work that grows with its nodes, counted rather than timed."""

from collections.abc import Callable
from typing import Any

import pytest

import graphc as mx
from graphc.ir.graph import Graph
from graphc.passes.fusion import forms, fuse
from graphc.passes.fusion.bind import Binder
from graphc.passes.fusion.reach import Reachability
from graphc.passes.manager import PassManager, default_pipeline
from graphc.training import training_graph
from support.deep_networks import transformer


def step(blocks: int) -> Graph:
    """The optimized training step of a transformer."""
    graph = transformer(blocks, batch=2, time=8, width=16, heads=2, vocabulary=32)
    return PassManager(default_pipeline(), verify=False).run(graph)[0]


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Callable[[], int]:
    """Counts the calls of a function from now on."""
    calls = 0
    real = getattr(owner, name)

    def wrapper(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, wrapper)
    return lambda: calls


def test_a_deeper_network_has_few_more_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the layers, twice the launches; the kernels that are new join other sets of updates."""
    lowered = counted(monkeypatch, forms, "lower")
    kernels = counted(monkeypatch, Binder, "kernel")
    counts = []
    for blocks in (4, 8):
        before = lowered(), kernels()
        program = fuse(step(blocks))
        counts.append((lowered() - before[0], kernels() - before[1], len(program.steps)))
    (few, made, launches), (more, makes, doubled) = counts
    assert doubled > 1.7 * launches
    assert more < 1.5 * few < launches and makes < 1.5 * made < launches


def test_spaces_meet_a_bounded_number_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions about paths between kernels grow with the nodes."""
    asked = counted(monkeypatch, Reachability, "reaches")
    counts = []
    for blocks in (4, 8):
        before, graph = asked(), step(blocks)
        fuse(graph)
        counts.append((asked() - before) / len(graph.nodes))
    assert counts[1] <= 1.3 * counts[0]


def test_equal_layers_share_kernels_whatever_their_names() -> None:
    data = mx.sym.Variable("data")
    for layer in range(6):
        data = mx.sym.Activation(
            mx.sym.FullyConnected(data, num_hidden=32), act_type="tanh", name=f"t{layer}"
        )
    net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(data, num_hidden=10), name="softmax")
    shapes = {"data": (16, 32), "softmax_label": (16,)}
    program = fuse(training_graph(net, mx.optimizer.SGD(0.1), shapes=shapes))
    uses = [sum(step.kernel == k for step in program.steps) for k in range(len(program.kernels))]
    assert max(uses) >= 6
