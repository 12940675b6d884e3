"""Attention is found in its natural forms, means the same, and is left alone where its scores are needed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from graphc.ir.graph import Graph, Value
from graphc.passes.attention import RecognizeAttention
from graphc.passes.gradient import gradient
from graphc.passes.manager import default_pipeline
from graphc.primitives.builder import Builder
from graphc.primitives.verify import verify_graph
from support import attention_graphs as forms
from support.differentiate import check_gradient
from support.graph_checks import assert_same_results, results
from support.graphs import random_inputs

CASES = [pytest.param(graph, attributes, id=name) for name, (graph, attributes) in forms.FORMS.items()]


def found(graph: Graph) -> list[str]:
    return [node.primitive for node in graph.nodes if node.primitive.startswith("attention")]


@pytest.mark.parametrize(("graph", "attributes"), CASES)
def test_a_natural_form_is_found_and_means_the_same(graph: Graph, attributes: dict[str, object]) -> None:
    result = RecognizeAttention()(graph)
    verify_graph(result)
    (node,) = [node for node in result.nodes if node.primitive == "attention"]
    assert {name: node.attributes[name] for name in attributes} == attributes
    assert not any(n.primitive in ("dot", "exp") for n in result.nodes)
    assert RecognizeAttention()(result) is result
    inputs = random_inputs(graph, 0, {"N": 5})
    assert_same_results(graph, result, inputs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("graph", "attributes"), CASES)
def test_gradients_go_through_the_primitive(graph: Graph, attributes: dict[str, object]) -> None:
    result = gradient(RecognizeAttention()(graph), ["q", "k", "v"])
    assert found(result) == ["attention", "attention_gradient"]
    inputs = random_inputs(graph, 1, {"N": 4})
    assert_same_results(gradient(graph, ["q", "k", "v"]), result, inputs, rtol=1e-8, atol=1e-11)


def test_a_bias_receives_its_gradient() -> None:
    graph, _ = forms.FORMS["less a bias"]
    result = RecognizeAttention()(graph)
    assert found(result) == ["attention"]
    check_gradient(result, random_inputs(graph, 2), ["q", "bias"])


def with_output(graph: Graph, primitive: str) -> Graph:
    """The graph that also returns the result of its node of that primitive."""
    value = next(node.output for node in graph.nodes if node.primitive == primitive)
    return replace(graph, outputs=(*graph.outputs, value), output_names=("out", "also"))


def low_number(b: Builder, scores: Value) -> Value:
    *lead, rows, columns = scores.type.shape
    return b.where(forms.before(b, rows, columns, lead), scores, b.full_like(-5.0, scores))


def dropped(b: Builder, weights: Value) -> Value:
    state = b.input("seed", forms.TensorType(forms.DType.I64, (2,)))
    random = b.emit("random_uniform", state, stream=0, shape=weights.type.shape)
    return b.where(b.lt(random, 0.5), weights, b.full_like(0.0, weights))


REFUSED = {
    "probabilities are an output": with_output(forms.attention(), "div"),
    "scores are an output": with_output(forms.attention(), "dot"),
    "powers are an output": with_output(forms.attention(), "exp"),
    "the sum is an output": with_output(forms.attention(), "reduce_sum"),
    "softmax over queries": forms.attention(axis=-2),
    "softmax over heads": forms.attention(axis=1),
    "a mask that does not hide": forms.attention(low_number),
    "dropout that does not scale": forms.attention(on_weights=dropped),
    "a function of the scores": forms.attention(lambda b, s: b.tanh(s)),
}


@pytest.mark.parametrize("graph", [pytest.param(graph, id=name) for name, graph in REFUSED.items()])
def test_what_is_needed_otherwise_stays(graph: Graph) -> None:
    assert RecognizeAttention()(graph) is graph


def test_only_level_two_rewrites() -> None:
    names = [[step.name for step in default_pipeline(level)] for level in (0, 1, 2)]
    assert ["attention" in found for found in names] == [False, False, True]


def test_rows_without_a_visible_key_are_nan_as_before() -> None:
    graph, _ = forms.FORMS["hidden"]
    inputs = random_inputs(graph, 3)
    inputs["hidden"] = torch.ones_like(inputs["hidden"])
    infinite = forms.attention(
        lambda b, s: b.where(b.broadcast(b.input("hidden", forms.TensorType(forms.DType.BOOL, (2, 1, 1, 7))),
                                         s.type.shape, range(4)), b.full_like(float("-inf"), s), s)
    )  # fmt: skip
    result = RecognizeAttention()(infinite)
    assert found(result) == ["attention"]
    assert torch.isnan(results(infinite, inputs)["out"]).all()
    assert torch.isnan(results(result, inputs)["out"]).all()
