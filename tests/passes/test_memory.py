"""Memory by category: from the graph's facts, before anything is compiled."""

import json

import pytest

import graphc as mx
from graphc.diagnostics import GraphcError
from graphc.driver.compile import Options
from graphc.passes.gradient import gradient, model_outputs
from graphc.passes.memory import CATEGORIES, memory_text
from graphc.symbol.trace import trace
from graphc.training import training_graph
from support.heads import head


def net() -> mx.Symbol:
    hidden = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=64, name="fc1")
    hidden = mx.sym.Activation(hidden, act_type="tanh", name="tanh1")
    hidden = mx.sym.BatchNorm(hidden, name="bn")
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(hidden, num_hidden=10, name="fc2"), name="softmax")


SHAPES = {"data": (256, 32), "softmax_label": (256,)}


@pytest.mark.parametrize("target", ["cpu", "gpu", "reference"])
def test_a_training_step_by_category(target: str) -> None:
    graph = training_graph(net(), mx.optimizer.Adam(), shapes=SHAPES)
    report = mx.memory(graph, target=target)
    assert json.loads(json.dumps(report)) == report
    total = {kind: row["total"] for kind, row in report["categories"].items()}
    weights = 4 * (64 * 32 + 64 + 2 * 64 + 10 * 64 + 10)
    assert total["parameters"] == weights
    # Adam's two moments and the count of updates; BatchNorm's two statistics.
    assert total["states"] == 2 * weights + 8 + 4 * 2 * 64
    assert total["inputs"] == 4 * (256 * 32 + 256 + 1)
    assert total["outputs"] == 4 * 256 * 10
    assert total["activations"] >= 4 * 256 * 64
    assert total["gradients"] >= 4 * 256 * 64
    assert (total["workspace"] > 0) == (target == "cpu")
    held = ("parameters", "states", "constants", "inputs", "outputs")
    assert report["total"] == sum(total[kind] for kind in held) + report["arena"]["planned"]
    live = report["peak"]["live"]
    for kind in set(CATEGORIES) - set(held):
        assert report["categories"][kind]["at_peak"] == sum(r["bytes"] for r in live if r["category"] == kind)
    assert {"activations", "gradients"} <= {row["category"] for row in live}
    assert all(row["line"].startswith("test_memory.py:") for row in live if row["category"] == "activations")


def test_gradients_that_are_outputs_count_as_gradients() -> None:
    graph = gradient(trace(net(), SHAPES, is_train=True), ("fc1_weight", "data"))
    assert model_outputs(graph) == {"softmax_output"}
    rows = mx.memory(graph)["categories"]
    assert rows["outputs"]["total"] == 4 * 256 * 10
    assert rows["gradients"]["total"] >= 4 * (64 * 32 + 256 * 32)


def test_an_output_that_only_looks_like_a_gradient() -> None:
    graph = trace(mx.sym.Activation(mx.sym.Variable("x"), act_type="relu", name="y_grad"), {"x": (64,)})
    assert model_outputs(graph) == set(graph.output_names)


def test_inference_holds_no_gradients() -> None:
    report = mx.memory(net(), shapes={"data": ("N", 32), "softmax_label": ("N",)}, sizes={"N": 128})
    assert report["sizes"] == {"N": 128}
    assert report["categories"]["gradients"]["total"] == 0
    with pytest.raises(GraphcError, match="needs the size of dimension N"):
        mx.memory(net(), shapes={"data": ("N", 32), "softmax_label": ("N",)})
    with pytest.raises(GraphcError, match="no target"):
        mx.memory(net(), shapes=SHAPES, target="tpu")


def test_sums_that_wait_between_parts_are_gradients() -> None:
    graph = head("cross_entropy", 512, 512, 16)
    report = mx.memory(graph, options=Options(chunk_bytes=128 * 512 * 4))
    waiting = [row for row in report["peak"]["live"] if row["buffer"].endswith("head_grad_2_rows")]
    assert [row["category"] for row in waiting] == ["gradients"]


def test_a_running_program_says_the_same() -> None:
    graph = training_graph(net(), mx.optimizer.SGD(0.1), shapes=SHAPES)
    assert mx.compile(graph).memory() == mx.memory(graph)
    assert "activations" in memory_text(mx.memory(graph))
