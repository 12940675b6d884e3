"""Affine index arithmetic against numpy: reshape of an index, division, coverage; reachability against networkx."""

import itertools
import random

import networkx
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphc.ir.kernel import Affine
from graphc.passes.fusion import index as ix
from graphc.passes.fusion.reach import Reachability
from graphc.types import dimension, evaluate, parse_dim


def value(expression: Affine, point: dict[str, int]) -> int:
    return int(expression.offset) + sum(int(s) * point[name] for name, s in expression.terms)


def points(extents: dict[str, int]) -> list[dict[str, int]]:
    return [dict(zip(extents, p, strict=True)) for p in itertools.product(*map(range, extents.values()))]


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes of one size: factors grouped in two ways, ones sprinkled in."""
    factors = draw(st.lists(st.sampled_from([2, 3, 4]), min_size=1, max_size=4))

    def grouped() -> tuple[int, ...]:
        shape: list[int] = []
        for factor in factors:
            if shape and draw(st.booleans()):
                shape[-1] *= factor
            else:
                shape.append(factor)
            if draw(st.integers(0, 4)) == 0:
                shape.append(1)
        return tuple(shape)

    return grouped(), grouped()


@given(reshapes())
def test_reshape_of_an_index_finds_the_same_element(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    result, operand = shapes
    extents = {f"a{k}": dim for k, dim in enumerate(result)}
    index = [Affine.axis(name) for name in extents]
    fresh = itertools.count()
    while True:
        try:
            source = ix.reshape_index(index, result, operand, extents)
            break
        except ix.SplitNeededError as need:
            outer, inner = f"s{next(fresh)}", f"s{next(fresh)}"
            number = Affine.make(0, ((outer, need.inner), (inner, 1)))
            extents[outer] = extents.pop(need.axis) // need.inner
            extents[inner] = need.inner
            index = [place.substitute({need.axis: number}) for place in index]
    for point in points(extents):
        at = tuple(value(place, point) for place in index)
        found = tuple(value(place, point) for place in source)
        assert numpy.ravel_multi_index(found, operand) == numpy.ravel_multi_index(at, result)


@pytest.mark.parametrize(
    ("operand", "result", "expected"),
    [
        ("6,4", "24", [([0, 1], [0])]),
        ("N,3,4", "N,12", [([0], [0]), ([1, 2], [1])]),
        ("N,M,4", "N*M,4", [([0, 1], [0]), ([2], [1])]),
        ("2,N", "N,2", [([0, 1], [0, 1])]),
        ("5,1", "1,5", [([0, 1], [0, 1])]),
        ("3", "3,1", [([0], [0, 1])]),
        ("", "1,1", [([], [0, 1])]),
    ],
)
def test_segments_are_the_finest_cut(operand: str, result: str, expected: list) -> None:
    a, b = (tuple(parse_dim(d) for d in text.split(",") if d) for text in (operand, result))
    cut = [(list(i), list(j)) for i, j in ix.segments(a, b)]
    sizes = {"N": 7, "M": 5}
    for left, right in cut:
        product_a = numpy.prod([evaluate(a[k], sizes) for k in left], dtype=int)
        assert product_a == numpy.prod([evaluate(b[k], sizes) for k in right], dtype=int)
    for side in (0, 1):
        assert [k for pair in cut for k in pair[side]] == [k for pair in expected for k in pair[side]]
    assert len(cut) >= len(expected)


def test_an_axis_across_dimensions_must_be_split() -> None:
    with pytest.raises(ix.SplitNeededError) as need:
        ix.unflatten(Affine.axis("a"), (3, 4), {"a": 12})
    assert (need.value.axis, need.value.inner) == ("a", 4)


def test_a_slice_across_dimensions_is_not_affine() -> None:
    with pytest.raises(ix.NotAffineError):
        ix.unflatten(Affine.axis("a") + 1, (3, 4), {"a": 6})


def test_symbolic_axes_split_exactly() -> None:
    n = parse_dim("N")
    q, r = ix.divide(Affine.make(0, (("a", n), ("b", 1))), n, {"a": 3, "b": n})
    assert (q, r) == (Affine.axis("a"), Affine.axis("b"))
    assert ix.exact_quotient(dimension(n * 6), 3) == n * 2
    assert ix.exact_quotient(n, 2) is None


@pytest.mark.parametrize(
    ("index", "shape", "covered"),
    [
        ([{"i": 1}, {"j": 1}], (4, 6), True),
        ([{"j": 1}, {"i": 1}], (6, 4), True),
        ([{"i": 6, "j": 1}], (24,), True),
        ([{"i": 1, "j": 4}], (24,), True),
        ([{"i": 1}], (4,), False),
        ([{"i": 1}, {"i": 1}], (4, 4), False),
        ([{"i": 2}, {"j": 1}], (8, 6), False),
        ([{"i": 1}, {"j": 1}], (4, 7), False),
    ],
)
def test_coverage(index: list[dict[str, int]], shape: tuple[int, ...], covered: bool) -> None:
    places = [Affine.make(0, place.items()) for place in index]
    assert ix.covers(places, shape, ["i", "j"], {"i": 4, "j": 6}) is covered


@pytest.mark.parametrize("seed", range(10))
def test_reachability_follows_edges_and_merges(seed: int) -> None:
    chance = random.Random(seed)
    reach, graph = Reachability(), networkx.DiGraph()
    for _ in range(25):
        graph.add_node(reach.add())
    for _ in range(60):
        a, b = chance.choice(list(graph)), chance.choice(list(graph))
        if a == b:
            continue
        if chance.random() < 0.75:
            if not networkx.has_path(graph, b, a):
                graph.add_edge(a, b)
                reach.connect(a, b)
        elif not reach.has_detour(a, b) and not reach.has_detour(b, a):
            kept = reach.merge(a, b)
            assert kept == reach.find(a) == reach.find(b)
            graph = networkx.contracted_nodes(graph, kept, b if kept == a else a, self_loops=False)
    assert networkx.is_directed_acyclic_graph(graph)
    for a in graph:
        below = networkx.descendants(graph, a)
        assert {b for b in graph if b != a and reach.reaches(a, b)} == below
        assert reach.successors(a) == set(graph.successors(a))
