"""Gradient construction: values, requests, heads, losses, second derivatives, errors, and no wasted nodes."""

from __future__ import annotations

import pytest
import torch

from graphc.diagnostics import GraphcError, Location
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph, InputKind, Origin, Value
from graphc.passes.gradient import Gradient, gradient
from graphc.passes.manager import PassManager
from graphc.passes.simplify import Simplify
from graphc.primitives import declare
from graphc.primitives.builder import Builder
from graphc.primitives.declare import Kind, Primitive
from graphc.primitives.verify import verify_graph
from graphc.types import TensorType
from support.graph_checks import directional_differences

T = TensorType.parse


def mlp() -> Graph:
    b = Builder("mlp")
    x = b.input("data", T("f32[N,5]"))
    for layer, (inner, outer) in enumerate([(5, 7), (7, 3)], 1):
        w = b.input(f"w{layer}", T(f"f32[{outer},{inner}]"), InputKind.PARAMETER)
        c = b.input(f"b{layer}", T(f"f32[{outer}]"), InputKind.PARAMETER)
        with b.at((Origin(f"fc{layer}", "FullyConnected", Location("mlp.py", layer)),), f"fc{layer}"):
            x = b.add(b.emit("dot", x, w, transpose_a=False, transpose_b=True), c)
        with b.at((Origin(f"act{layer}", "Activation", Location("mlp.py", 10 + layer)),), f"act{layer}"):
            x = b.tanh(x)
    return b.finish({"loss": b.mean(b.mul(x, x))})


def convolution_net() -> Graph:
    b = Builder("net")
    x = b.input("data", T("f32[2,2,7,6]"))
    w = b.input("w", T("f32[4,2,3,3]"), InputKind.PARAMETER)
    gamma, beta = b.input("gamma", T("f32[4]")), b.input("beta", T("f32[4]"))
    y = b.emit("convolution", x, w, stride=(2, 1), pad=(1, 1), dilate=(1, 1), groups=1)
    mean = b.mean(y, (0, 2, 3))
    centered = b.sub(y, b.broadcast(mean, y.type.shape, (1,)))
    variance = b.mean(b.mul(centered, centered), (0, 2, 3))
    scale = b.mul(gamma, b.rsqrt(b.add(variance, 1e-3)))
    y = b.mul(centered, b.broadcast(scale, y.type.shape, (1,)))
    y = b.sigmoid(b.add(y, b.broadcast(beta, y.type.shape, (1,))))
    window = {"kernel": (2, 2), "stride": (2, 2), "pad_low": (0, 1), "pad_high": (0, 1)}
    pooled = b.emit_all("max_pool", y, **window)[0]
    flat = b.reshape(pooled, (2, pooled.type.size // 2))
    shifted = b.sub(flat, b.reduce("reduce_max", flat, (1,), keepdims=True))
    logs = b.sub(shifted, b.log(b.sum(b.exp(shifted), (1,), keepdims=True)))
    return b.finish({"loss": b.neg(b.sum(b.slice_axis(logs, 1, 0, 1)))})


def values(graph: Graph, seed: int = 0, **sizes: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        item.name: torch.randn(
            item.value.type.concrete_shape(sizes), generator=generator, dtype=torch.float64
        )
        for item in graph.inputs
    }


@pytest.mark.parametrize("model", [mlp, convolution_net])
def test_gradients_agree_with_differences(model: type) -> None:
    graph = model()
    inputs = values(graph, N=4)
    joint = gradient(graph, list(inputs))
    verify_graph(joint)
    found = run_reference(joint, inputs).outputs
    for name, tensor in inputs.items():
        direction = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        expected = directional_differences(graph, "loss", inputs, {name: direction}, 1e-5)
        assert float((found[f"{name}_grad"] * direction).sum()) == pytest.approx(expected, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("model", [mlp, convolution_net])
def test_gradients_of_gradients_agree_with_differences(model: type) -> None:
    graph = model()
    inputs = values(graph, N=4)
    wrt = [name for name in inputs if name != "data"]
    first = gradient(graph, wrt)
    second = gradient(first, wrt, {f"{name}_grad": "ones" for name in wrt})
    verify_graph(second)
    assert [name for name in second.output_names if name.endswith("_grad_grad")] == [
        f"{name}_grad_grad" for name in wrt
    ]
    found = run_reference(second, inputs).outputs
    for name in wrt:
        direction = torch.randn(inputs[name].shape, generator=torch.Generator().manual_seed(9)).double()
        expected = sum(
            directional_differences(first, f"{other}_grad", inputs, {name: direction}, 1e-5) for other in wrt
        )
        slope = float((found[f"{name}_grad_grad"] * direction).sum())
        assert slope == pytest.approx(expected, rel=1e-5, abs=1e-7)
    simplified = Simplify()(second)
    for name, value in run_reference(simplified, inputs).outputs.items():
        torch.testing.assert_close(value, found[name])


def test_third_derivative() -> None:
    b = Builder("cube")
    x = b.input("x", T("f64[3]"))
    graph = b.finish({"y": b.pow(x, 4.0)})
    for _ in range(3):
        graph = gradient(graph, ["x"], {graph.output_names[-1]: "ones"})
    assert graph.output_names == ("y", "x_grad", "x_grad_grad", "x_grad_grad_grad")
    point = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(run_reference(graph, {"x": point}).outputs["x_grad_grad_grad"], 24 * point)


# What is asked for


def shared_input() -> Graph:
    """a = 2 x + y, b = x * x"""
    b = Builder("g")
    x, y = b.input("x", T("f32[3]")), b.input("y", T("f32[3]"))
    return b.finish({"a": b.add(b.mul(x, 2.0), y), "b": b.mul(x, x)})


X, Y = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        (None, 2 + 2 * X),
        ({"a": "ones"}, torch.full((3,), 2.0).double()),
        ({"b": "ones", "a": None}, 2 * X),
        ({"a": None, "b": None}, 0 * X),
        ({}, 0 * X),
    ],
)
def test_heads(heads: dict[str, str | None] | None, expected: torch.Tensor) -> None:
    joint = gradient(shared_input(), ["x"], heads)
    assert joint.output_names == ("a", "b", "x_grad")
    torch.testing.assert_close(run_reference(joint, {"x": X, "y": Y}).outputs["x_grad"], expected)


def test_head_gradients_are_inputs() -> None:
    joint = gradient(shared_input(), ["x", "y"], {"a": "a_head", "b": "y"})
    assert [item.name for item in joint.inputs] == ["x", "y", "a_head"]
    assert joint.input_by_name["a_head"].kind is InputKind.DATA
    head = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    found = run_reference(joint, {"x": X, "y": X, "a_head": head}).outputs
    torch.testing.assert_close(found["x_grad"], 2 * head + 2 * X * X)
    torch.testing.assert_close(found["y_grad"], head)


def test_one_value_as_two_outputs() -> None:
    b = Builder("g")
    x = b.input("x", T("f32[3]"))
    y = b.mul(x, x)
    joint = gradient(b.finish({"p": y, "q": y}), ["x"])
    torch.testing.assert_close(run_reference(joint, {"x": X}).outputs["x_grad"], 4 * X)


def test_inner_values_and_inputs_that_are_outputs() -> None:
    b = Builder("g")
    x = b.input("x", T("f32[3]"))
    y = b.exp(x)
    joint = gradient(b.finish({"x_again": x, "z": b.mul(y, y)}), ["x", y.name])
    found = run_reference(joint, {"x": X}).outputs
    torch.testing.assert_close(found[f"{y.name}_grad"], 2 * X.exp())
    torch.testing.assert_close(found["x_grad"], 1 + 2 * (2 * X).exp())


def test_requests() -> None:
    joint = gradient(shared_input(), ["x", "y"], grad_req={"x": "add", "y": "null"})
    verify_graph(joint)
    assert joint.output_names == ("a", "b")
    (update,) = joint.updates
    assert update.target == "x_grad"
    assert joint.input_by_name["x_grad"].kind is InputKind.STATE
    before = torch.tensor([5.0, 5.0, 5.0], dtype=torch.float64)
    found = run_reference(joint, {"x": X, "y": Y, "x_grad": before}).updates
    torch.testing.assert_close(found["x_grad"], before + 2 + 2 * X)


def test_nothing_asked_for_changes_nothing() -> None:
    graph = shared_input()
    assert gradient(graph, ["x"], grad_req={"x": "null"}) is graph
    assert gradient(graph, []) is graph


def test_gradient_is_zero_where_no_head_depends_on_it() -> None:
    b = Builder("g")
    x, n = b.input("x", T("f32[3]")), b.input("n", T("i32[3]"))
    y = b.add(b.add(b.floor(x), b.sign(x)), b.cast(b.add(n, b.cast(x, n.type.dtype)), x.type.dtype))
    z = b.add(y, b.emit("stop_gradient", b.exp(x)))
    joint = gradient(b.finish({"z": z}), ["x"])
    assert joint.nodes[-1].primitive == "full"
    assert joint.nodes[-1].attributes["value"] == 0.0


def test_as_a_pass() -> None:
    step = Gradient(("x",), (("b", "ones"),), (("x", "write"),))
    joint, report = PassManager([step], verify=True).run(shared_input())
    assert joint == gradient(shared_input(), ["x"], {"b": "ones"})
    assert report.runs[0].name == "gradient"


# Losses


def softmax_loss(b: Builder, logits: Value, label: Value, scaled: bool = False) -> Value:
    shifted = b.exp(b.sub(logits, b.reduce("reduce_max", logits, (1,), keepdims=True)))
    probability = b.div(shifted, b.sum(shifted, (1,), keepdims=True))
    return b.emit("with_gradient", probability, logits, b.sub(probability, label), scaled=scaled)


@pytest.mark.parametrize("head", ["ones", None, "given"])
@pytest.mark.parametrize("blocked", [False, True])
def test_losses_send_their_own_gradient(head: str | None, blocked: bool) -> None:
    b = Builder("g")
    x, label = b.input("x", T("f32[2,3]")), b.input("label", T("f32[2,3]"))
    loss = softmax_loss(b, b.mul(x, 3.0), label)
    out = b.emit("stop_gradient", loss) if blocked else loss
    joint = gradient(b.finish({"out": out}), ["x"], {"out": head})
    point, target = torch.randn(2, 3).double(), torch.eye(2, 3).double()
    inputs = {"x": point, "label": target, "given": torch.full((2, 3), 7.0).double()}
    found = run_reference(joint, {item.name: inputs[item.name] for item in joint.inputs}).outputs["x_grad"]
    expected = torch.zeros(2, 3).double() if blocked else 3 * (torch.softmax(3 * point, 1) - target)
    torch.testing.assert_close(found, expected)


def test_scaled_losses_multiply_by_their_head() -> None:
    b = Builder("g")
    x, label = b.input("x", T("f32[2,3]")), b.input("label", T("f32[2,3]"))
    graph = b.finish({"out": softmax_loss(b, x, label, scaled=True)})
    inputs = {name: torch.randn(2, 3).double() for name in ("x", "label", "head")}
    found = run_reference(gradient(graph, ["x"], {"out": "head"}), inputs).outputs["x_grad"]
    torch.testing.assert_close(found, (torch.softmax(inputs["x"], 1) - inputs["label"]) * inputs["head"])
    none = gradient(graph, ["x"], {"out": None})
    del inputs["head"]
    assert not run_reference(none, inputs).outputs["x_grad"].any()


def test_a_loss_under_other_operators_ignores_what_comes_back() -> None:
    b = Builder("g")
    x, label = b.input("x", T("f32[2,3]")), b.input("label", T("f32[2,3]"))
    graph = b.finish({"out": b.mul(softmax_loss(b, x, label), 100.0)})
    inputs = {name: torch.randn(2, 3).double() for name in ("x", "label")}
    expected = torch.softmax(inputs["x"], 1) - inputs["label"]
    for head in ("ones", None):
        joint = gradient(graph, ["x"], {"out": head})
        torch.testing.assert_close(run_reference(joint, inputs).outputs["x_grad"], expected)


# Shape of the result


def test_no_wasted_nodes() -> None:
    def count(wrt: list[str], name: str) -> int:
        return sum(node.primitive == name for node in gradient(convolution_net(), wrt).nodes)

    assert count(["beta"], "convolution_weight_gradient") == 0
    assert count(["w", "beta"], "convolution_weight_gradient") == 1
    assert count(["w"], "convolution_data_gradient") == 0
    assert count(["data"], "convolution_data_gradient") == 1
    joint = gradient(mlp(), ["b2"])
    results = {value.name for value in joint.outputs}
    assert all(
        joint.readers[value.name] or value.name in results for node in joint.nodes for value in node.outputs
    )


def test_names_and_origins_follow_the_forward_nodes() -> None:
    joint = gradient(mlp(), ["w1", "b2"])
    made = [node for node in joint.nodes if "_grad" in node.outputs[0].name]
    assert {node.outputs[0].name.split(".")[0] for node in made} >= {"fc1_grad", "fc2_grad", "act1_grad"}
    for node in made:
        if node.outputs[0].name.startswith("fc1_grad"):
            assert [str(origin.location) for origin in node.origins] == ["mlp.py:1"]


def test_contributions_are_added_in_one_order() -> None:
    b = Builder("g")
    x = b.input("x", T("f32[]"))
    graph = b.finish({f"y{k}": b.mul(x, float(k + 3)) for k in range(5)})
    first, second = gradient(graph, ["x"]), gradient(graph, ["x"])
    assert first == second
    assert sum(node.primitive == "add" for node in first.nodes) == 4


# Errors


def test_unknown_derivatives_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    mystery = Primitive(
        "mystery", "a test", Kind.ELEMENTWISE, lambda types, attributes: types, lambda operands, node, shapes: operands,
        no_gradient="nobody worked it out", derivative_unknown=True,
    )  # fmt: skip
    monkeypatch.setitem(declare._REGISTRY, "mystery", mystery)
    b = Builder("g")
    x, y = b.input("x", T("f32[3]")), b.input("y", T("f32[3]"))
    with b.at((Origin("odd", "Mystery", Location("net.py", 12)),)):
        z = b.emit("mystery", x)
    graph = b.finish({"z": b.add(z, y)})
    with pytest.raises(GraphcError) as caught:
        gradient(graph, ["x"])
    text = str(caught.value)
    assert caught.value.diagnostic.code == "G402"
    assert "Mystery 'odd'" in text
    assert "nobody worked it out" in text
    assert "net.py:12" in text
    assert gradient(graph, ["y"]).output_names == ("z", "y_grad")
    monkeypatch.setitem(declare._REGISTRY, "mystery", Primitive(
        "mystery", "a test", Kind.ELEMENTWISE, mystery.infer, mystery.oracle, no_gradient="flat",
    ))  # fmt: skip
    assert gradient(graph, ["x"]).nodes[-1].primitive == "full"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"wrt": ["z"]}, "no value 'z'"),
        ({"wrt": ["n"]}, "'n' has no gradient: its element type i32"),
        ({"wrt": ["x"], "heads": {"outt": "ones"}}, "no output 'outt'"),
        ({"wrt": ["x"], "heads": {"out": "wide"}}, "does not have the type of its output"),
        ({"wrt": ["x"], "grad_req": {"x": "plus"}}, "no gradient request 'plus'"),
        ({"wrt": ["x"], "grad_req": {"xx": "add"}}, "no value 'xx'"),
    ],
)
def test_wrong_arguments(arguments: dict, message: str) -> None:
    b = Builder("g")
    x, _, _ = b.input("x", T("f32[3]")), b.input("n", T("i32[3]")), b.input("wide", T("f32[4]"))
    with pytest.raises(GraphcError, match=message) as caught:
        gradient(b.finish({"out": b.exp(x)}), **arguments)
    assert caught.value.diagnostic.code == "G403"


def test_integer_inputs_may_be_left_out_by_request() -> None:
    b = Builder("g")
    x, _ = b.input("x", T("f32[3]")), b.input("n", T("i32[3]"))
    joint = gradient(b.finish({"out": b.exp(x)}), ["x", "n"], grad_req={"n": "null"})
    assert joint.output_names == ("out", "x_grad")
