"""Passes on graphs of 10,000 nodes: no recursion, and work that grows with the nodes, counted rather than timed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from graphc.ir.graph import Graph, Origin
from graphc.passes.gradient import _Sweep, gradient
from graphc.passes.manager import PassManager, default_pipeline
from graphc.passes.rewrite import Rewriter
from graphc.passes.simplify import RULES
from graphc.passes.split import split
from graphc.primitives.builder import Builder
from graphc.types import TensorType

T = TensorType.parse


def chain(length: int) -> Graph:
    b = Builder("chain")
    x = b.input("x", T("f32[4]"))
    for k in range(length):
        with b.at((Origin(f"layer{k}", "Activation"),), f"layer{k}"):
            x = b.tanh(x)
    return b.finish({"out": x})


def diamonds(length: int) -> Graph:
    """Each value is read twice: 2 ** (length / 3) paths."""
    b = Builder("diamonds")
    x = b.input("x", T("f32[4]"))
    for k in range(length // 3):
        with b.at((Origin(f"block{k}", "Block"),), f"block{k}"):
            x = b.add(b.sin(x), b.cos(x))
    return b.finish({"out": x})


def star(length: int) -> Graph:
    """One value that all nodes read, with one constant each."""
    b = Builder("star")
    x = b.input("x", T("f32[4]"))
    y = b.exp(x)
    total = y
    for k in range(length // 3):
        with b.at((Origin(f"ray{k}", "Ray"),), f"ray{k}"):
            total = b.add(total, b.mul(y, 0.5))
    return b.finish({"out": total})


def foldable(length: int) -> Graph:
    """A chain in which everything can go."""
    b = Builder("foldable")
    x = b.input("x", T("f32[4,1]"))
    for k in range(length // 4):
        x = (
            b.transpose(b.neg(b.neg(b.reshape(x, (4, 1)))), (1, 0))
            if k % 2 == 0
            else b.reshape(b.mul(x, 1.0), (4, 1))
        )
    return b.finish({"out": x})


MODELS = [chain, diamonds, star, foldable]
Model = Callable[[int], Graph]


@pytest.mark.parametrize("model", MODELS)
def test_ten_thousand_nodes(model: Model) -> None:
    graph = model(10_000)
    optimized, _ = PassManager(default_pipeline(), verify=True).run(graph)
    assert PassManager(default_pipeline(), verify=False).run(optimized)[0] is optimized


@pytest.mark.parametrize("model", MODELS)
def test_ten_thousand_nodes_with_gradients(model: Model) -> None:
    joint = gradient(model(2_000), ["x"])
    optimized, _ = PassManager(default_pipeline(), verify=False).run(joint)
    forward, backward = split(optimized, ["out"])
    assert len(forward.nodes) + len(backward.nodes) <= 2 * len(optimized.nodes) + 2


@pytest.mark.parametrize("model", MODELS)
def test_gradient_visits_each_node_once_and_adds_a_few(model: Model) -> None:
    for length in (500, 2_000):
        graph = model(length)
        sweep = _Sweep(Builder.extend(graph), graph, ["x"])
        sweep.start({"out": "ones"})
        sweep.run()
        assert sweep.visits <= len(graph.nodes)
        assert len(sweep.builder.nodes) <= 8 * len(graph.nodes)


@pytest.mark.parametrize("model", MODELS)
def test_rules_are_offered_a_bounded_number_of_nodes(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offers to rules, and the operands that rules look at, grow with the graph and no faster."""
    looks = 0
    producer = Rewriter.producer

    def counted(self: Rewriter, *arguments: object) -> object:
        nonlocal looks
        looks += 1
        return producer(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Rewriter, "producer", counted)
    for length in (500, 2_000):
        joint = gradient(model(length), ["x"])
        looks = 0
        rewriter = Rewriter(joint, RULES, share=True)
        rewriter.run()
        assert rewriter.offers <= 3 * len(joint.nodes)
        assert looks <= 15 * len(joint.nodes)


def test_origins_of_shared_nodes_are_merged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    merged = 0
    merge = Rewriter.run.__globals__["merge_origins"]

    def counted(*groups: tuple[Origin, ...]) -> tuple[Origin, ...]:
        nonlocal merged
        merged += sum(map(len, groups))
        return merge(*groups)  # type: ignore[no-any-return]

    monkeypatch.setitem(Rewriter.run.__globals__, "merge_origins", counted)
    graph = star(6_000)
    PassManager(default_pipeline(), verify=False).run(graph)
    assert merged <= 10 * len(graph.nodes)
