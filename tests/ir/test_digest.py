"""The digest of a graph: equal for equal graphs, another one for any change."""

from dataclasses import replace

import pytest

from graphc.ir.digest import digest_text
from graphc.ir.graph import Attributes, Graph, InputKind, Origin
from graphc.ir.parse import parse_graph
from graphc.types import TensorType
from support.graphs import random_graph

T = TensorType.parse


def changes(graph: Graph) -> list[Graph]:
    """The graph with one thing changed, each thing that a graph consists of."""
    first, last = graph.nodes[0], graph.nodes[-1]
    item = graph.inputs[0]
    return [
        replace(graph, name=graph.name + "x"),
        replace(graph, inputs=(replace(item, kind=InputKind.CONSTANT), *graph.inputs[1:])),
        replace(graph, output_names=("another", *graph.output_names[1:])),
        replace(graph, outputs=(item.value, *graph.outputs[1:])),
        replace(graph, nodes=graph.nodes[:-1], outputs=graph.nodes[-2].outputs[:1], output_names=("out",)),
        replace(graph, outputs=(replace(graph.outputs[0], type=T("f64[7,9]")), *graph.outputs[1:])),
        graph.with_nodes((replace(first, attributes=Attributes({"extra": 1})), *graph.nodes[1:])),
        graph.with_nodes((replace(first, origins=(*first.origins, Origin("o", "k"))), *graph.nodes[1:])),
        graph.with_nodes((*graph.nodes[:-1], replace(last, primitive="other"))),
        graph.with_nodes(
            (*graph.nodes[:-1], replace(last, inputs=(item.value, *last.inputs[1:], item.value)))
        ),
    ]


@pytest.mark.parametrize("seed", range(12))
def test_digest_tells_graphs_apart(seed: int) -> None:
    graph = random_graph(seed, size=8)
    same = random_graph(seed, size=8)
    assert same is not graph and digest_text(same) == digest_text(graph)
    texts = [digest_text(other) for other in (graph, *changes(graph))]
    assert len(set(texts)) == len(texts)


def test_zeros_and_nans() -> None:
    def filled(value: str) -> str:
        return digest_text(
            parse_graph(
                f"graph g() -> (%x) {{\n  %x: f32[2] = full() {{dtype=f32, shape=(2,), value={value}}}\n}}"
            )
        )

    assert len({filled(value) for value in ("0.0", "-0.0", "0", "nan", "inf")}) == 5
    assert filled("nan") == filled("nan")
