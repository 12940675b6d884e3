"""The training graph: one graph whose steps are those of torch, with its states and factors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from graphc import symbol as sym
from graphc.diagnostics import GraphcError
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph, InputKind
from graphc.optimizer import SGD, Adam, Optimizer, create
from graphc.passes.manager import PassManager, default_pipeline
from graphc.primitives.builder import Builder
from graphc.primitives.verify import verify_graph
from graphc.training import COUNT, LEARNING_RATE, training_graph
from graphc.types import TensorType

SHAPES = {"data": ("N", 6), "softmax_label": ("N",)}


def mlp() -> sym.Symbol:
    hidden = sym.Activation(sym.FullyConnected(sym.var("data"), num_hidden=5, name="fc1"), act_type="tanh")
    return sym.SoftmaxOutput(sym.FullyConnected(hidden, num_hidden=3, name="fc2"), name="softmax")


def start(graph: Graph) -> dict[str, torch.Tensor]:
    """Random parameters, other states zero."""
    generator = torch.Generator().manual_seed(1)
    values = {}
    for item in graph.inputs:
        shape = item.value.type.concrete_shape({"N": 8})
        if item.kind is InputKind.PARAMETER:
            values[item.name] = torch.randn(shape, generator=generator, dtype=torch.float64)
        elif item.kind is InputKind.STATE:
            values[item.name] = torch.zeros(shape, dtype=item.value.type.dtype.torch)
    return values


def step(graph: Graph, states: dict[str, torch.Tensor], optimizer: Optimizer, **data: torch.Tensor) -> Any:
    """Run one step and put the updates into `states`; return the outputs."""
    given = states | data | {LEARNING_RATE: torch.tensor(optimizer.learning_rate)}
    found = run_reference(graph, given)
    states.update(found.updates)
    return found.outputs


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize(
    ("optimizer", "theirs"),
    [
        (SGD(0.5, rescale_grad=1 / 8), lambda p: torch.optim.SGD(p, 0.5)),
        (SGD(0.5, momentum=0.9, rescale_grad=1 / 8), lambda p: torch.optim.SGD(p, 0.5, momentum=0.9)),
        (Adam(0.05, epsilon=1e-12, rescale_grad=1 / 8), lambda p: torch.optim.Adam(p, 0.05, eps=1e-12)),
    ],
    ids=["sgd", "momentum", "adam"],
)
def test_steps_of_torch(optimizer: Optimizer, theirs: Any, optimized: bool) -> None:
    graph = training_graph(mlp(), optimizer, shapes=SHAPES)
    verify_graph(graph)
    if optimized:
        graph, _ = PassManager(default_pipeline(), verify=True).run(graph)
    states = start(graph)
    names = ["fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias"]
    weights = [states[name].clone().requires_grad_() for name in names]
    torch_optimizer = theirs(weights)
    generator = torch.Generator().manual_seed(2)
    for _ in range(6):
        data = torch.randn(8, 6, generator=generator, dtype=torch.float64)
        label = (data.sum(1) > 0).double() + (data[:, 0] > 1).double()
        outputs = step(graph, states, optimizer, data=data, softmax_label=label)
        hidden = torch.tanh(torch.nn.functional.linear(data, *weights[:2]))
        logits = torch.nn.functional.linear(hidden, *weights[2:])
        loss = torch.nn.functional.cross_entropy(logits, label.long())
        torch.testing.assert_close(outputs["softmax_output"], torch.softmax(logits, 1).detach())
        torch_optimizer.zero_grad()
        loss.backward()
        torch_optimizer.step()
        for name, weight in zip(names, weights, strict=True):
            torch.testing.assert_close(states[name], weight.detach(), rtol=1e-6, atol=1e-8)


def test_inputs_outputs_and_updates() -> None:
    graph = training_graph(mlp(), Adam(), shapes=SHAPES)
    kinds = {item.name: item.kind for item in graph.inputs}
    assert kinds[LEARNING_RATE] is InputKind.DATA
    assert kinds["fc1_weight"] is InputKind.PARAMETER
    assert kinds["fc1_weight_mean"] is kinds["fc2_bias_variance"] is kinds[COUNT] is InputKind.STATE
    assert graph.output_names == ("softmax_output",)
    parameters = ("fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias")
    expected = {COUNT, *(f"{p}{s}" for p in parameters for s in ("", "_mean", "_variance"))}
    assert {update.target for update in graph.updates} == expected


def test_every_node_says_where_it_comes_from() -> None:
    graph = training_graph(mlp(), SGD(0.1, momentum=0.9), shapes=SHAPES)
    assert all(node.origins for node in graph.nodes)
    operators = {node.origins[0].operator for node in graph.nodes}
    assert operators == {"FullyConnected", "Activation", "SoftmaxOutput", "SGD"}


def test_moving_statistics_and_random_state_are_updated_too() -> None:
    net = sym.BatchNorm(sym.FullyConnected(sym.var("data"), num_hidden=4, name="fc"), name="bn")
    net = sym.SoftmaxOutput(sym.Dropout(net, p=0.5, name="drop"), name="softmax")
    graph = training_graph(net, SGD(0.1), shapes=SHAPES)
    verify_graph(graph)
    targets = {update.target for update in graph.updates}
    assert {"bn_moving_mean", "bn_moving_var", "random_state", "fc_weight", "bn_beta"} <= targets


def test_factors_of_symbol_variables() -> None:
    def trained(optimizer: Optimizer) -> dict[str, torch.Tensor]:
        weight = sym.var("fc_weight", lr_mult=0.0)
        net = sym.FullyConnected(sym.var("data"), weight=weight, num_hidden=3, name="fc")
        graph = training_graph(sym.MakeLoss(sym.sum(net)), optimizer, shapes={"data": (4, 6)})
        states = start(graph)
        before = dict(states)
        step(graph, states, optimizer, data=torch.ones(4, 6, dtype=torch.float64))
        return {name: states[name] - before[name] for name in ("fc_weight", "fc_bias")}

    moved = trained(SGD(0.5))
    assert not moved["fc_weight"].any()
    torch.testing.assert_close(moved["fc_bias"], torch.full((3,), -2.0, dtype=torch.float64))
    own = SGD(0.5)
    own.set_lr_mult({"fc_weight": 2.0})
    torch.testing.assert_close(trained(own)["fc_weight"], torch.full((3, 6), -4.0, dtype=torch.float64))


def quadratic() -> Graph:
    b = Builder("quadratic")
    x = b.input("x", TensorType.parse("f32[3]"), InputKind.PARAMETER)
    y = b.input("y", TensorType.parse("f32[3]"), InputKind.PARAMETER)
    d = b.sub(x, b.mul(y, 2.0))
    return b.finish({"loss": b.sum(b.mul(d, d))})


@pytest.mark.parametrize(
    "name", ["sgd", "nag", "adam", "adagrad", "rmsprop", "adadelta", "ftrl", "adamax", "signum"]
)
def test_every_optimizer_descends(name: str) -> None:
    optimizer = create(name, learning_rate=0.05)
    graph = training_graph(quadratic(), optimizer)
    verify_graph(graph)
    states = start(graph)
    losses = [float(step(graph, states, optimizer)["loss"]) for _ in range(40)]
    assert losses[-1] < 0.9 * losses[0]


def test_some_parameters_only() -> None:
    graph = training_graph(quadratic(), SGD(0.1), wrt=["y"])
    assert [update.target for update in graph.updates] == ["y"]


def test_errors() -> None:
    with pytest.raises(GraphcError, match="leave shapes= and dtypes= out"):
        training_graph(quadratic(), SGD(), shapes={"x": (3,)})
    b = Builder("empty")
    graph = b.finish([b.exp(b.input("x", TensorType.parse("f32[3]")))])
    with pytest.raises(GraphcError, match="no parameters to train") as caught:
        training_graph(graph, SGD())
    assert caught.value.diagnostic.code == "G404"
    with pytest.raises(GraphcError, match="no value 'z'"):
        training_graph(quadratic(), SGD(), wrt=["z"])
