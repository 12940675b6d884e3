"""The reference executor: types, sizes, updates, errors."""

from typing import Any

import numpy
import pytest
import torch

from graphc.diagnostics import GraphcError
from graphc.driver.compile import compile
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph, InputKind
from graphc.ir.text import parse_graph
from graphc.primitives.builder import Builder
from graphc.types import DType, TensorType
from support.graphs import random_graph, random_inputs


def step() -> Graph:
    """y = x @ w, w <- w - rate * mean(x); two states swap."""
    builder = Builder("step")
    x = builder.input("x", TensorType.parse("f32[N,3]"))
    w = builder.input("w", TensorType.parse("f32[3,2]"), InputKind.PARAMETER)
    a = builder.input("a", TensorType.parse("f32[2]"), InputKind.STATE)
    b = builder.input("b", TensorType.parse("f32[2]"), InputKind.STATE)
    slope = builder.broadcast(builder.mean(x, [0]), (3, 2), [0])
    builder.update(w, builder.sub(w, builder.mul(slope, 0.5)))
    builder.update(a, b)
    builder.update(b, a)
    return builder.finish({"y": builder.emit("dot", x, w), "x again": x})


def inputs(rows: int = 4) -> dict[str, torch.Tensor]:
    return {"x": torch.randn(rows, 3), "w": torch.randn(3, 2), "a": torch.zeros(2), "b": torch.ones(2)}


@pytest.mark.parametrize("rows", [1, 5])
def test_outputs_and_updates_for_any_size(rows: int) -> None:
    given = inputs(rows)
    result = run_reference(step(), given)
    torch.testing.assert_close(result.outputs["y"], given["x"].double() @ given["w"].double())
    expected = given["w"].double() - 0.5 * given["x"].double().mean(0)[:, None]
    torch.testing.assert_close(result.updates["w"], expected)
    assert result.updates["a"].tolist() == [1, 1] and result.updates["b"].tolist() == [0, 0]
    assert set(result.outputs) == {"y", "x again"}


def test_element_types() -> None:
    wide = run_reference(step(), inputs())
    assert {value.dtype for value in (*wide.outputs.values(), *wide.updates.values())} == {torch.float64}
    declared = run_reference(step(), inputs(), dtype=None)
    assert {value.dtype for value in (*declared.outputs.values(), *declared.updates.values())} == {
        torch.float32
    }
    graph = parse_graph(
        "graph g(%x: f16[3], %k: i16[3]) -> (%h, %s, %c) {\n"
        "  %h: f16[3] = exp(%x)\n  %s: i16[3] = mul(%k, %k)\n  %c: bf16[3] = cast(%k) {dtype=bf16}\n}"
    )
    given = {"x": torch.tensor([0.5, 1, 2]), "k": torch.tensor([1, 2, 300])}
    exact = run_reference(graph, given).outputs
    assert [value.dtype for value in exact.values()] == [torch.float64, torch.int16, torch.float64]
    # 300 * 300 wraps in 16 bits; in float64 a cast to bf16 does not round.
    assert exact["s"].tolist() == [1, 4, 90000 - 65536] and exact["c"].tolist() == [1, 2, 300]
    torch.testing.assert_close(exact["h"], given["x"].double().exp(), rtol=1e-12, atol=0)
    own = run_reference(graph, given, dtype=None).outputs
    assert [value.dtype for value in own.values()] == [torch.float16, torch.int16, torch.bfloat16]


def test_results_have_memory_of_their_own() -> None:
    given = {name: value.double() for name, value in inputs().items()}
    before = {name: value.clone() for name, value in given.items()}
    result = run_reference(step(), given)
    for value in (*result.outputs.values(), *result.updates.values()):
        assert value.is_contiguous()
        value.fill_(7.0)
    for name, value in given.items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    graph = parse_graph(
        "graph g(%x: f32[4]) -> (%y, %z) {\n  %y: f32[4] = neg(%x)\n  %z: f32[2,2] = reshape(%y) {shape=(2,2)}\n}"
    )
    outputs = run_reference(graph, {"x": numpy.ones(4)}).outputs
    outputs["y"].fill_(5.0)
    assert outputs["z"].tolist() == [[-1, -1], [-1, -1]]


def test_arrays_and_lists_are_accepted() -> None:
    graph = parse_graph("graph g(%x: f32[2], %k: i64[]) -> (%y) {\n  %y: f32[2] = neg(%x)\n}")
    result = run_reference(graph, {"x": numpy.array([1, 2]), "k": 3})
    assert result.outputs["y"].tolist() == [-1, -2]


ERRORS: list[tuple[dict[str, Any], str, str]] = [
    ({"w": None}, "G601", "no value was given for the input 'w' of type f32[3,2]"),
    ({"weight": torch.zeros(3, 2)}, "G601", "has no input 'weight'"),
    ({"x": torch.zeros(4)}, "G602", "it has 2 dimensions, not 1"),
    ({"x": torch.zeros(4, 5)}, "G602", "3 expected, not 5"),
]


@pytest.mark.parametrize(("change", "code", "message"), ERRORS)
def test_errors(change: dict[str, Any], code: str, message: str) -> None:
    given = {name: value for name, value in (inputs() | change).items() if value is not None}
    with pytest.raises(GraphcError) as caught:
        run_reference(step(), given)
    assert caught.value.diagnostic.code == code
    assert message in caught.value.diagnostic.message


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_sizes_that_a_graph_cannot_have_are_refused(target: str) -> None:
    graph = parse_graph(
        "graph g(%x: f32[N,4]) -> (%z) {\n"
        "  %y: f32[N-2,4] = slice(%x) {start=(2,0), stop=(N,4)}\n  %z: f32[N-2,4] = neg(%y)\n}"
    )
    run = compile(graph, target=target).run
    assert run(x=torch.ones(3, 4))["z"].tolist() == [[-1] * 4]
    assert run(x=torch.ones(2, 4))["z"].shape == (0, 4)
    with pytest.raises(GraphcError, match=r"G602.*axis 0 of f32\[1,4\] has 2:1 \(in slice, for N = 1\)"):
        run(x=torch.ones(1, 4))
    with pytest.raises(GraphcError, match=r"G602.*N must be at least 1"):
        run(x=torch.ones(0, 4))


def test_fractions_for_an_integer_input_are_refused() -> None:
    graph = parse_graph("graph g(%k: i32[2]) -> (%y) {\n  %y: i32[2] = neg(%k)\n}")
    with pytest.raises(GraphcError, match=r"G603.*input 'k' is i32\[2\], given torch.float32"):
        run_reference(graph, {"k": torch.tensor([0.5, 1.0])})


def test_values_are_dropped_after_their_last_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    import graphc.driver.reference as reference

    builder = Builder()
    x = value = builder.input("x", TensorType(DType.F32, (8,)))
    for _ in range(20):
        value = builder.tanh(value)
        builder.sin(value)
    graph = builder.finish({"y": builder.add(value, x)})
    alive: list[int] = []
    evaluate = reference.evaluate_node

    def count(node: Any, values: dict[str, torch.Tensor]) -> None:
        alive.append(len(values))
        evaluate(node, values)

    monkeypatch.setattr(reference, "evaluate_node", count)
    reference.run_reference(graph, {"x": torch.zeros(8)})
    # The input, which the last node reads, and the newest tanh.
    assert max(alive) == 2


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_are_tame(seed: int) -> None:
    """Their f32 results are finite and within 1e-4 of float64, and all decisions are the same."""
    graph = random_graph(seed)
    given = random_inputs(graph, seed)
    exact, rounded = run_reference(graph, given), run_reference(graph, given, dtype=None)
    for part in ("outputs", "updates"):
        for name, value in getattr(exact, part).items():
            other = getattr(rounded, part)[name]
            if value.is_floating_point():
                assert torch.isfinite(value).all()
                torch.testing.assert_close(other.double(), value, rtol=1e-5, atol=1e-6)
            else:
                assert torch.equal(other, value)


def test_random_graphs_reach_every_primitive_and_are_seeded() -> None:
    from graphc.primitives import primitives
    from graphc.primitives.declare import Kind
    from support.graphs import KINDS

    graphs = [random_graph(seed, kinds=KINDS) for seed in range(200)]
    used = {node.primitive for graph in graphs for node in graph.nodes}
    # Templates (attention, recurrences) have graphs of their own in tests/passes and tests/operators.
    assert used == {declared.name for declared in primitives() if declared.kind is not Kind.TEMPLATE}
    assert random_graph(5) == random_graph(5) != random_graph(6)
    assert sum(bool(graph.symbols) for graph in graphs) > 30
    assert sum(bool(graph.updates) for graph in graphs) > 30
    unread = [graph for graph in graphs if any(not graph.readers[v.name] and v.name not in graph.results
                                               for node in graph.nodes for v in node.outputs)]  # fmt: skip
    assert len(unread) > 100
