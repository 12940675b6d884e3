"""The Builder: broadcasting, scalars, names, origins, and errors with the user's line."""

import math
from pathlib import Path

import pytest
import torch

from graphc.diagnostics import GraphcError, Location
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph, InputKind, Origin, Value
from graphc.primitives.builder import Builder, rebuild
from graphc.primitives.verify import verify_graph
from graphc.types import DType, TensorType, symbol

N = symbol("N")


@pytest.fixture
def b() -> Builder:
    return Builder("g")


def tensor(b: Builder, text: str, name: str = "") -> Value:
    return b.input(name or f"x{len(b.inputs)}", TensorType.parse(text))


def primitives_of(b: Builder) -> list[str]:
    return [node.primitive for node in b.nodes]


# Elementwise: broadcasting and scalars


def test_operands_of_one_shape_need_no_broadcast(b: Builder) -> None:
    b.add(tensor(b, "f32[N,3]"), tensor(b, "f32[N,3]"))
    assert primitives_of(b) == ["add"]


@pytest.mark.parametrize(
    ("x", "y", "result"),
    [
        ("f32[2,3]", "f32[3]", "f32[2,3]"),
        ("f32[3]", "f32[2,1]", "f32[2,3]"),
        ("f32[]", "f32[N]", "f32[N]"),
        ("f32[1]", "f32[0]", "f32[0]"),
        ("f32[N,1]", "f32[1,M]", "f32[N,M]"),
        ("f32[1,1]", "f32[1]", "f32[1,1]"),
    ],
)
def test_shapes_broadcast_as_in_numpy(b: Builder, x: str, y: str, result: str) -> None:
    assert str(b.mul(tensor(b, x), tensor(b, y)).type) == result
    verify_graph(b.finish([b.nodes[-1].output]))


def test_where_broadcasts_all_three(b: Builder) -> None:
    value = b.where(tensor(b, "bool[2,1]"), tensor(b, "f64[3]"), tensor(b, "f64[]"))
    assert str(value.type) == "f64[2,3]"


def test_a_scalar_takes_the_type_beside_it(b: Builder) -> None:
    for text in ("f32[N]", "f16[2]", "i8[]", "i64[3]"):
        x = tensor(b, text)
        for value in (b.add(x, 2), b.sub(2, x), b.maximum(x, 2.0)):
            assert value.type == x.type
    assert [type(n.attributes["value"]) for n in b.nodes if n.primitive == "full"] == [float] * 6 + [int] * 6


def test_a_scalar_in_where_takes_the_type_of_the_branches(b: Builder) -> None:
    condition, x = tensor(b, "bool[2]"), tensor(b, "f64[2]")
    assert b.where(condition, x, 0).type.dtype is DType.F64
    assert b.where(condition, 1, x).type.dtype is DType.F64
    assert b.where(condition, 1.5, 0).type.dtype is DType.F32
    assert b.where(True, x, 0.0).type.dtype is DType.F64
    verify_graph(b.finish([b.nodes[-1].output]))


def test_a_comparison_with_a_scalar(b: Builder) -> None:
    assert str(b.gt(tensor(b, "f16[N]"), 0).type) == "bool[N]"
    assert b.logical_and(tensor(b, "bool[2]"), True).type.dtype is DType.BOOL


def test_a_number_that_the_type_cannot_hold_is_refused(b: Builder) -> None:
    k = tensor(b, "i32[2]")
    for value in (0.5, math.nan, math.inf):
        with pytest.raises(GraphcError, match=r"G203.* is no i32"):
            b.mul(k, value)
    with pytest.raises(GraphcError, match=r"G203.*the number 2 is no bool"):
        b.logical_or(tensor(b, "bool[2]"), 2)
    with pytest.raises(GraphcError, match=r"G201.*must lie in -128..127, got 300"):
        b.add(tensor(b, "i8[2]"), 300)
    b.add(tensor(b, "f32[]"), math.nan)
    assert math.isnan(b.nodes[-2].attributes["value"])


def test_scalars_alone_are_no_operands(b: Builder) -> None:
    with pytest.raises(TypeError, match="add needs at least one tensor operand"):
        b.add(1, 2)


# Conveniences


def test_trivial_views_make_no_node(b: Builder) -> None:
    x = tensor(b, "f32[N,3]")
    assert b.reshape(x, [N, 3]) is x
    assert b.broadcast_to(x, (N, 3)) is x
    assert b.transpose(x, (0, 1)) is x
    assert b.slice(x, (0, 0), (N, 3)) is x
    assert b.cast(x, DType.F32) is x
    assert b.reduce("reduce_sum", x, []) is x
    assert b.nodes == []


def test_reductions_take_negative_axes_and_keep_dimensions(b: Builder) -> None:
    x = tensor(b, "f32[N,3,4]")
    assert str(b.sum(x).type) == "f32[]"
    assert str(b.sum(x, [-1]).type) == "f32[N,3]"
    assert str(b.sum(x, [2, 0], keepdims=True).type) == "f32[1,3,1]"
    assert str(b.reduce("reduce_max", x, (-3,)).type) == "f32[3,4]"
    for axis in (3, -4):
        with pytest.raises(GraphcError, match=r"axis must lie in 0\.\.2 for rank 3"):
            b.sum(x, [axis])


def test_a_mean_divides_by_the_size_when_it_is_run(b: Builder) -> None:
    x = tensor(b, "f32[N,2]", "x")
    graph = b.finish({"all": b.mean(x), "rows": b.mean(x, [0]), "columns": b.mean(x, [-1], keepdims=True)})
    given = torch.arange(10.0).reshape(5, 2)
    result = run_reference(graph, {"x": given}).outputs
    assert result["all"] == given.mean()
    torch.testing.assert_close(result["rows"], given.double().mean(0))
    torch.testing.assert_close(result["columns"], given.double().mean(1, keepdim=True))


def test_slice_axis(b: Builder) -> None:
    x = tensor(b, "f32[4,N]")
    assert str(b.slice_axis(x, 0, 1, 3).type) == "f32[2,N]"
    assert str(b.slice_axis(x, -1, 0, N).type) == "f32[4,N]"
    assert str(b.slice_axis(x, 1, 1, N).type) == "f32[4,N-1]"


def test_dim_is_a_number_when_it_is_known(b: Builder) -> None:
    assert b.dim(6, DType.F32) == 6
    value = b.dim(2 * N, DType.F32)
    assert isinstance(value, Value) and str(value.type) == "f32[]"


# Names, origins, inputs, updates


def test_names_are_unique_and_follow_the_hint(b: Builder) -> None:
    x = tensor(b, "f32[2]", "x")
    names = [b.emit("neg", x, hint="fc1").name, b.emit("neg", x, hint="fc1").name, b.emit("neg", x).name]
    with b.at((), hint="relu1"):
        names += [b.neg(x).name, b.neg(x).name, b.emit("neg", x, hint="x").name]
    assert names == ["fc1", "fc1.1", "neg", "relu1", "relu1.1", "x.1"]


def test_an_extended_graph_keeps_its_names_apart(b: Builder) -> None:
    graph = b.finish([b.neg(b.neg(tensor(b, "f32[2]")))])
    more = Builder.extend(graph)
    value = more.neg(graph.outputs[0])
    extended = more.finish([value])
    verify_graph(extended)
    assert value.name == "neg.2"
    assert graph.nodes == extended.nodes[:2] and len(graph.nodes) == 2


def test_origins_nest_and_end(b: Builder) -> None:
    x = tensor(b, "f32[2]")
    outer, inner = (Origin("outer", "Op"),), (Origin("inner", "Op"),)
    with b.at(outer, hint="o"):
        b.neg(x)
        with b.at(inner):
            assert b.origins == inner
            b.neg(x)
        with pytest.raises(RuntimeError), b.at(inner):
            raise RuntimeError
        b.neg(x)
    b.neg(x)
    assert [node.origins for node in b.nodes] == [outer, inner, outer, ()]
    assert [node.output.name for node in b.nodes] == ["o", "o.1", "o.2", "neg"]


def test_an_input_name_is_taken_once(b: Builder) -> None:
    tensor(b, "f32[2]", "data")
    with pytest.raises(GraphcError, match=r"G302.*two values are named 'data'"):
        tensor(b, "f32[3]", "data")


def test_an_update_has_the_type_of_its_state(b: Builder) -> None:
    state = b.input("s", TensorType.parse("f32[2]"), InputKind.STATE)
    for wrong in ("f32[3]", "f64[2]"):
        with pytest.raises(GraphcError, match=r"G204.*state 's' is f32\[2\], its update"):
            b.update(state, tensor(b, wrong))
    b.update(state, b.neg(state))
    assert [update.target for update in b.updates] == ["s"]


def test_finish_names_outputs(b: Builder) -> None:
    x = tensor(b, "f32[2]", "x")
    assert b.finish([x]).output_names == ("x",)
    assert b.finish({"a": x, "b": x}).output_names == ("a", "b")
    assert isinstance(rebuild(b.finish([x]), []), Graph)


# Errors


def test_an_error_names_the_operator_the_line_and_the_operands(b: Builder, tmp_path: Path) -> None:
    source = tmp_path / "mlp.py"
    source.write_text("\n".join(["import graphc as mx", "fc = mx.sym.FullyConnected(data, num_hidden=10)"]))
    data, weight = tensor(b, "f32[N,128]", "data"), tensor(b, "f32[10,100]", "weight")
    with (
        b.at((Origin("fc", "FullyConnected", Location(str(source), 2)),)),
        pytest.raises(GraphcError) as caught,
    ):
        b.emit("dot", data, weight, transpose_b=True)
    text = str(caught.value)
    assert (
        "error[G201] FullyConnected 'fc': inner dimensions differ: 128 of f32[N,128], 100 of f32[10,100] (in dot)"
        in text
    )
    assert "mlp.py:2   fc = mx.sym.FullyConnected(data, num_hidden=10)" in text
    assert "data    f32[N,128]" in text and "weight  f32[10,100]" in text


def test_shapes_that_do_not_broadcast(b: Builder) -> None:
    with pytest.raises(GraphcError) as caught:
        b.add(tensor(b, "f32[2,3]"), tensor(b, "f32[2,4]"))
    assert caught.value.diagnostic.code == "G202"
    assert "shapes do not broadcast: axis -1 has 3 and 4" in str(caught.value)
    with pytest.raises(GraphcError, match="axis -2 has N and 2"):
        b.add(tensor(b, "f32[N,3]"), tensor(b, "f32[2,1]"))


def test_mixed_types_are_never_promoted(b: Builder) -> None:
    with pytest.raises(GraphcError, match=r"one element type, got f32\[2\], f64\[2\]; cast first"):
        b.add(tensor(b, "f32[2]"), tensor(b, "f64[2]"))


def test_an_unknown_method_is_an_unknown_primitive(b: Builder) -> None:
    with pytest.raises(GraphcError, match=r"G301.*'sigmoit'"):
        b.sigmoit(tensor(b, "f32[2]"))
    with pytest.raises(AttributeError):
        b._sigmoid  # noqa: B018


def test_a_failed_call_leaves_the_builder_as_it_was(b: Builder) -> None:
    x, y = tensor(b, "f32[2]"), tensor(b, "f64[2]")
    with pytest.raises(GraphcError):
        b.emit("add", x, y)
    assert b.nodes == [] and b.emit("add", x, x).name == "add"
