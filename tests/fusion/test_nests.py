"""Single steps of fusion on kernels written as text: merged axes, in-place rules, equal structure, order."""

import pytest

from graphc.ir.kernel import Kernel
from graphc.ir.kernel_parse import parse_kernel
from graphc.ir.kernel_text import print_kernel
from graphc.passes.fusion.canonical import canonical, structure
from graphc.passes.fusion.inplace import Timeline, passes
from graphc.passes.fusion.order import Task, order, peak
from graphc.passes.fusion.simplify import simplify


def kernel(parameters: str, nest: str) -> Kernel:
    return parse_kernel(f"kernel k(\n{parameters}\n) {{\n  nest({nest}\n  }}\n}}\n")


def simplified(found: Kernel) -> str:
    nests, shapes = simplify(found.nests, {p.name: p.type.shape for p in found.parameters})
    (nest,) = nests
    text = print_kernel(Kernel("k", (), (nest,)))
    body = [line.strip() for line in text.splitlines()[2:-2]]
    return "; ".join(
        [*(f"{name}{list(shape)}" for name, shape in shapes.items()), text.splitlines()[2].strip(), *body[1:]]
    )


@pytest.mark.parametrize(
    ("parameters", "nest", "expected"),
    [
        pytest.param(
            "in x: f32[4,5,6], out y: f32[4,5,6]",
            "i0: 4, i1: 5, i2: 6) { a: f32 = load x[i0, i1, i2] store y[i0, i1, i2] = a",
            "x[120]; y[120]; nest(i0: 120) {; a: f32 = load x[i0]; store y[i0] = a",
            id="contiguous",
        ),
        pytest.param(
            "in x: f32[6], out y: f32[4,5,6]",
            "i0: 4, i1: 5, i2: 6) { a: f32 = load x[i2] store y[i0, i1, i2] = a",
            "x[6]; y[20, 6]; nest(i0: 20, i1: 6) {; a: f32 = load x[i1]; store y[i0, i1] = a",
            id="broadcast row",
        ),
        pytest.param(
            "in x: f32[4,9], out y: f32[4,6]",
            "i0: 4, i1: 6) { a: f32 = load x[i0, i1 + 3] store y[i0, i1] = a",
            "x[4, 9]; y[4, 6]; nest(i0: 4, i1: 6) {; a: f32 = load x[i0, i1 + 3]; store y[i0, i1] = a",
            id="slice stays",
        ),
        pytest.param(
            "in x: f32[9,6], out y: f32[4,6]",
            "i0: 4, i1: 6) { a: f32 = load x[i0 + 3, i1] store y[i0, i1] = a",
            "x[54]; y[24]; nest(i0: 24) {; a: f32 = load x[i0 + 18]; store y[i0] = a",
            id="slice of rows",
        ),
        pytest.param(
            "in x: f32[4,1,6], out y: f32[4,6]",
            "i0: 4, u: 1, i1: 6) { a: f32 = load x[i0, u, i1] store y[i0, i1] = a",
            "x[24]; y[24]; nest(i0: 24) {; a: f32 = load x[i0]; store y[i0] = a",
            id="unit axis",
        ),
        pytest.param(
            "in x: f32[N,4,5], out y: f32[N]",
            "i0: N, r0: 4 reduce, r1: 5 reduce) { a: f32 = load x[i0, r0, r1] s: f32 = reduce sum a store y[i0] = s",
            "x[N, 20]; y[N]; nest(i0: N, r0: 20 reduce) {; "
            "a: f32 = load x[i0, r0]; s: f32 = reduce sum a; store y[i0] = s",
            id="reduction axes",
        ),
        pytest.param(
            "in x: f32[4,6], out y: f32[4,6]",
            "i0: 4, i1: 6) { a: f32 = load x[i0, i1] if 1 <= i0 < 3 else 0.0 store y[i0, i1] = a",
            "x[4, 6]; y[4, 6]; nest(i0: 4, i1: 6) {; "
            "a: f32 = load x[i0, i1] if 1 <= i0 < 3 else 0.0; store y[i0, i1] = a",
            id="guard of one axis",
        ),
        pytest.param(
            "in s: i64[2], out y: f32[4,6]",
            "i0: 4, i1: 6) { a: f32 = random(s, 0, 6*i0 + i1) store y[i0, i1] = a",
            "s[2]; y[24]; nest(i0: 24) {; a: f32 = random(s, 0, i0); store y[i0] = a",
            id="random numbers",
        ),
    ],
)
def test_axes_merge_where_every_access_is_contiguous(parameters: str, nest: str, expected: str) -> None:
    assert simplified(kernel(parameters, nest)) == expected


def may_overwrite(nest: str, shape: tuple[int, ...] = (8, 5)) -> bool:
    found = kernel("in x: f32[8,5],\nout y: f32[8,5]", nest)
    return Timeline(found.nests[0]).reads_only_where_it_writes("x", "y", shape, shape)


@pytest.mark.parametrize(
    ("nest", "allowed"),
    [
        pytest.param(
            "i: 8, j: 5) { a: f32 = load x[i, j] b: f32 = exp(a) store y[i, j] = b", True, id="pointwise"
        ),
        pytest.param("i: 8, j: 5) { a: f32 = load x[i, 0] store y[i, j] = a", False, id="other element"),
        pytest.param(
            "i: 8, r: 5 reduce) { a: f32 = load x[i, r] m: f32 = reduce max a b: f32 = sub(a, m) store y[i, r] = b",
            True,
            id="last pass writes",
        ),
        pytest.param(
            "i: 8, r: 5 reduce) { a: f32 = load x[i, r] b: f32 = exp(a) store y[i, r] = b "
            "m: f32 = reduce sum b c: f32 = div(b, m) d: f32 = mul(c, c) s: f32 = reduce sum d",
            False,
            id="a later pass reads",
        ),
        pytest.param(
            "i: 8, j: 5) { a: f32 = load x[i, j] store y[i, j] = a store y[i, j] = a", False, id="two stores"
        ),
    ],
)
def test_in_place_needs_reads_before_the_write(nest: str, allowed: bool) -> None:
    assert may_overwrite(nest) is allowed


def test_passes_count_the_reductions_on_the_way() -> None:
    found = kernel(
        "in x: f32[8,5],\nout y: f32[8,5]",
        "i: 8, r: 5 reduce) { a: f32 = load x[i, r] m: f32 = reduce max a b: f32 = sub(a, m) "
        "s: f32 = reduce sum b c: f32 = div(b, s) store y[i, r] = c",
    )
    nest = found.nests[0]
    assert [passes(nest)[id(statement)] for statement in nest.body] == [0, 0, 1, 1, 2, 2]


def test_kernels_that_differ_in_names_have_one_structure() -> None:
    a = kernel("in x: f32[8],\nout y: f32[8]", "i: 8) { v: f32 = load x[i] e: f32 = exp(v) store y[i] = e")
    b = kernel("in p: f32[8],\nout q: f32[8]", "k: 8) { s: f32 = load p[k] t: f32 = exp(s) store q[k] = t")
    c = kernel("in p: f32[8],\nout q: f32[8]", "k: 8) { s: f32 = load p[k] t: f32 = log(s) store q[k] = t")
    assert structure(a) == structure(b) != structure(c)
    renamed, names = canonical(a)
    assert renamed.parameter(names["x"]).type == a.parameter("x").type


def test_the_order_frees_memory_early() -> None:
    # Two chains of a large and a small value: finishing one before starting the other halves the peak.
    sizes = {"a": 100, "b": 100, "x": 1, "y": 1}
    tasks = [
        Task(0, 0, (), ("a",), ()),
        Task(1, 1, (), ("b",), ()),
        Task(2, 2, ("a",), ("x",), (0,)),
        Task(3, 3, ("b",), ("y",), (1,)),
        Task(4, 4, ("x", "y"), (), (2, 3)),
    ]
    numbers = order(tasks, sizes)
    assert peak(tasks, numbers, sizes) == 102
    assert peak(tasks, [0, 1, 2, 3, 4], sizes) == 201
    for task in tasks:
        assert all(numbers.index(number) < numbers.index(task.number) for number in task.after)


def test_tasks_in_a_cycle_are_our_bug() -> None:
    with pytest.raises(AssertionError, match="cycle"):
        order([Task(0, 0, (), (), (1,)), Task(1, 1, (), (), (0,))], {})
