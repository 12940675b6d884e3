"""Kernel IR as text and its verifier."""

import dataclasses

import pytest

from graphc.diagnostics import GraphcError
from graphc.ir.graph import Attributes
from graphc.ir.kernel import Compute, Kernel, Load, Nest
from graphc.ir.kernel_parse import parse_kernel
from graphc.ir.kernel_text import print_kernel
from graphc.ir.kernel_verify import verify_kernel

TEXT = """\
kernel fc1_drop(  // mlp.py:3 FullyConnected fc1; mlp.py:4 Dropout drop
    in data: f32[N,784],
    in fc1_weight: bf16[128,784],
    in random_state: i64[2],
    in mask: bool[N,128],
    out y: f32[N,128],
) anchor dot(data, fc1_weight) {transpose_b=true} -> f32[N,128] in f32 {  // mlp.py:3 FullyConnected fc1
  nest(i0: N, i1: 128) {
    fc1: f32 = anchor  // mlp.py:3 FullyConnected fc1
    u: f32 = random(random_state, 7, 128*i0 + i1)
    c: f32 = constant 0.5
    keep: bool = lt(u, c)
    at: i64 = index (N)*i0 + -2*i1 + 3
    zero: f32 = constant -inf
    m: bool = load mask[i0, i1] if 0 <= i0 < (N - 1) if 1 <= 2*i1 + -1 < 128 else true
    both: bool = logical_and(keep, m)
    r: f32 = where(both, fc1, zero)  // mlp.py:4 Dropout drop
    store y[i0, i1] = r if 0 <= i1 < 127
  }
}
files {
  mlp.py = "/home/user/mlp.py"
}
"""

SUM = """\
kernel sum(
    in x: f32[4,5],
    out y: f32[4],
) {
  nest(i0: 4, r0: 5 reduce) {
    a: f32 = load x[i0, r0]
    b: f32 = exp(a)
    s: f32 = reduce sum b
    store y[i0] = s
  }
}
"""


def test_text_is_read_back_exactly() -> None:
    kernel = parse_kernel(TEXT)
    assert parse_kernel(print_kernel(kernel)) == kernel
    assert kernel.origins[1].location is not None
    assert kernel.origins[1].location.file == "/home/user/mlp.py"
    assert print_kernel(kernel).replace("N-1", "N - 1") == TEXT
    verify_kernel(kernel)


def test_attributes_and_plain_kernels() -> None:
    kernel = dataclasses.replace(parse_kernel(SUM), attributes=Attributes({"schedule": "rows"}))
    assert parse_kernel(print_kernel(kernel)) == kernel
    assert print_kernel(parse_kernel(SUM)) == SUM
    assert str(parse_kernel(SUM)) == SUM


def test_origins_can_be_left_out() -> None:
    assert "//" not in print_kernel(parse_kernel(TEXT), origins=False)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("load x[i0, r0]", "lode x[i0, r0]", "'('"),
        ("f32 = exp", "f33 = exp", "an element type"),
        ("nest(i0: 4", "nest(i0 4", "':'"),
        ("reduce sum b", "reduce sum 3", "a scalar"),
        ("reduce sum b", "reduce mean b", "one of sum, prod, max"),
        ("out y: f32[4]", "write y: f32[4]", "in, out or inout"),
    ],
)
def test_errors_point_into_the_text(old: str, new: str, expected: str) -> None:
    with pytest.raises(GraphcError) as caught:
        parse_kernel(SUM.replace(old, new))
    assert caught.value.diagnostic.code == "G310"
    assert expected in str(caught.value)
    assert "^" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("exp(a)", "exp(q)", "q is used before it is defined"),
        ("load x[i0, r0]", "load x[i0]", "x has 2 dimensions, its index 1"),
        ("load x[i0, r0]", "load z[i0, r0]", "there is no parameter z"),
        ("a: f32 = load", "a: i32 = load", "the buffer's element type"),
        ("b: f32 = exp", "b: i32 = exp", "the result must be f32"),
        ("    b: f32", "    a: f32", "a scalar's name is taken"),
        ("s: f32 = reduce sum", "s: i64 = reduce sum", "its argument's element type"),
        (
            "store y[i0] = s",
            "store y[i0] = b",
            "an inner value must be stored at an index over the reduction axes",
        ),
        ("out y", "in y", "declared in but used otherwise"),
        ("nest(i0: 4, r0: 5 reduce)", "nest(r0: 5 reduce, i0: 4)", "parallel axes come before"),
        ("load x[i0, r0]", "load x[i0, a]", "a is used before it is defined"),
        ("r0: 5 reduce", "r0: 5", "there is no reduction axis"),
    ],
)
def test_broken_kernels_are_refused(old: str, new: str, rule: str) -> None:
    with pytest.raises(GraphcError) as caught:
        verify_kernel(parse_kernel(SUM.replace(old, new)))
    assert caught.value.diagnostic.code == "G405"
    assert rule in str(caught.value)


def test_half_precision_is_widened_before_arithmetic() -> None:
    text = SUM.replace("x: f32", "x: f16").replace("a: f32 = load", "a: f16 = load")
    with pytest.raises(GraphcError, match="cast to f32"):
        verify_kernel(parse_kernel(text))


def test_nests_of_a_kernel_are_independent() -> None:
    kernel = parse_kernel(SUM)
    (nest,) = kernel.nests
    load = Load("q", nest.body[0].dtype, "y", nest.body[-1].index)
    other = Nest(nest.axes[:1], (load, Compute("p", load.dtype, "neg", ("q",))))
    broken = Kernel(kernel.name, kernel.parameters, (nest, other))
    with pytest.raises(GraphcError, match="another nest writes"):
        verify_kernel(broken)
