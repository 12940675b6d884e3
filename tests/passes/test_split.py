"""Splitting a joint graph: forward and backward together are the joint graph, and keep little between them."""

from __future__ import annotations

import pytest
import torch

from graphc.diagnostics import GraphcError
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph, InputKind
from graphc.passes.gradient import gradient
from graphc.passes.simplify import Simplify
from graphc.passes.split import Split, split
from graphc.primitives.builder import Builder
from graphc.primitives.verify import verify_graph
from graphc.types import TensorType

T = TensorType.parse


def model() -> Graph:
    """y = relu(x w) + moving; moving follows the mean of y."""
    b = Builder("g")
    x, w = b.input("x", T("f32[N,4]")), b.input("w", T("f32[4,3]"), InputKind.PARAMETER)
    moving = b.input("moving", T("f32[]"), InputKind.STATE)
    with b.at((), "relu"):
        relu = b.maximum(b.emit("dot", x, w, transpose_a=False, transpose_b=False), 0.0)
    b.update(moving, b.add(b.mul(moving, 0.9), b.mul(b.mean(relu), 0.1)))
    return b.finish({"y": b.mul(relu, moving), "relu": b.exp(relu)})


def check(joint: Graph, parts: Split) -> None:
    """Running forward, then backward on what it left, gives what the joint graph gives."""
    for part in parts:
        verify_graph(part)
    inputs = {
        item.name: torch.randn(item.value.type.concrete_shape({"N": 5})).double() for item in joint.inputs
    }
    expected = run_reference(joint, inputs)
    first = run_reference(parts.forward, {item.name: inputs[item.name] for item in parts.forward.inputs})
    # Backward runs when the updates are made: an input that forward overwrites has its new content.
    given = inputs | first.updates | first.outputs
    second = run_reference(parts.backward, {item.name: given[item.name] for item in parts.backward.inputs})
    for name, value in expected.outputs.items():
        torch.testing.assert_close((first.outputs | second.outputs)[name], value)
    for name, value in expected.updates.items():
        torch.testing.assert_close((first.updates | second.updates)[name], value)


@pytest.mark.parametrize("simplify", [False, True])
@pytest.mark.parametrize("heads", [None, {"y": "y_head", "relu": "relu_head"}, {"y": "ones", "relu": None}])
@pytest.mark.parametrize("grad_req", [{}, {"w": "add"}, {"w": "add", "x": "add"}])
def test_parts_make_the_whole(simplify: bool, heads: dict | None, grad_req: dict) -> None:
    joint = gradient(model(), ["x", "w"], heads, grad_req)
    joint = Simplify()(joint) if simplify else joint
    parts = split(joint, ["y", "relu"])
    check(joint, parts)
    assert parts.forward.output_names[:2] == ("y", "relu")
    assert {update.target for update in parts.forward.updates} == {"moving"}
    assert {item.name for item in parts.forward.inputs} == {"x", "w", "moving"}
    residuals = set(parts.forward.output_names[2:])
    assert residuals <= {item.name for item in parts.backward.inputs}
    assert "moving_saved" in residuals
    assert "moving" not in parts.backward.input_by_name


def test_constants_and_views_are_not_kept() -> None:
    b = Builder("g")
    x, w = b.input("x", T("f32[6]")), b.input("w", T("f32[2,6]"))
    y = b.exp(x)
    wide = b.broadcast(y, (2, 6), (1,))
    joint = gradient(b.finish({"out": b.mul(b.mul(w, wide), 3.0)}), ["w"])
    parts = split(joint, ["out"])
    check(joint, parts)
    assert parts.forward.output_names == ("out", y.name)
    assert "broadcast" in [node.primitive for node in parts.backward.nodes]


def test_names_of_outputs_are_not_taken_for_residuals() -> None:
    b = Builder("g")
    x = b.input("x", T("f32[6]"))
    with b.at((), "out"):
        y = b.exp(x)
    joint = gradient(b.finish({"out": b.neg(y), "other": b.sin(y)}), ["x"])
    assert y.name == "out"
    parts = split(joint, ["out", "other"])
    check(joint, parts)
    assert "out_saved" in parts.forward.output_names


def test_markers_are_stripped() -> None:
    b = Builder("g")
    x, label = b.input("x", T("f32[3]")), b.input("label", T("f32[3]"))
    y = b.tanh(x)
    out = b.emit("with_gradient", y, x, b.sub(y, label), scaled=False)
    joint = gradient(b.finish({"out": out}), ["x"])
    parts = split(joint, ["out"])
    check(joint, parts)
    assert [node.primitive for node in parts.forward.nodes] == ["tanh"]
    assert [node.primitive for node in parts.backward.nodes] == ["sub"]


def test_updates_can_be_named() -> None:
    joint = gradient(model(), ["w"])
    parts = split(joint, ["y", "relu"], forward_updates=())
    assert parts.forward.updates == ()
    assert {update.target for update in parts.backward.updates} == {"moving"}
    check(joint, parts)


def test_unknown_outputs_are_errors() -> None:
    with pytest.raises(GraphcError, match="no output 'z'") as caught:
        split(gradient(model(), ["w"]), ["z"])
    assert caught.value.diagnostic.code == "G403"
