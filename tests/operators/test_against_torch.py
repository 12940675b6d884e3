"""Every operator against torch in float64: values, gradients, inferred shapes and types, text forms."""

import pickle
from typing import Any

import pytest
import torch

import graphc as mx
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph
from graphc.operators import operator, operators
from graphc.passes.gradient import gradient
from graphc.primitives.verify import verify_graph
from graphc.symbol import Symbol
from graphc.symbol.trace import trace
from graphc.types import DType, numpy_dtype
from support.cases import Case
from support.operator_cases import CASES, ELSEWHERE

each_case = pytest.mark.parametrize("case", CASES, ids=str)


def build(case: Case) -> Symbol:
    inputs = {name: mx.sym.Variable(name) for name in case.shapes}
    function = getattr(mx.sym, case.operator)
    if operator(case.operator).counted:
        return function(*inputs.values(), **case.parameters, name="it")
    return function(**inputs, **case.parameters, name="it")


def expected(case: Case, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    result = case.oracle(*inputs.values())
    return result if isinstance(result, tuple) else (result,)


def close(graph: Graph, inputs: dict[str, torch.Tensor], wanted: tuple[torch.Tensor, ...]) -> None:
    results = run_reference(graph, inputs).outputs
    assert len(results) == len(wanted)
    for found, oracle in zip(results.values(), wanted, strict=True):
        assert found.shape == oracle.shape
        torch.testing.assert_close(found.double(), oracle.double(), rtol=1e-6, atol=1e-7)


def test_every_operator_has_a_case() -> None:
    assert {case.operator for case in CASES} | ELSEWHERE == {item.name for item in operators()}


@each_case
def test_value(case: Case) -> None:
    inputs = case.inputs()
    graph = trace(build(case), case.shapes)
    verify_graph(graph)
    close(graph, inputs, expected(case, inputs))


@pytest.mark.parametrize("case", [c for c in CASES if c.symbolic and c.shapes], ids=str)
def test_symbolic_batch(case: Case) -> None:
    """A named first dimension gives what its number gives."""
    first = next(iter(case.shapes.values()))[0]
    batched = {
        name: ("N", *shape[1:])
        if position == 0 or (shape[0] == first and name not in PARAMETER_LIKE)
        else shape
        for position, (name, shape) in enumerate(case.shapes.items())
    }
    inputs = case.inputs(1)
    graph = trace(build(case), batched)
    verify_graph(graph)
    close(graph, inputs, expected(case, inputs))


PARAMETER_LIKE = frozenset(("weight", "bias", "gamma", "beta", "shape_like", "indices"))


@pytest.mark.parametrize("case", [c for c in CASES if c.gradient and c.shapes], ids=str)
def test_gradient(case: Case) -> None:
    inputs = case.inputs(2)
    learned = [name for name in inputs if not isinstance(case.draw.get(name), int)]
    for name in learned:
        inputs[name].requires_grad_(True)
    outputs = expected(case, inputs)
    heads = [torch.randn(value.shape, dtype=torch.float64) for value in outputs]
    torch.autograd.backward(outputs, heads)
    graph = trace(build(case), case.shapes)
    named = {name: f"head{k}" for k, name in enumerate(graph.output_names)}
    graph = gradient(graph, learned, named)
    verify_graph(graph)
    plain = {name: value.detach() for name, value in inputs.items()}
    plain |= {f"head{k}": head for k, head in enumerate(heads)}
    plain = {name: value for name, value in plain.items() if name in graph.input_by_name}
    results = run_reference(graph, plain).outputs
    for name in learned:
        wanted = inputs[name].grad if inputs[name].grad is not None else torch.zeros_like(inputs[name])
        torch.testing.assert_close(results[f"{name}_grad"], wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("case", [c for c in CASES if c.gradient and c.shapes], ids=str)
def test_gradient_of_the_gradient(case: Case) -> None:
    inputs = case.inputs(4)
    learned = [name for name in inputs if not isinstance(case.draw.get(name), int)]
    variables = [inputs[name].requires_grad_(True) for name in learned]
    outputs = expected(case, inputs)
    heads = [torch.randn(value.shape, dtype=torch.float64) for value in outputs]
    seconds = [torch.randn(value.shape, dtype=torch.float64) for value in variables]
    first = torch.autograd.grad(outputs, variables, heads, create_graph=True, allow_unused=True)
    pairs = [
        (value, head)
        for value, head in zip(first, seconds, strict=True)
        if value is not None and value.requires_grad
    ]
    wanted = (
        torch.autograd.grad([v for v, _ in pairs], variables, [h for _, h in pairs], allow_unused=True)
        if pairs
        else [None] * len(learned)
    )
    graph = trace(build(case), case.shapes)
    graph = gradient(graph, learned, {name: f"head{k}" for k, name in enumerate(graph.output_names)})
    firsts = [f"{name}_grad" for name in learned]
    twice = gradient(graph, learned, {name: f"second_{name}" for name in firsts})
    given = {name: value.detach() for name, value in inputs.items()}
    given |= {f"head{k}": head for k, head in enumerate(heads)}
    given |= {f"second_{name}": head for name, head in zip(firsts, seconds, strict=True)}
    given = {name: value for name, value in given.items() if name in twice.input_by_name}
    results = run_reference(twice, given).outputs
    added = [name for name in twice.output_names if name not in graph.output_names]
    for name, value, oracle in zip(added, variables, wanted, strict=True):
        zeros = torch.zeros_like(value)
        torch.testing.assert_close(results[name], zeros if oracle is None else oracle, rtol=1e-5, atol=1e-6)


@each_case
def test_inference_agrees_with_trace(case: Case) -> None:
    symbol = build(case)
    for dtype in (DType.F32, DType.F16):
        wanted = dict.fromkeys(case.shapes, dtype)
        graph = trace(symbol, case.shapes, wanted)
        _, shapes, _ = symbol.infer_shape(**case.shapes)
        assert shapes == [value.type.shape for value in graph.outputs]
        _, types, _ = symbol.infer_type(**{name: numpy_dtype(dtype) for name in case.shapes})
        assert types == [numpy_dtype(value.type.dtype).type for value in graph.outputs]


@each_case
def test_text_and_pickle(case: Case) -> None:
    symbol = build(case)
    loaded = mx.sym.load_json(symbol.tojson())
    assert loaded.tojson() == symbol.tojson()
    assert loaded.list_arguments() == symbol.list_arguments() == list(case.shapes)
    thawed = pickle.loads(pickle.dumps(symbol))
    assert str(trace(thawed, case.shapes)) == str(trace(symbol, case.shapes))
    assert str(trace(loaded, case.shapes, name="it")).count("\n") > 0


@pytest.mark.parametrize("item", operators(), ids=lambda item: item.name)
def test_documentation(item: Any) -> None:
    function = getattr(mx.sym, item.name)
    assert function.__doc__.startswith(item.doc)
    for parameter in item.parameters:
        assert parameter.doc.endswith(".")
        if not parameter.required and parameter.default is not None and not parameter.ignored:
            assert parameter.parse(str(parameter.default)) == parameter.default
    for alias in item.aliases:
        assert operator(alias) is item
