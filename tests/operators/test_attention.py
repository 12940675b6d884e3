"""Attention as an operator: masks of bool, dropout, 16-bit floats, MXNet's interleaved products, what is refused."""

from __future__ import annotations

import re

import pytest
import torch

import graphc as mx
from graphc.diagnostics import GraphcError
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph
from graphc.passes.attention import RecognizeAttention
from graphc.passes.gradient import gradient
from graphc.symbol import Symbol
from graphc.symbol.trace import trace

SHAPES = {"query": (2, 3, 5, 8), "key": (2, 3, 7, 8), "value": (2, 3, 7, 4)}


def attention(**parameters: object) -> Symbol:
    names = ("query", "key", "value", *(("mask",) if parameters.get("use_mask") else ()))
    inputs = {name: mx.sym.Variable(name) for name in names}
    return mx.sym.scaled_dot_product_attention(**inputs, **parameters, name="it")


def kinds(graph: Graph) -> list[str]:
    return [node.primitive for node in graph.nodes]


def test_a_mask_of_bool_hides_and_a_row_without_keys_is_nan() -> None:
    shapes = {**SHAPES, "mask": (2, 1, 5, 7)}
    inputs = {name: torch.randn(shape) for name, shape in shapes.items()}
    mask = torch.rand(shapes["mask"]) < 0.6
    mask[..., 0], mask[1, 0, 2] = True, False
    executable = mx.compile(attention(use_mask=True), shapes=shapes, dtypes={"mask": "bool"}, target="cpu")
    found = executable(**{**inputs, "mask": mask})
    q, k, v = (inputs[name].double() for name in SHAPES)
    scores = (q @ k.mT / 8**0.5).masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(found.double(), scores.softmax(-1) @ v, rtol=1e-5, atol=1e-6, equal_nan=True)
    assert torch.isnan(found[1, :, 2]).all() and not torch.isnan(found[0]).any()


def test_dropout_is_inside_and_only_in_training() -> None:
    graph = trace(attention(p=0.25), SHAPES, is_train=True)
    (node,) = [node for node in graph.nodes if node.primitive == "attention"]
    assert node.attributes["keep"] == 0.75 and "random_uniform" not in kinds(graph)
    assert all(
        n.attributes["keep"] == 1
        for n in trace(attention(p=0.25), SHAPES).nodes
        if n.primitive == "attention"
    )
    learned = gradient(graph, ["query", "key", "value"])
    inputs = {name: torch.randn(shape) for name, shape in SHAPES.items()}
    state = {next(i.name for i in graph.inputs if i.name not in SHAPES): torch.tensor([7, 3])}
    wanted = run_reference(learned, inputs | state).outputs
    executable = mx.compile(learned, target="cpu")
    executable.set_states(state)
    found = executable.run(**inputs)
    for name, value in wanted.items():
        torch.testing.assert_close(
            torch.as_tensor(found[name]).double(), value.double(), rtol=1e-4, atol=1e-5
        )
    nothing = trace(attention(p=1.0), SHAPES, is_train=True)
    assert not run_reference(nothing, inputs).outputs["it_output"].any()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bit_floats_store_no_scores_in_cpp(dtype: str) -> None:
    graph = trace(attention(causal=True), SHAPES, dict.fromkeys(SHAPES, dtype))
    learned = gradient(graph, ["query", "key", "value"])
    executable = mx.compile(learned, target="cpu")
    anchors = [k.anchor.primitive for k in executable.program.kernels if k.anchor]
    assert anchors == ["attention", "attention_gradient"]
    inputs = {name: torch.randn(shape).to(getattr(torch, dtype)) for name, shape in SHAPES.items()}
    found, wanted = executable.run(**inputs), run_reference(learned, inputs).outputs
    for name, value in wanted.items():
        torch.testing.assert_close(
            torch.as_tensor(found[name]).double(), value.double(), rtol=3e-2, atol=3e-2
        )


@pytest.mark.parametrize("cross", [False, True])
def test_mxnets_products_become_one_attention(cross: bool) -> None:
    joint, heads = mx.sym.Variable("joint"), {"heads": 3}
    if cross:
        scores = mx.sym.interleaved_matmul_encdec_qk(mx.sym.Variable("queries"), joint, **heads)
    else:
        scores = mx.sym.interleaved_matmul_selfatt_qk(joint, **heads)
    weights = mx.sym.Dropout(mx.sym.softmax(scores, axis=-1), p=0.1)
    product = mx.sym.interleaved_matmul_encdec_valatt if cross else mx.sym.interleaved_matmul_selfatt_valatt
    shapes = {"joint": (6, 2, 3 * (2 if cross else 3) * 4)} | ({"queries": (5, 2, 12)} if cross else {})
    graph = trace(product(joint, weights, **heads), shapes, is_train=True)
    found = RecognizeAttention()(graph)
    assert kinds(found).count("attention") == 1 and "dot" not in kinds(found)
    inputs = {name: torch.randn(shape).double() for name, shape in shapes.items()}
    inputs[next(i.name for i in graph.inputs if i.name not in shapes)] = torch.tensor([1, 2])
    (wanted,), (got,) = (run_reference(g, inputs).outputs.values() for g in (graph, found))
    torch.testing.assert_close(got, wanted)


def test_contributed_operators_have_their_short_names() -> None:
    apart = mx.sym.contrib.div_sqrt_dim(mx.sym.Variable("x"), name="it")
    assert apart.tojson() == mx.sym.div_sqrt_dim(mx.sym.Variable("x"), name="it").tojson()
    assert "interleaved_matmul_selfatt_qk" in dir(mx.sym.contrib)
    with pytest.raises(AttributeError, match="no operator '_contrib_div_sqrt_dam'"):
        _ = mx.sym.contrib.div_sqrt_dam


REFUSED = {
    "as many features": {"key": (2, 3, 7, 9)},
    "a value for each key": {"value": (2, 3, 6, 4)},
    "multiple of those of key": {"key": (2, 2, 7, 8), "value": (2, 2, 7, 4)},
    "the axes ..., rows, features": {"query": (8,)},
    "mask must broadcast": {"mask": (2, 3, 5, 6)},
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_does_not_fit_is_refused(words: str) -> None:
    shapes = {**SHAPES, "mask": (1,), **REFUSED[words]}
    with pytest.raises(GraphcError, match=re.escape(words)):
        trace(attention(use_mask=True), shapes)
    with pytest.raises(GraphcError, match="multiple of heads"):
        trace(mx.sym.interleaved_matmul_selfatt_qk(mx.sym.Variable("x"), heads=3), {"x": (5, 2, 16)})
