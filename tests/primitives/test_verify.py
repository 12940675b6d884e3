"""Every fault in a graph is found, named by its code, and told with the node and the user's line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from graphc.diagnostics import GraphcError, Location
from graphc.ir.graph import Attributes, Graph, InputKind, Node, Origin, Update, Value
from graphc.ir.text import parse_graph
from graphc.primitives.builder import Builder
from graphc.primitives.concrete import check_sizes
from graphc.primitives.verify import verify_graph
from graphc.types import DType, TensorType, dimension, symbol

F32_2 = TensorType(DType.F32, (2,))
F32_3 = TensorType(DType.F32, (3,))


def good(location: Location | None = None) -> Graph:
    builder = Builder("net")
    x = builder.input("x", F32_2)
    state = builder.input("state", F32_2, InputKind.STATE)
    with builder.at((Origin("act", "Activation", location),)):
        y = builder.tanh(x)
        z = builder.mul(y, state)
    builder.update(state, z)
    return builder.finish({"out": z, "y": y})


def node(graph: Graph, index: int, **changes: object) -> Graph:
    nodes = list(graph.nodes)
    nodes[index] = replace(nodes[index], **changes)  # type: ignore[arg-type]
    return graph.with_nodes(nodes)


FAULTS: dict[str, tuple[Callable[[Graph], Graph], str, str]] = {
    "undefined operand": (lambda g: node(g, 0, inputs=(Value("w", F32_2),)), "G303", "reads %w, which nothing defines"),
    "used before its node": (lambda g: g.with_nodes(reversed(g.nodes)), "G303", "%tanh, before the node that makes it"),
    "another type": (
        lambda g: node(g, 0, inputs=(Value("x", F32_3),)), "G303", "reads %x as f32[3], but it is f32[2]",
    ),
    "undefined output": (lambda g: replace(g, outputs=(Value("w", F32_2), g.outputs[1])), "G303", "returns %w"),
    "name defined twice": (
        lambda g: g.with_nodes((*g.nodes, replace(g.nodes[0], outputs=(Value("mul", F32_2),)))),
        "G304", "%mul is defined twice",
    ),
    "a node takes an input's name": (
        lambda g: node(g, 1, outputs=(Value("x", F32_2),)), "G304", "%x is defined twice",
    ),
    "two inputs of one name": (lambda g: replace(g, inputs=(*g.inputs, g.inputs[0])), "G304", "%x is defined twice"),
    "wrong result shape": (
        lambda g: node(g, 1, outputs=(Value("mul", F32_3),)), "G305", "the result is f32[2], not f32[3]",
    ),
    "wrong result element type": (
        lambda g: node(g, 1, outputs=(Value("mul", TensorType(DType.F64, (2,))),)), "G305", "not f64[2]",
    ),
    "too many results": (
        lambda g: node(g, 1, outputs=(*g.nodes[1].outputs, Value("more", F32_2))), "G305", "the result is f32[2], not",
    ),
    "too few operands": (lambda g: node(g, 1, inputs=g.nodes[1].inputs[:1]), "G305", "takes 2 operands, got 1"),
    "unknown attribute": (
        lambda g: node(g, 1, attributes=Attributes({"axis": 1})),
        "G305", "mul has no attribute 'axis'",
    ),
    "missing attribute": (lambda g: node(g, 1, primitive="concat"), "G305", "concat needs the attribute 'axis'"),
    "default left out": (
        lambda g: node(g, 1, primitive="with_gradient", inputs=(g.nodes[1].inputs[0],) * 3),
        "G305", "the attribute scaled must be given",
    ),
    "unknown primitive": (lambda g: node(g, 1, primitive="mull"), "G301", "there is no primitive 'mull'"),
    "update of no input": (
        lambda g: replace(g, updates=(Update("mul", g.outputs[0]),)), "G306", "%mul is updated, but it is no input",
    ),
    "updated twice": (lambda g: replace(g, updates=g.updates * 2), "G306", "%state is updated twice"),
    "update of another type": (
        lambda g: replace(g, inputs=(replace(g.inputs[0], value=Value("x", F32_2)), *g.inputs[1:]),
                          updates=(Update("state", Value("wide", TensorType(DType.F64, (2,)))),),
                          nodes=(*g.nodes, Node("cast", (g.outputs[0],), (Value("wide", TensorType(DType.F64, (2,))),),
                                                Attributes({"dtype": DType.F64})))),
        "G306", "%state is f32[2], its update f64[2]",
    ),
    "undefined update": (
        lambda g: replace(g, updates=(Update("state", Value("w", F32_2)),)), "G303", "the update of %state is %w",
    ),
    "nothing computed": (
        lambda g: replace(g, outputs=(), output_names=(), updates=()), "G307", "it has no output and no update",
    ),
    "outputs of one name": (lambda g: replace(g, output_names=("out", "out")), "G308", "two outputs named 'out'"),
    "free dimension": (
        lambda g: g.with_nodes((*g.nodes, Node("dim", (), (Value("n", TensorType(DType.F32, ())),),
                                               Attributes({"dtype": DType.F32, "value": symbol("N")})))),
        "G309", "no input has the dimension N",
    ),
    "free dimension of a shape": (
        lambda g: g.with_nodes((*g.nodes, Node("iota", (), (Value("n", TensorType(DType.F32, (symbol("N"),))),),
            Attributes({"axis": 0, "dtype": DType.F32, "shape": (symbol("N"),)})))),
        "G309", "no input has the dimension N",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str) -> None:
    verify_graph(good())
    change, code, message = FAULTS[fault]
    with pytest.raises(GraphcError) as caught:
        verify_graph(change(good()))
    assert caught.value.diagnostic.code == code
    assert message in caught.value.diagnostic.message


def test_an_error_names_the_users_operator_and_line(tmp_path: Path) -> None:
    source = tmp_path / "model.py"
    source.write_text("import graphc as mx\n\nact = mx.sym.Activation(data)\n")
    broken = node(good(Location(str(source), 3)), 1, outputs=(Value("mul", F32_3),))
    with pytest.raises(GraphcError) as caught:
        verify_graph(broken)
    text = str(caught.value)
    assert "Activation 'act'" in text
    assert "model.py:3   act = mx.sym.Activation(data)" in text
    assert "%mul = mul(%tanh, %state)" in text
    assert "tanh   f32[2]" in text


def test_equal_dimensions_in_other_forms_are_equal() -> None:
    builder = Builder()
    x = builder.input("x", TensorType.parse("f32[N,2]"))
    y = builder.reshape(x, [2 * symbol("N")])
    graph = builder.finish([y])
    other = TensorType(DType.F32, (dimension(symbol("N") + symbol("N")),))
    verify_graph(
        replace(node(graph, 0, outputs=(Value("reshape", other),)), outputs=(Value("reshape", other),))
    )


def test_a_graph_of_updates_alone_is_complete() -> None:
    verify_graph(replace(good(), outputs=(), output_names=()))


def test_a_parsed_fault_is_found() -> None:
    graph = parse_graph(
        "graph g(%x: f32[2,3]) -> (%y) {\n  %y: f32[2,3] = transpose(%x) {axes=(1,0)}  // m.py:4 T t\n}"
    )
    with pytest.raises(GraphcError, match=r"G305.*T 't'.*the result is f32\[3,2\], not f32\[2,3\]"):
        verify_graph(graph)


def test_rules_are_checked_again_when_sizes_are_known() -> None:
    builder = Builder()
    x, k = builder.input("x", TensorType.parse("f32[1,2,N]")), builder.input("k", TensorType.parse("i32[3]"))
    w = builder.input("w", TensorType.parse("f32[4,2,5]"))
    with builder.at((Origin("conv1", "Convolution", Location("net.py", 3)),)):
        y = builder.emit("convolution", x, w, stride=(1,), pad=(1,), dilate=(1,))
    graph = builder.finish([y, builder.emit("gather", x, k, axis=2)])
    check_sizes(graph, {"N": 3})
    with pytest.raises(GraphcError) as caught:
        check_sizes(graph, {"N": 2})
    assert caught.value.diagnostic.code == "G602"
    assert "a window of 5 must fit into the axis: it has 2 elements and 2 of padding" in str(caught.value)
    assert "Convolution 'conv1'" in str(caught.value) and "x  f32[1,2,2]   expected f32[1,2,N]" in str(
        caught.value
    )
    gathered = builder.finish([builder.nodes[-1].output]).with_nodes(builder.nodes[-1:])
    with pytest.raises(
        GraphcError, match=r"axis 2 of f32\[1,2,0\] must not be empty \(in gather, for N = 0\)"
    ):
        check_sizes(gathered, {"N": 0})
