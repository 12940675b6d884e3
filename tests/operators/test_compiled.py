"""Every operator with its gradient through the whole street to the CPU: passes, fusion, plan, generated C++."""

import pytest
import torch

import graphc as mx
from graphc.operators import operator
from graphc.passes.gradient import gradient
from graphc.symbol import Symbol
from graphc.symbol.trace import trace
from support.cases import Case
from support.operator_cases import CASES

CHUNK = 32
CHUNKS = [CASES[start : start + CHUNK] for start in range(0, len(CASES), CHUNK)]


def build(case: Case, number: int) -> Symbol:
    """The case's operator over variables of its own, so that many cases make one program."""
    inputs = {name: mx.sym.Variable(f"{name}_{number}") for name in case.shapes}
    function = getattr(mx.sym, case.operator)
    if operator(case.operator).counted:
        return function(*inputs.values(), **case.parameters, name=f"it{number}")
    return function(**inputs, **case.parameters, name=f"it{number}")


@pytest.mark.parametrize("chunk", CHUNKS, ids=lambda chunk: f"{chunk[0].operator}-{chunk[-1].operator}")
def test_compiled(chunk: tuple[Case, ...]) -> None:
    symbols, given, wanted, learned = [], {}, {}, []
    for number, case in enumerate(chunk):
        symbols.append(build(case, number))
        inputs = case.inputs(number)
        given |= {f"{name}_{number}": value.float() for name, value in inputs.items()}
        names = [name for name in inputs if case.gradient and not isinstance(case.draw.get(name), int)]
        for name in names:
            inputs[name].requires_grad_(True)
        result = case.oracle(*inputs.values())
        outputs = result if isinstance(result, tuple) else (result,)
        wanted |= dict(zip(symbols[-1].list_outputs(), (value.detach() for value in outputs), strict=True))
        if names:
            torch.autograd.backward(outputs, [torch.ones_like(value) for value in outputs])
        for name in names:
            grad = inputs[name].grad
            wanted[f"{name}_{number}_grad"] = torch.zeros_like(inputs[name]) if grad is None else grad
            learned.append(f"{name}_{number}")
    graph = trace(mx.sym.Group(symbols), {name: value.shape for name, value in given.items()})
    graph = gradient(graph, learned)
    given = {name: value for name, value in given.items() if name in graph.input_by_name}
    results = mx.compile(graph, target="cpu").run(**given)
    assert results.keys() == wanted.keys()
    for name, value in wanted.items():
        found = torch.as_tensor(results[name]).double()
        torch.testing.assert_close(
            found, value.double(), rtol=2e-4, atol=2e-5, msg=lambda text, n=name: f"{n}: {text}"
        )
