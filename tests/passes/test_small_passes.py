"""Prune, strip_markers, cse and fold, each on its own."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph, InputKind, Origin, Value
from graphc.ir.text import parse_graph
from graphc.passes.base import Pass
from graphc.passes.cse import ShareCommon
from graphc.passes.fold import Fold
from graphc.passes.gradient import gradient
from graphc.passes.prune import Prune
from graphc.passes.simplify import Simplify
from graphc.passes.strip_markers import StripMarkers
from graphc.primitives.builder import Builder
from graphc.primitives.verify import verify_graph
from graphc.types import DType, TensorType

T = TensorType.parse

GRAPHS: dict[str, tuple[Pass, str]] = {
    "prune": (
        Prune(),
        """graph g(%x: f32[1,1,4,4], %unused: f32[3], state %s: f32[]) -> (%y) update (%s=%t) {
  %dead: f32[1,1,4,4]  = exp(%x)
  %dead2: f32[1,1,4,4] = exp(%dead)
  %y: f32[1,1,2,2], %i: u8[1,1,2,2] = max_pool(%x) {kernel=(2,2), pad_high=(0,0), pad_low=(0,0), stride=(2,2)}
  %t: f32[] = neg(%s)
}
""",
    ),
    "prune_inputs": (
        Prune(drop_inputs=True),
        """graph g(%a: f32[N], %b: f32[N], %unused: f32[3], state %s: f32[], state %u: f32[]) -> (%y) update (%s=%c) {
  %y: f32[N] = full() {dtype=f32, shape=(N,), value=1.0}
  %c: f32[]  = full() {dtype=f32, shape=(), value=0.0}
}
""",
    ),
    "strip_markers": (
        StripMarkers(),
        """graph g(%x: f32[2], %l: f32[2]) -> (%o, same=%x2) {
  %y: f32[2]  = exp(%x)
  %s: f32[2]  = stop_gradient(%y)
  %d: f32[2]  = sub(%s, %l)
  %o: f32[2]  = with_gradient(%s, %x, %d) {scaled=false}
  %x1: f32[2] = stop_gradient(%x)
  %x2: f32[2] = stop_gradient(%x1)
}
""",
    ),
    "cse": (
        ShareCommon(),
        """graph g(%x: f32[2], %y: f32[2], state %r: i64[2]) -> (%e, %f, %h, %u) {
  %a: f32[2] = add(%x, %y)  // FullyConnected fc1
  %b: f32[2] = add(%y, %x)  // FullyConnected fc2
  %c: f32[2] = sub(%x, %y)
  %d: f32[2] = sub(%y, %x)
  %e: f32[2] = mul(%a, %c)
  %f: f32[2] = mul(%b, %d)
  %g: f32[2] = mul(%d, %a)
  %h: f32[2] = exp(%g)
  %p: f32[2] = random_uniform(%r) {shape=(2,), stream=0}
  %q: f32[2] = random_uniform(%r) {shape=(2,), stream=0}
  %s: f32[2] = random_uniform(%r) {shape=(2,), stream=1}
  %t: f32[2] = add(%p, %q)
  %u: f32[2] = add(%t, %s)
}
""",
    ),
    "cse_constants": (
        ShareCommon(),
        """graph g(%x: f32[2]) -> (%f, %g, %h, %i) {
  %a: f32[2] = full() {dtype=f32, shape=(2,), value=0.0}
  %b: f32[2] = full() {dtype=f32, shape=(2,), value=-0.0}
  %c: f32[2] = full() {dtype=f32, shape=(2,), value=0.0}
  %d: f32[2] = full() {dtype=f32, shape=(2,), value=1.0}
  %e: f64[2] = full() {dtype=f64, shape=(2,), value=1.0}
  %f: f32[2] = div(%x, %a)
  %g: f32[2] = div(%x, %b)
  %h: f32[2] = div(%x, %c)
  %e2: f32[2] = cast(%e) {dtype=f32}
  %i: f32[2] = sub(%d, %e2)
}
""",
    ),
    "fold": (
        Fold(),
        """graph g(%x: f32[2]) -> (%r, %w) {
  %a: f32[2]  = full() {dtype=f32, shape=(2,), value=0.1}
  %b: f32[2]  = full() {dtype=f32, shape=(2,), value=0.2}
  %c: f32[2]  = add(%a, %b)
  %d: bool[2] = gt(%c, %a)
  %w: f32[2]  = where(%d, %x, %c)
  %e: f32[2]  = mul(%x, %c)
  %r: f32[2]  = stop_gradient(%e)
}
""",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_golden(name: str, golden: Callable[[str, str], None]) -> None:
    step, text = GRAPHS[name]
    before = parse_graph(text)
    verify_graph(before)
    after = step(before)
    verify_graph(after)
    assert after is not before
    assert step(after) is after
    golden(f"passes/{name}.txt", f"{before}->\n{after}")


def test_origins_of_equal_nodes_are_merged() -> None:
    after = ShareCommon()(parse_graph(GRAPHS["cse"][1]))
    assert [origin.name for origin in after.producers["a"].origins] == ["fc1", "fc2"]


def test_origins_of_absorbed_nodes_are_kept() -> None:
    b = Builder("g")
    x, w = b.input("x", T("f32[2,3]")), b.input("w", T("f32[4,3]"))
    with b.at((Origin("t", "transpose"),)):
        turned = b.transpose(w, (1, 0))
    with b.at((Origin("d", "dot"),)):
        y = b.emit("dot", x, turned, transpose_a=False, transpose_b=False)
    (node,) = Simplify()(b.finish([y])).nodes
    assert [origin.name for origin in node.origins] == ["d", "t"]


def test_names_of_users_survive() -> None:
    b = Builder("g")
    x = b.input("x", T("f32[3]"))
    with b.at((), "logits"):
        y = b.pow(x, 2.0)
    (node,) = Simplify()(b.finish([y])).nodes
    assert node.output.name == y.name


def test_equal_losses_send_two_gradients() -> None:
    def model(times: int) -> Graph:
        b = Builder("g")
        x = b.input("x", T("f32[2]"))
        y = b.exp(x)
        losses = [b.emit("with_gradient", y, x, y, scaled=False) for _ in range(times)]
        return b.finish({f"loss{k}": loss for k, loss in enumerate(losses)})

    def gradient_of(graph: Graph) -> torch.Tensor:
        joint = gradient(graph, ["x"])
        return run_reference(joint, {"x": torch.tensor([0.5, 1.0])}).outputs["x_grad"]

    for step in (ShareCommon(), Simplify(), Fold()):
        torch.testing.assert_close(gradient_of(step(model(2))), 2 * gradient_of(model(1)))


# Folding computes what the program would


BINARY = ("add", "sub", "mul", "div", "pow", "maximum", "minimum", "mod", "atan2")
UNARY = ("neg", "exp", "log", "sqrt", "rsqrt", "tanh", "sigmoid", "floor", "abs", "sign", "erf")
NUMBERS = (0.0, -0.0, 0.1, -0.3, 1.0, 3e38, 1e-45, math.inf, -math.inf, math.nan)


def folded(build: Callable[[Builder], Value]) -> tuple[Graph, Graph]:
    b = Builder("g")
    graph = b.finish({"y": build(b)})
    return graph, Fold()(graph)


@pytest.mark.parametrize("dtype", [DType.F32, DType.F16, DType.BF16, DType.F64])
@pytest.mark.parametrize("name", [*BINARY, *UNARY])
def test_folding_has_the_bits_of_the_program(name: str, dtype: DType) -> None:
    type = TensorType(dtype, (2,))
    for x in NUMBERS:
        for y in NUMBERS if name in BINARY else (0.0,):
            operands = (x, y) if name in BINARY else (x,)
            graph, after = folded(lambda b, values=operands: b.emit(name, *(b.full(v, type) for v in values)))
            (node,) = after.nodes
            assert node.primitive == "full"
            expected = run_reference(graph, {}, dtype=None).outputs["y"]
            got = run_reference(after, {}, dtype=None).outputs["y"]
            assert got.dtype == expected.dtype
            bits = torch.where(expected.isnan(), 0.0, expected), torch.where(got.isnan(), 0.0, got)
            assert torch.equal(*bits)
            assert torch.equal(bits[0].signbit(), bits[1].signbit())
            assert torch.equal(expected.isnan(), got.isnan())


def test_folding_rounds_to_the_element_type() -> None:
    _, after = folded(lambda b: b.add(b.full(0.1, T("f32[1]")), b.full(0.2, T("f32[1]"))))
    assert after.nodes[0].attributes["value"] == float(np.float32(0.1) + np.float32(0.2)) != 0.1 + 0.2


@pytest.mark.parametrize(
    ("build", "value"),
    [
        (lambda b: b.mul(b.full(100, T("i8[1]")), 2), -56),
        (lambda b: b.div(b.full(7, T("i32[1]")), 0), 0),
        (lambda b: b.div(b.full(-7, T("i32[1]")), 2), -3),
        (lambda b: b.mod(b.full(-7, T("i32[1]")), 3), 2),
        (lambda b: b.cast(b.full(300, T("i32[1]")), DType.U8), 44),
        (lambda b: b.cast(b.full(-2.7, T("f32[1]")), DType.I32), -2),
        (lambda b: b.cast(b.full(math.nan, T("f32[1]")), DType.BOOL), True),
        (lambda b: b.eq(b.full(math.nan, T("f32[1]")), math.nan), False),
        (lambda b: b.logical_xor(b.full(True, T("bool[1]")), b.full(False, T("bool[1]"))), True),
    ],
)
def test_folding_of_integers_and_truth_values(build: Callable[[Builder], Value], value: object) -> None:
    _, after = folded(build)
    found = after.nodes[-1].attributes["value"]
    assert found == value
    assert type(found) is type(value)


def test_sums_of_constants_are_rounded_once() -> None:
    _, after = folded(lambda b: b.sum(b.full(0.1, T("f32[1000000]"))))
    assert after.nodes[0].attributes["value"] == float(np.float32(0.1) * np.float32(1e6))
    graph, after = folded(lambda b: b.sum(b.full(0.1, T("f32[4,0]")), (1,)))
    assert after is graph


def test_strict_folding_keeps_reductions() -> None:
    b = Builder("g")
    graph = b.finish([b.sum(b.full(0.1, T("f32[10]")))])
    assert Fold(strict=True)(graph) is graph


def test_random_and_state_are_no_constants() -> None:
    b = Builder("g")
    state = b.input("state", T("i64[2]"), InputKind.STATE)
    graph = b.finish([b.emit("random_uniform", state, stream=0, shape=(3,))])
    assert Fold()(graph) is graph
