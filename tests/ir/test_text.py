"""parse_graph(print_graph(g)) == g for every graph, and errors of texts that are none."""

import math
import os
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from graphc.diagnostics import GraphcError, Location
from graphc.ir.graph import Attributes, Graph, Input, InputKind, Node, Origin, Update, Value
from graphc.ir.text import parse_graph, print_graph
from graphc.primitives.builder import Builder
from graphc.primitives.verify import verify_graph
from graphc.types import DType, TensorType, dimension, symbol
from support.graphs import KINDS, random_graph

# Everything that may stand in a graph

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    [
        "",
        "x",
        "fc1.weight",
        "a b",
        "true",
        "f32",
        "//",
        '"',
        "\\",
        "a;b",
        "mlp.py:12",
        "-1",
        "nan",
        "{",
        ")",
        "%",
        "\n",
    ]
)
symbols = st.sampled_from(["N", "M", "batch_size", "true", "nan", "f32", "E", "I", "S", "pi", "x0"]).map(
    symbol
)


def combine(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    import sympy

    pairs = st.tuples(children, children)
    return st.one_of(
        pairs.map(lambda p: p[0] + p[1]),
        pairs.map(lambda p: p[0] - p[1]),
        pairs.map(lambda p: p[0] * p[1]),
        st.tuples(children, st.integers(2, 7)).map(lambda p: sympy.floor(p[0] / p[1])),
        pairs.map(lambda p: sympy.Max(*p)),
    )


dims = st.integers(0, 10**12) | st.recursive(symbols | st.integers(0, 9), combine, max_leaves=4).map(
    dimension
)
types = st.builds(TensorType, st.sampled_from(list(DType)), st.lists(dims, max_size=4).map(tuple))
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), words, st.sampled_from(list(DType)), dims,
    st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 0.0, 5e-324, 1.7976931348623157e308]),
)  # fmt: skip
values = st.recursive(scalars, lambda children: st.lists(children, max_size=3).map(tuple), max_leaves=6)
attributes = st.dictionaries(words, values, max_size=4).map(Attributes)
locations = st.none() | st.builds(Location, words | words.map(lambda w: f"/home/{w}"), st.integers(0, 10**6))
origins = st.lists(st.builds(Origin, words, words, locations), max_size=3).map(tuple)


@st.composite
def graphs(draw: Callable[..., Any]) -> Graph:
    names = draw(st.lists(words, min_size=2, max_size=8, unique=True))
    defined = [Value(name, draw(types)) for name in names]
    cut = draw(st.integers(1, len(defined)))
    inputs = [Input(value, draw(st.sampled_from(InputKind))) for value in defined[:cut]]
    nodes = []
    while cut < len(defined):
        outputs = defined[cut : cut + draw(st.integers(1, 2))]
        operands = draw(st.lists(st.sampled_from(defined[:cut]), max_size=3))
        nodes.append(Node("add", tuple(operands), tuple(outputs), draw(attributes), draw(origins)))
        cut += len(outputs)
    outputs = draw(st.lists(st.sampled_from(defined), max_size=3))
    labels = draw(
        st.just([v.name for v in outputs]) | st.lists(words, min_size=len(outputs), max_size=len(outputs))
    )
    updates = [Update(draw(words), value) for value in draw(st.lists(st.sampled_from(defined), max_size=2))]
    return Graph(draw(words), tuple(inputs), tuple(nodes), tuple(outputs), tuple(updates), tuple(labels))


@hypothesis.given(graphs())
@hypothesis.settings(max_examples=150, suppress_health_check=[hypothesis.HealthCheck.too_slow])
def test_any_graph_round_trips(graph: Graph) -> None:
    text = print_graph(graph)
    assert parse_graph(text) == graph
    assert print_graph(parse_graph(text)) == text


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_round_trip_and_verify(seed: int) -> None:
    graph = random_graph(seed, kinds=KINDS)
    verify_graph(graph)
    assert parse_graph(str(graph)) == graph


def lenet() -> Graph:
    builder = Builder("lenet")
    x = builder.input("data", TensorType.parse("f32[N,1,8,8]"))
    w = builder.input("conv1_weight", TensorType.parse("f32[4,1,3,3]"), InputKind.PARAMETER)
    mean = builder.input("bn_moving_mean", TensorType.parse("f32[4]"), InputKind.STATE)
    with builder.at((Origin("conv1", "Convolution", Location("/home/user/lenet.py", 12)),), hint="conv1"):
        y = builder.emit("convolution", x, w, stride=(1, 1), pad=(1, 1), dilate=(1, 1))
    with builder.at((Origin("bn", "BatchNorm", Location("/home/user/lenet.py", 13)),), hint="bn"):
        batch = builder.mean(y, [0, 2, 3])
        builder.update(mean, builder.add(builder.mul(mean, 0.9), builder.mul(batch, 0.1)))
    with builder.at((Origin("pool", "Pooling", Location("/home/user/lenet.py", 14)),), hint="pool"):
        geometry = {"kernel": (2, 2), "stride": (2, 2), "pad_low": (0, 0), "pad_high": (0, 0)}
        pooled, index = builder.emit_all("max_pool", y, **geometry)
    return builder.finish({"pool_output": pooled, "index": index})


def test_text_of_a_graph(golden: Callable[[str, str], None]) -> None:
    golden("ir/lenet.txt", print_graph(lenet()))
    golden("ir/lenet_plain.txt", print_graph(lenet(), origins=False))


def test_origins_are_optional() -> None:
    plain = parse_graph(print_graph(lenet(), origins=False))
    assert all(not node.origins for node in plain.nodes)
    assert plain == lenet().with_nodes(
        Node(n.primitive, n.inputs, n.outputs, n.attributes) for n in lenet().nodes
    )


def test_files_of_one_base_name_stay_apart() -> None:
    builder = Builder()
    x = builder.input("x", TensorType.parse("f32[]"))
    for file in ("/a/net.py", "/b/net.py", "net.py", ""):
        with builder.at((Origin("n", "Op", Location(file, 3)),)):
            x = builder.neg(x)
    graph = builder.finish([x])
    assert parse_graph(str(graph)) == graph
    assert 'net.py~2 = "/b/net.py"' in str(graph)


def test_a_text_without_file_table_keeps_short_names() -> None:
    graph = parse_graph(
        'graph g(%x: f32[]) -> (%y) {\n  %y: f32[] = neg(%x)  // mlp.py:3 neg minus; Op\t"a b"\n}'
    )
    assert graph.nodes[0].origins == (Origin("minus", "neg", Location("mlp.py", 3)), Origin("a b", "Op"))


def test_free_layout_and_comments() -> None:
    text = """
    // a graph in any layout
    graph g (
        %x : f32[ N , 2 ],   // the data
        state %s: f32[2],
    ) -> ( y = %y , %s )
      update ( %s = %s, )
    {
      // nothing here
      %y : f32[N,2] = broadcast ( %s , ) { axes = ( 1 , ) , shape = (N, 2,), }
    }
    """
    graph = parse_graph(text)
    verify_graph(graph)
    assert graph.output_names == ("y", "s")
    assert dict(graph.nodes[0].attributes) == {"axes": (1,), "shape": (symbol("N"), 2)}
    assert parse_graph(str(graph)) == graph


GOOD = "graph g(%x: f32[2]) -> (%y) {\n  %y: f32[2] = full() {value=1.0}\n}\n"
BAD = [
    ("", "line 1: expected 'graph'"),
    ("graphics g() -> () {}", "line 1: expected 'graph'"),
    (GOOD.replace("graph g", "graph"), "line 1: expected the graph's name"),
    (GOOD.replace("%x: f32[2]", "%x f32[2]"), "line 1: expected ':'"),
    (GOOD.replace("(%x: f32[2])", "(%x: f32[2)"), "line 1: expected a type such as f32[N,784]"),
    (GOOD.replace("%x: f32[2]", "%x: g32[2]"), "graphc has no element type 'g32'"),
    (GOOD.replace("%x: f32[2]", "%x: f32[2$]"), "'2$' is no dimension"),
    (GOOD.replace("->", "=>"), "line 1: expected '->'"),
    (GOOD.replace("(%y)", "(%z)"), "line 1: expected a value that is defined, not %z"),
    (GOOD.replace("(%y)", "(3)"), "line 1: expected an output"),
    (GOOD.replace("full()", "full(%z)"), "line 2: expected a value that is defined, not %z"),
    (GOOD.replace("full()", "full(%x %x)"), "line 2: expected ')'"),
    (GOOD.replace("full()", "7()"), "line 2: expected a primitive"),
    (GOOD.replace("=1.0", ""), "line 2: expected '='"),
    (GOOD.replace("1.0", "1..0"), "line 2: expected a number, a string, a dimension, a dtype or a tuple"),
    (GOOD.replace("1.0", "(1,2"), "line 2: expected ')'"),
    (GOOD.replace("1.0", '"open'), "line 2: expected a quoted string"),
    (GOOD.replace("1.0", '"\\q"'), "line 2: expected a quoted string"),
    (GOOD.replace("1.0}", "1.0"), "line 4: expected a node or '}'"),
    (GOOD.replace("1.0}", "1.0}  // alone"), "line 2: expected origins: file:line operator name"),
    (GOOD[:-2], "line 3: expected a node or '}'"),
    (GOOD + "files { a = b }", "line 4: expected a quoted string"),
    (GOOD + "more", "line 4: expected the end of the text"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_errors_say_the_line_and_what_was_expected(text: str, message: str) -> None:
    parse_graph(GOOD)
    with pytest.raises(GraphcError) as caught:
        parse_graph(text)
    assert caught.value.diagnostic.code == "G310"
    assert message in caught.value.diagnostic.message


def test_an_error_points_at_its_place() -> None:
    with pytest.raises(GraphcError) as caught:
        parse_graph(GOOD.replace("full()", "full(%zzz)"))
    line, marker = caught.value.diagnostic.message.split("\n")[1:]
    assert line.strip() == "%y: f32[2] = full(%zzz) {value=1.0}"
    assert line[marker.index("^") :].startswith("%zzz")


def damaged(text: str) -> st.SearchStrategy[str]:
    position = st.integers(0, len(text) - 1)
    drop = position.map(lambda k: text[:k] + text[k + 1 :])
    swap = st.tuples(position, st.sampled_from('(){}[]%=,:;"/ \n0aN')).map(
        lambda p: text[: p[0]] + p[1] + text[p[0] + 1 :]
    )
    return drop | swap | position.map(lambda k: text[:k])


@hypothesis.given(damaged(str(lenet())))
@hypothesis.settings(max_examples=150)
def test_a_damaged_text_parses_or_is_a_diagnostic(text: str) -> None:
    try:
        graph = parse_graph(text)
    except GraphcError as error:
        assert error.diagnostic.code == "G310"
    else:
        assert parse_graph(print_graph(graph)) == graph


def test_the_short_name_of_a_file_is_its_base_name() -> None:
    path = os.path.join(os.sep, "some", "where", "deep.py")
    builder = Builder()
    with builder.at((Origin("n", "Op", Location(path, 7)),)):
        y = builder.neg(builder.input("x", TensorType.parse("f32[]")))
    assert "// deep.py:7 Op n" in str(builder.finish([y]))
