"""Trace: from symbols to the Graph, with names, kinds of inputs, origins and states."""

from collections.abc import Callable

import pytest
import torch

import graphc as mx
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph, InputKind
from graphc.operators.declare import Operator
from graphc.primitives.verify import verify_graph
from graphc.symbol.trace import trace


def lenet() -> mx.Symbol:
    net = mx.sym.Variable("data")
    net = mx.sym.Convolution(net, kernel=(3, 3), num_filter=4, name="conv1")
    net = mx.sym.BatchNorm(net, fix_gamma=False, name="bn1")
    net = mx.sym.Activation(net, act_type="relu", name="relu1")
    net = mx.sym.Pooling(net, kernel=(2, 2), stride=(2, 2), pool_type="max", name="pool1")
    net = mx.sym.Dropout(mx.sym.Flatten(net, name="flat"), p=0.5, name="drop1")
    net = mx.sym.FullyConnected(net, num_hidden=10, name="fc1")
    return mx.sym.SoftmaxOutput(net, name="softmax")


SHAPES = {"data": ("N", 1, 8, 8), "softmax_label": ("N",)}


def kinds(graph: Graph, kind: InputKind) -> list[str]:
    return [item.name for item in graph.inputs if item.kind is kind]


def test_inputs_by_kind() -> None:
    graph = trace(lenet(), SHAPES, is_train=True)
    verify_graph(graph)
    assert kinds(graph, InputKind.DATA) == ["data", "softmax_label"]
    assert kinds(graph, InputKind.PARAMETER) == [
        *("conv1_weight", "conv1_bias", "bn1_gamma", "bn1_beta", "fc1_weight", "fc1_bias")
    ]
    assert kinds(graph, InputKind.STATE) == ["bn1_moving_mean", "bn1_moving_var", "random_state"]
    assert {update.target for update in graph.updates} == set(kinds(graph, InputKind.STATE))
    assert graph.symbols == ("N",)
    assert graph.name == "softmax"


def test_inference_has_no_updates() -> None:
    graph = trace(lenet(), SHAPES)
    verify_graph(graph)
    assert graph.updates == ()
    assert kinds(graph, InputKind.STATE) == ["bn1_moving_mean", "bn1_moving_var"]


def test_parameters_may_be_named() -> None:
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, name="fc")
    shapes = {"data": (3, 4), "fc_weight": (2, 4), "fc_bias": (2,)}
    assert kinds(trace(net, shapes), InputKind.PARAMETER) == []
    assert kinds(trace(net, shapes, parameters=("fc_weight",)), InputKind.PARAMETER) == ["fc_weight"]
    assert kinds(trace(net, {"data": (3, 4)}, parameters=()), InputKind.DATA) == [
        "data",
        "fc_weight",
        "fc_bias",
    ]


def test_origins_point_at_the_users_lines() -> None:
    graph = trace(lenet(), SHAPES)
    first = next(node for node in graph.nodes if node.primitive == "convolution")
    (origin,) = first.origins
    assert (origin.name, origin.operator) == ("conv1", "Convolution")
    assert origin.location is not None
    assert origin.location.text == 'net = mx.sym.Convolution(net, kernel=(3, 3), num_filter=4, name="conv1")'
    assert all(node.origins for node in graph.nodes)


def test_values_carry_the_users_names() -> None:
    graph = trace(lenet(), SHAPES)
    stems = {value.name.split(".")[0] for node in graph.nodes for value in node.outputs}
    assert stems <= {"conv1", "bn1", "relu1", "pool1", "flat", "drop1", "fc1", "softmax"}
    assert graph.output_names == ("softmax_output",)


def test_golden_text(golden: Callable[[str, str], None]) -> None:
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=3, name="fc1")
    net = mx.sym.Activation(net, act_type="relu", name="relu1")
    graph = trace(mx.sym.SoftmaxOutput(net, name="softmax"), {"data": ("N", 4), "softmax_label": ("N",)})
    lines = str(graph).split("\nfiles {")[0].splitlines()
    golden("symbol/mlp_graph.txt", "\n".join(line.split("  //")[0].rstrip() for line in lines))


def test_shapes_that_follow_only_from_later_operators() -> None:
    """The state's batch follows from data, which is met after it."""
    state = mx.sym.Variable("state", shape=(0, 6))
    net = mx.sym.FullyConnected(state, num_hidden=6, name="h2h") + mx.sym.FullyConnected(
        mx.sym.Variable("data"), num_hidden=6, name="i2h"
    )
    graph = trace(net, {"data": ("N", 3)})
    verify_graph(graph)
    assert str(graph.input_by_name["state"].value.type) == "f32[N,6]"


def test_each_composition_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    original = Operator.apply
    monkeypatch.setattr(
        Operator, "apply", lambda self, *given: names.append(self.name) or original(self, *given)
    )
    trace(lenet(), SHAPES, is_train=True)
    assert len(names) == 8


def test_variables_may_be_outputs() -> None:
    x = mx.sym.Variable("x")
    graph = trace(mx.sym.Group([x, x + 1, x]), {"x": (2,)})
    assert graph.output_names == ("x", "_plusscalar0_output", "x.1") or len(set(graph.output_names)) == 3
    outputs = list(run_reference(graph, {"x": torch.tensor([1.0, 2.0])}).outputs.values())
    assert [value.tolist() for value in outputs] == [[1, 2], [2, 3], [1, 2]]


def test_outputs_of_one_name_stay_apart() -> None:
    x = mx.sym.Variable("x")
    pair = mx.sym.Group([mx.sym.exp(x, name="same"), mx.sym.sin(x, name="same")])
    graph = trace(pair, {"x": (2,)})
    verify_graph(graph)
    assert graph.output_names == ("same_output", "same_output.1")


def test_types_reach_the_graph() -> None:
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, name="fc")
    graph = trace(net, {"data": (3, 4)}, {"data": "float16"})
    assert {str(item.value.type.dtype) for item in graph.inputs} == {"f16"}
    labels = mx.sym.SoftmaxOutput(mx.sym.Variable("data"), name="s")
    graph = trace(labels, {"data": (3, 4)}, {"s_label": "int64"})
    assert str(graph.input_by_name["s_label"].value.type) == "i64[3]"


def test_scalars() -> None:
    graph = trace(mx.sym.exp(mx.sym.Variable("x")), {"x": ()})
    assert str(graph.outputs[0].type) == "f32[]"


def test_deep_graphs() -> None:
    net = mx.sym.Variable("x")
    for _ in range(3000):
        net = mx.sym.sin(net)
    graph = trace(net, {"x": ("N", 2)})
    assert len(graph.nodes) == 3000


def test_random_state_advances_by_one_step() -> None:
    x = mx.sym.Variable("x")
    graph = trace(mx.sym.Dropout(mx.sym.Dropout(x)), {"x": (4,)}, is_train=True)
    streams = [node.attributes["stream"] for node in graph.nodes if node.primitive == "random_uniform"]
    assert streams == [0, 1]
    result = run_reference(graph, {"x": torch.ones(4), "random_state": torch.tensor([5, 9])})
    assert result.updates["random_state"].tolist() == [5, 10]


def test_binding_needs_all_shapes() -> None:
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, name="fc")
    with pytest.raises(mx.GraphcError, match="'data': its shape is not given"):
        net.simple_bind(mx.cpu())
