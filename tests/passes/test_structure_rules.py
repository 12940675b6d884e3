"""Each rule that is no line of the algebra table, on a graph made for it: golden text, same bits, nothing twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph, Value
from graphc.passes.rewrite import Rewriter
from graphc.passes.rules import algebra
from graphc.passes.simplify import RULES, Simplify
from graphc.primitives.builder import Builder
from graphc.primitives.verify import verify_graph
from graphc.types import DType, TensorType, symbol
from support.graphs import random_inputs

N = symbol("N")

Case = Callable[[Builder, Callable[[str], Value]], Value]
"""Makes the result from a builder and a function that declares an input of a type."""


def transpose_last(b: Builder, x: Value) -> Value:
    rank = x.type.rank
    return b.transpose(x, (*range(rank - 2), rank - 1, rank - 2))


def dot(b: Builder, x: Value, y: Value) -> Value:
    return b.emit("dot", x, y, transpose_a=False, transpose_b=False)


def centered(b: Builder, x: Value) -> Value:
    return b.sub(x, b.broadcast(b.mean(x, (1,)), x.type.shape, (0,)))


ONE = {"stride": (1, 1), "pad": (0, 0), "dilate": (1, 1), "groups": 1}
WINDOWS = {"kernel": (3, 2), "stride": (1, 1), "pad_low": (1, 1), "pad_high": (1, 0)}


def average(b: Builder, x: Value) -> Value:
    return b.div(b.emit("window_sum", x, **WINDOWS), 6.0)


def spread(b: Builder, gradient: Value) -> Value:
    return b.emit("window_sum_transpose", b.div(gradient, 6.0), shape=gradient.type.shape, **WINDOWS)


def convolve(b: Builder, x: Value, w: Value, **changes: object) -> Value:
    return b.emit("convolution", x, w, **{**ONE, **changes})


def constant(b: Builder, value: float, type: str) -> Value:
    return b.full(value, TensorType.parse(type))


def relu_gradient(b: Builder, x: Value) -> Value:
    zero = constant(b, 0.0, "f32[4]")
    y = b.maximum(x, zero)
    return b.mul(y, b.where(b.gt(x, zero), y, zero))


CASES: dict[str, list[Case]] = {
    # constants
    "f(constants) -> constant": [
        lambda b, given: b.add(given("f32[3]"), b.exp(constant(b, 0.1, "f32[3]"))),
        lambda b, given: b.add(given("i32[3]"), b.div(constant(b, -7, "i32[3]"), 2)),
        lambda b, given: b.add(given("f32[3]"), b.cast(constant(b, 2.75, "f64[3]"), DType.F32)),
    ],
    "view of a constant": [
        lambda b, given: b.add(given("f32[2,3]"), b.broadcast(constant(b, 2.0, "f32[3]"), (2, 3), (1,))),
        lambda b, given: b.add(
            given("f32[4]"), b.emit("pad", constant(b, 2.0, "f32[2]"), low=(1,), high=(1,), value=2.0)
        ),
        lambda b, given: b.add(
            given("f32[4]"), b.emit("pad", constant(b, 2.0, "f32[2]"), low=(1,), high=(1,), value=0.0)
        ),
    ],
    "gather from a constant": [
        lambda b, given: b.emit("gather", constant(b, 3.0, "f32[5,2]"), given("i32[4]"), axis=0)
    ],
    "reduction of a constant": [
        lambda b, given: b.add(given("f32[2]"), b.sum(constant(b, 0.1, "f32[2,10]"), (1,))),
        lambda b, given: b.add(given("f32[2]"), b.reduce("reduce_prod", constant(b, 1.5, "f32[2,3]"), (1,))),
        lambda b, given: b.add(given("f32[2]"), b.reduce("reduce_max", constant(b, 0.1, "f32[2,9]"), (1,))),
        lambda b, given: b.add(given("i64[2]"), b.emit("argmax", constant(b, 0.1, "f32[2,9]"), axes=(1,))),
        lambda b, given: b.mul(given("f32[N]"), b.sum(b.full(0.1, TensorType.parse("f32[N]")))),
    ],
    "dim of a known size": [
        lambda b, given: b.add(given("f32[]"), b.emit("dim", value=7, dtype=DType.F32)),
    ],
    "iota along one element": [
        lambda b, given: b.add(given("i32[4,1]"), b.iota(1, TensorType.parse("i32[4,1]"))),
    ],
    # algebra that needs more than a pattern
    "div(x, 2**k) -> mul(x, 2**-k)": [
        lambda b, given: b.div(given("f32[3]"), 64.0),
        lambda b, given: b.div(given("f32[3]"), -0.125),
        lambda b, given: b.div(given("f16[3]"), 16.0),
    ],
    "cast(cast(x)) -> cast(x)": [
        lambda b, given: b.cast(b.cast(given("i8[3]"), DType.F32), DType.I64),
        lambda b, given: b.cast(b.cast(given("f32[3]"), DType.F64), DType.F32),
        lambda b, given: b.emit("cast", given("f32[3]"), dtype=DType.F32),
    ],
    "maximum(maximum(x, a), b) -> maximum(x, c)": [
        lambda b, given: b.maximum(b.maximum(given("f32[3]"), 0.5), 0.0),
        lambda b, given: b.minimum(b.minimum(given("i32[3]"), 6), 2),
    ],
    "gt(x, c) -> gt(maximum(x, c), c)": [lambda b, given: relu_gradient(b, given("f32[4]"))],
    "f(broadcast(x)) -> broadcast(f(x))": [
        lambda b, given: b.log(b.broadcast(given("f32[3]"), (3, 5), (0,))),
        lambda b, given: b.mul(
            b.broadcast(given("f32[3,1]"), (3, 5), (0, 1)), b.broadcast(given("f32[3,1]"), (3, 5), (0, 1))
        ),
    ],
    # views
    "a view that changes nothing": [
        lambda b, given: b.emit("reshape", given("f32[2,3]"), shape=(2, 3)),
        lambda b, given: b.emit("broadcast", given("f32[N,3]"), shape=(N, 3), axes=(0, 1)),
        lambda b, given: b.emit("slice", given("f32[2,3]"), start=(0, 0), stop=(2, 3)),
    ],
    "broadcast(broadcast(x))": [
        lambda b, given: b.broadcast(b.broadcast(given("f32[3]"), (2, 3), (1,)), (4, 2, 5, 3), (1, 3)),
    ],
    "broadcast that inserts ones -> reshape": [
        lambda b, given: b.broadcast(given("f32[3,2]"), (3, 1, 2, 1), (0, 2)),
    ],
    "broadcast(reshape that inserts ones)": [
        lambda b, given: b.broadcast(b.reshape(given("f32[6]"), (2, 1, 3)), (2, 4, 3), (0, 1, 2)),
        lambda b, given: b.broadcast(b.reshape(given("f32[N]"), (N, 1)), (N, 4), (0, 1)),
    ],
    "reshape(reshape(x))": [lambda b, given: b.reshape(b.reshape(given("f32[2,6]"), (3, 4)), (4, 3))],
    "transpose(transpose(x))": [
        lambda b, given: b.transpose(b.transpose(given("f32[2,3,4]"), (1, 2, 0)), (1, 2, 0)),
        lambda b, given: b.transpose(b.transpose(given("f32[2,3]"), (1, 0)), (1, 0)),
    ],
    "transpose of ones -> reshape": [lambda b, given: b.transpose(given("f32[2,1,3]"), (1, 0, 2))],
    "slice(slice(x))": [
        lambda b, given: b.slice(b.slice(given("f32[9,4]"), (1, 0), (8, 4)), (2, 1), (5, 3)),
    ],
    "slice(pad(x))": [
        lambda b, given: b.slice(
            b.emit("pad", given("f32[4]"), low=(2,), high=(3,), value=1.0), (3,), (6,)
        ),
        lambda b, given: b.slice(
            b.emit("pad", given("f32[N]"), low=(2,), high=(3,), value=1.0), (2,), (N + 2,)
        ),
    ],
    "slice(concat(x, y))": [
        lambda b, given: b.slice_axis(b.emit("concat", given("f32[2,3]"), given("f32[2,4]"), axis=1), 1, 4, 6),
        lambda b, given: b.slice_axis(
            b.emit("concat", given("f32[N,3]"), given("f32[2,3]"), axis=0), 0, N, N + 2
        ),
    ],
    "pad(pad(x))": [
        lambda b, given: b.emit(
            "pad", b.emit("pad", given("f32[4]"), low=(1,), high=(0,), value=0.0), low=(2,), high=(3,), value=0.0
        ),
        lambda b, given: b.emit("pad", given("f32[4]"), low=(0,), high=(0,), value=0.0),
    ],
    "reverse(reverse(x))": [
        lambda b, given: b.emit("reverse", b.emit("reverse", given("f32[2,3,4]"), axes=(0, 1)), axes=(1, 2)),
        lambda b, given: b.emit("reverse", given("f32[2,1,4]"), axes=(1, 2)),
        lambda b, given: b.emit("reverse", given("f32[2,1,4]"), axes=()),
    ],
    "concat(concat(x, y), z)": [
        lambda b, given: b.emit(
            "concat", b.emit("concat", given("f32[2]"), given("f32[3]"), axis=0), given("f32[4]"), axis=0
        ),
        lambda b, given: b.emit("concat", given("f32[0]"), given("f32[3]"), axis=0),
    ],
    "concat(slice(x), slice(x))": [
        lambda b, given: (
            lambda x: b.emit("concat", b.slice_axis(x, 1, 1, 3), b.slice_axis(x, 1, 3, 6), axis=1)
        )(given("f32[2,6]")),
    ],
    "pad(x) + pad(y) -> concat(x, y)": [
        lambda b, given: b.add(
            b.emit("pad", given("f32[2,3]"), low=(0, 3), high=(0, 1), value=0.0),
            b.emit("pad", given("f32[2,3]"), low=(0, 0), high=(0, 4), value=0.0),
        ),
        lambda b, given: b.add(
            b.emit("pad", given("f32[N]"), low=(0,), high=(3,), value=0.0),
            b.emit("pad", given("f32[3]"), low=(N,), high=(0,), value=0.0),
        ),
    ],
    # reductions and contractions
    "reduction over ones -> reshape": [
        lambda b, given: b.sum(given("f32[2,1,3,1]"), (1, 3)),
        lambda b, given: b.emit("argmin", given("f32[2,1]"), axes=(1,)),
    ],
    "reduce(reduce(x))": [
        lambda b, given: b.sum(b.sum(given("f32[2,3,4,5]"), (1,)), (0, 2)),
        lambda b, given: b.reduce("reduce_min", b.reduce("reduce_min", given("f32[2,3,4]"), (0,)), (1,)),
    ],
    "sum(broadcast(x)) -> n * sum(x)": [
        lambda b, given: b.sum(b.broadcast(given("f32[3]"), (4, 3, 5), (1,)), (0, 1)),
        lambda b, given: b.sum(b.broadcast(b.sum(given("f32[N]")), (N, 3), ()), (0, 1)),
        lambda b, given: b.sum(b.broadcast(given("f32[1,3]"), (4, 3), (0, 1)), (0,)),
        lambda b, given: b.sum(b.broadcast(given("i8[3]"), (200, 3), (1,)), (0,)),
    ],
    "max(broadcast(x)) -> max(x)": [
        lambda b, given: b.reduce("reduce_max", b.broadcast(given("f32[3]"), (4, 3, 5), (1,)), (0, 1)),
    ],
    "sum(transpose(x))": [lambda b, given: b.sum(b.transpose(given("f32[2,3,4]"), (2, 0, 1)), (0,))],
    "max(transpose(x))": [
        lambda b, given: b.reduce("reduce_max", b.transpose(given("f32[2,3,4]"), (2, 0, 1)), (0,)),
    ],
    "sum of all of reshape(x)": [lambda b, given: b.sum(b.reshape(given("f32[2,6]"), (3, 4)))],
    "max of all of reshape(x)": [
        lambda b, given: b.reduce("reduce_max", b.reshape(given("f32[2,6]"), (3, 4)), (0, 1)),
    ],
    "sum(neg(x)) -> neg(sum(x))": [lambda b, given: b.sum(b.neg(given("f32[2,3]")), (1,))],
    "sum(x * s) -> sum(x) * s": [
        lambda b, given: b.sum(b.mul(given("f32[2,3]"), b.broadcast(given("f32[2]"), (2, 3), (0,))), (1,)),
        lambda b, given: b.sum(b.div(given("f32[2,3]"), b.broadcast(given("f32[3]"), (2, 3), (1,))), (0,)),
        lambda b, given: b.sum(b.mul(b.neg(given("f32[2,3]")), 0.3)),
        lambda b, given: (lambda x: b.add(b.sum(x, (1,)), b.sum(b.div(x, 3.0), (1,))))(given("f32[2,3]")),
    ],
    "sum(x - mean) -> sum(x) - n * mean": [lambda b, given: b.sum(centered(b, given("f32[2,3]")), (1,))],
    "sum(y + k * (x - mean)) -> sum(y) + ...": [
        lambda b, given: b.sum(b.add(given("f32[2,3]"), b.mul(centered(b, given("f32[2,3]")), 7.0)), (1,)),
        lambda b, given: b.sum(
            b.sub(b.sub(given("f32[2,3]"), centered(b, given("f32[2,3]"))), b.broadcast(given("f32[2]"), (2, 3), (0,))),
            (1,),
        ),
    ],
    "dot(transpose(a), b)": [
        lambda b, given: dot(b, transpose_last(b, given("f32[3,2]")), given("f32[3,4]")),
        lambda b, given: dot(b, given("f32[7,2,3]"), transpose_last(b, given("f32[7,4,3]"))),
    ],
    "transpose(dot(a, b))": [lambda b, given: transpose_last(b, dot(b, given("f32[2,3]"), given("f32[3,4]")))],
    # pooling
    "conv1x1(pool(x)) -> pool(conv1x1(x))": [
        lambda b, given: convolve(b, average(b, given("f32[2,5,4,3]")), given("f32[3,5,1,1]")),
        lambda b, given: convolve(
            b, b.emit("window_sum", given("f32[N,5,4,3]"), **WINDOWS), given("f32[3,5,1,1]")
        ),
    ],
    "weight gradient of conv1x1(pool(x))": [
        lambda b, given: b.emit(
            "convolution_weight_gradient", average(b, given("f32[2,5,4,3]")), given("f32[2,3,4,3]"),
            shape=(3, 5, 1, 1), **ONE,
        ),
    ],
    "gradient of pool then of conv1x1": [
        lambda b, given: spread(b, b.emit(
            "convolution_data_gradient", given("f32[2,3,4,3]"), given("f32[3,5,1,1]"), shape=(2, 5, 4, 3), **ONE
        )),
    ],
}  # fmt: skip

REFUSED: dict[str, Case] = {
    "a divisor that is no power of two": lambda b, given: b.div(given("f32[3]"), 3.0),
    "a power of two whose reciprocal is subnormal": lambda b, given: b.div(given("f32[3]"), 2.0**127),
    "a cast that loses digits": lambda b, given: b.cast(b.cast(given("i32[3]"), DType.F32), DType.I64),
    "a cast that saturates": lambda b, given: b.cast(b.cast(given("f32[3]"), DType.F16), DType.F32),
    "broadcasts along different axes": lambda b, given: b.add(
        b.broadcast(given("f32[3]"), (3, 3), (0,)), b.broadcast(given("f32[3]"), (3, 3), (1,))
    ),
    "a transpose that moves elements": lambda b, given: b.transpose(given("f32[2,3]"), (1, 0)),
    "a slice that needs the padding": lambda b, given: b.slice(
        b.emit("pad", given("f32[4]"), low=(2,), high=(3,), value=1.0), (1,), (6,)
    ),
    "a slice across operands": lambda b, given: b.slice_axis(
        b.emit("concat", given("f32[3]"), given("f32[4]"), axis=0), 0, 2, 5
    ),
    "pads of different values": lambda b, given: b.emit(
        "pad", b.emit("pad", given("f32[4]"), low=(1,), high=(0,), value=0.0), low=(2,), high=(3,), value=-0.0
    ),
    "slices out of order": lambda b, given: (
        lambda x: b.emit("concat", b.slice_axis(x, 0, 3, 6), b.slice_axis(x, 0, 0, 3), axis=0)
    )(given("f32[6]")),
    "a quotient of a sum": lambda b, given: b.sum(
        b.div(b.broadcast(given("f32[2]"), (2, 3), (0,)), given("f32[2,3]")), (1,)
    ),
    "a factor that varies along the sum": lambda b, given: b.sum(
        b.mul(given("f32[2,3]"), b.broadcast(given("f32[3]"), (2, 3), (1,))), (1,)
    ),
    "a number that a sum only scales": lambda b, given: b.sum(b.mul(given("f32[2,3]"), 0.3)),
    "a shift that is no mean": lambda b, given: b.sum(
        b.sub(given("f32[2,3]"), b.broadcast(given("f32[2]"), (2, 3), (0,))), (1,)
    ),
    "a product in half precision": lambda b, given: b.sum(b.mul(given("f16[2,3]"), 0.5), (1,)),
    "a sum over a part of a transpose": lambda b, given: b.sum(b.transpose(given("f32[2,3,4]"), (2, 1, 0)), (0,)),
    "a dot of matrices whose batch axes move": lambda b, given: dot(
        b, b.transpose(given("f32[2,7,3]"), (1, 0, 2)), given("f32[7,3,4]")
    ),
    "a convolution to more channels than were pooled": lambda b, given: convolve(
        b, average(b, given("f32[2,3,4,3]")), given("f32[5,3,1,1]")
    ),
    "a convolution over places": lambda b, given: convolve(
        b, average(b, given("f32[2,5,4,3]")), given("f32[3,5,3,3]"), pad=(1, 1)
    ),
    "a grouped convolution": lambda b, given: convolve(
        b, average(b, given("f32[2,6,4,3]")), given("f32[2,3,1,1]"), groups=2
    ),
    "a pooling that varies": lambda b, given: convolve(
        b, b.div(b.emit("window_sum", given("f32[2,5,4,3]"), **WINDOWS), given("f32[2,5,4,3]")), given("f32[3,5,1,1]")
    ),
    "a pooling that changes the size": lambda b, given: convolve(
        b, b.emit("window_sum", given("f32[2,5,4,4]"), **{**WINDOWS, "pad_low": (0, 0), "pad_high": (0, 0)}),
        given("f32[3,5,1,1]"),
    ),
    "a pooling of halves": lambda b, given: convolve(b, average(b, given("f16[2,5,4,3]")), given("f16[3,5,1,1]")),
    "a cast of NaN to an integer": lambda b, given: b.add(
        given("i32[3]"), b.cast(constant(b, float("nan"), "f32[3]"), DType.I32)
    ),
}  # fmt: skip


def graph_of(case: Case) -> Graph:
    builder = Builder("case")
    counter = iter("xyzuvw")
    return builder.finish(
        {"result": case(builder, lambda type: builder.input(next(counter), TensorType.parse(type)))}
    )


def simplified(graph: Graph) -> tuple[Graph, set[str]]:
    rewriter = Rewriter(graph, RULES, share=True)
    return rewriter.run(), set(rewriter.fired)


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str, golden: Callable[[str, str], None]) -> None:
    texts = []
    for case in CASES[name]:
        before = graph_of(case)
        after, _ = simplified(before)
        texts.append(f"{before}->\n{after}")
        verify_graph(after)
        assert Simplify()(after) is after
        inputs = random_inputs(before, 1)
        expected = run_reference(before, inputs, dtype=None).outputs["result"]
        result = run_reference(after, inputs, dtype=None).outputs["result"]
        torch.testing.assert_close(result, expected, rtol=2e-6, atol=5e-7, equal_nan=True)
    file = "".join(character if character.isalnum() else "_" for character in name)
    golden(f"passes/simplify/{file}.txt", "\n".join(texts))


@pytest.mark.parametrize("name", CASES)
def test_rule_fires(name: str) -> None:
    assert any(name in simplified(graph_of(case))[1] for case in CASES[name])


@pytest.mark.parametrize("name", REFUSED)
def test_no_rule_fires(name: str) -> None:
    graph = graph_of(REFUSED[name])
    assert Simplify()(graph) is graph


def test_every_rule_has_a_case() -> None:
    structural = {
        rule.name for rule in RULES if rule not in algebra.TABLE and not rule.name.startswith("where(")
    }
    assert structural == set(CASES)
    assert all(len(rule.sound) > 4 for rule in RULES)
