"""Attributes and the tables of a graph."""

import math
import pickle

import numpy
import pytest

from graphc.ir.graph import Attributes, Graph, InputKind, Origin, merge_origins
from graphc.primitives.builder import Builder
from graphc.types import TensorType, symbol


def test_attributes_are_equal_as_their_text_is() -> None:
    assert Attributes({"value": math.nan}) == Attributes({"value": float("nan")})
    assert hash(Attributes({"value": math.nan})) == hash(Attributes({"value": float("nan")}))
    assert Attributes({"value": 0.0}) != Attributes({"value": -0.0})
    assert Attributes({"value": 1}) != Attributes({"value": 1.0})
    assert Attributes({"value": 1}) != Attributes({"value": True})
    assert Attributes({"b": 1, "a": 2}) == Attributes([("a", 2), ("b", 1)])
    assert list(Attributes({"b": 1, "a": 2})) == ["a", "b"]


def test_attributes_are_plain() -> None:
    import sympy

    made = Attributes({"a": [1, [2, 3]], "b": sympy.Integer(4), "c": numpy.float32(0.5), "d": numpy.int64(7)})
    assert dict(made) == {"a": (1, (2, 3)), "b": 4, "c": 0.5, "d": 7}
    assert [type(value) for value in made.values()] == [tuple, int, float, int]
    assert Attributes({"n": symbol("N")})["n"] == symbol("N")
    assert pickle.loads(pickle.dumps(made)) == made


def sample() -> Graph:
    builder = Builder("g")
    x = builder.input("x", TensorType.parse("f32[N]"))
    s = builder.input("s", TensorType.parse("f32[N]"), InputKind.STATE)
    y = builder.add(x, x)
    z = builder.mul(y, s)
    builder.update(s, z)
    return builder.finish({"out": y})


def test_tables_of_a_graph() -> None:
    graph = sample()
    assert graph.symbols == ("N",)
    assert graph.results == {"add", "mul"}
    assert [node.primitive for node in graph.readers["x"]] == ["add"]
    assert [node.primitive for node in graph.readers["add"]] == ["mul"]
    assert graph.readers["mul"] == ()
    assert graph.producers["mul"] is graph.nodes[1]
    assert graph.input_by_name["s"].kind is InputKind.STATE
    assert pickle.loads(pickle.dumps(graph)) == graph


def test_substitution_replaces_uses_everywhere() -> None:
    graph = sample()
    x, y = graph.inputs[0].value, graph.nodes[0].output
    changed = graph.substitute(lambda value: x if value == y else value)
    assert changed.outputs == (x,)
    assert changed.nodes[1].inputs[0] == x
    assert changed.nodes[0] is graph.nodes[0]
    assert changed.output_names == ("out",)


def test_names_of_outputs_must_match_their_number() -> None:
    graph = sample()
    with pytest.raises(ValueError, match="1 outputs, 2 names"):
        Graph("g", graph.inputs, graph.nodes, graph.outputs, (), ("a", "b"))


def test_origins_merge_in_order_without_repeats() -> None:
    a, b, c = (Origin(name, "Op") for name in "abc")
    assert merge_origins((a, b), (c, a), (b,)) == (a, b, c)
