"""What primitives do at zeros, poles, ties, infinities, NaN and over nothing: values and gradients."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph, Value
from graphc.primitives.builder import Builder
from graphc.types import TensorType
from support.differentiate import differentiate

INF, NAN = math.inf, math.nan
Make = Callable[..., Value]


def graph_of(make: Make, *types: str) -> Graph:
    builder = Builder()
    values = [builder.input(f"x{k}", TensorType.parse(text)) for k, text in enumerate(types)]
    return builder.finish({"y": make(builder, *values)})


def evaluate(graph: Graph, *values: Any) -> dict[str, list[Any]]:
    inputs = {
        item.name: torch.tensor(value, dtype=item.value.type.dtype.torch)
        for item, value in zip(graph.inputs, values, strict=True)
    }
    return {name: value.tolist() for name, value in run_reference(graph, inputs).outputs.items()}


def value_of(make: Make, *values: list[Any], dtype: str = "f64") -> list[Any]:
    """The result for operands that are vectors."""
    return evaluate(graph_of(make, *(f"{dtype}[{len(value)}]" for value in values)), *values)["y"]


def gradient_of(make: Make, *values: list[float], order: int = 1) -> list[list[float]]:
    """Gradients of the sum of the result, or of the sum of those gradients."""
    graph = graph_of(make, *(f"f64[{len(value)}]" for value in values))
    for _ in range(order):
        graph = differentiate(graph, [item.name for item in graph.inputs])
    return list(evaluate(graph, *values).values())


def same(actual: Any, expected: Any) -> None:
    got, wanted = (torch.tensor(values, dtype=torch.float64) for values in (actual, expected))
    torch.testing.assert_close(got, wanted, equal_nan=True, rtol=1e-9, atol=0)


def test_sign_of_nan_is_zero() -> None:
    assert value_of(lambda b, x: b.sign(x), [NAN, -INF, -0.0, 3.0]) == [0, -1, 0, 1]


def test_round_takes_halves_to_even() -> None:
    assert value_of(lambda b, x: b.round(x), [-1.5, -0.5, 0.5, 1.5, 2.5]) == [-2, 0, 0, 2, 2]


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_extremes_propagate_nan(name: str) -> None:
    result = value_of(lambda b, x, y: getattr(b, name)(x, y), [NAN, 1.0], [1.0, NAN])
    assert all(map(math.isnan, result))


def test_a_tie_sends_the_gradient_to_the_second_operand() -> None:
    for name in ("maximum", "minimum"):
        assert gradient_of(lambda b, x, y, n=name: getattr(b, n)(x, y), [2.0], [2.0]) == [[0.0], [1.0]]
    assert gradient_of(lambda b, x: b.maximum(x, 0.0), [-1.0, 0.0, 1.0]) == [[0.0, 0.0, 1.0]]


def test_integer_division_by_zero_and_overflow() -> None:
    low = -(2**31)
    assert value_of(lambda b, x, y: b.div(x, y), [7, -7, 7, low], [2, 2, 0, -1], dtype="i32") == [
        3,
        -3,
        0,
        low,
    ]
    assert value_of(lambda b, x, y: b.mod(x, y), [7, -7, 7, low], [2, 2, 0, -1], dtype="i32") == [1, 1, 0, 0]


def test_floating_division_by_zero_follows_ieee() -> None:
    same(value_of(lambda b, x, y: b.div(x, y), [1.0, -1.0, 0.0], [0.0, 0.0, 0.0]), [INF, -INF, NAN])


def test_mod_has_the_sign_of_the_divisor() -> None:
    same(value_of(lambda b, x, y: b.mod(x, y), [5.5, -5.5, 5.5], [3.0, 3.0, -3.0]), [2.5, 0.5, -0.5])


def test_pow_at_zero_and_below() -> None:
    def power(b: Builder, x: Value, y: Value) -> Value:
        return b.pow(x, y)

    base, exponent = [0.0, 0.0, 0.0, -2.0, -2.0], [0.0, 1.0, 2.0, 3.0, 0.5]
    same(value_of(power, base, exponent), [1.0, 0.0, 0.0, -8.0, NAN])
    of_base, of_exponent = gradient_of(power, base, exponent)
    same(of_base, [0.0, 1.0, 0.0, 12.0, NAN])
    # d/dy of 0 ** y is 0; of a negative base there is none.
    same(of_exponent, [0.0, 0.0, 0.0, NAN, NAN])


def test_derivatives_of_a_square_at_zero_hold_in_every_order() -> None:
    def square(b: Builder, x: Value) -> Value:
        return b.pow(x, 2.0)

    points = [0.0, 3.0, -3.0]
    assert gradient_of(square, points) == [[0.0, 6.0, -6.0]]
    assert gradient_of(square, points, order=2) == [[2.0, 2.0, 2.0]]
    assert gradient_of(square, points, order=3) == [[0.0, 0.0, 0.0]]


def test_where_keeps_nan_of_the_other_operand_out() -> None:
    def choose(b: Builder, x: Value, y: Value) -> Value:
        return b.where(b.gt(x, 0.0), b.log(x), y)

    points, others = [-1.0, 2.0], [5.0, NAN]
    same(value_of(choose, points, others), [5.0, math.log(2.0)])
    # where sends 0 into log(-1), whose own rule gives -0; nothing is NaN.
    assert gradient_of(choose, points, others) == [[0.0, 0.5], [1.0, 0.0]]


def test_where_stops_an_infinite_gradient() -> None:
    condition = [True, False]
    graph = graph_of(lambda b, c, x, y: b.mul(b.where(c, x, y), INF), "bool[2]", "f64[2]", "f64[2]")
    result = evaluate(differentiate(graph, ["x1", "x2"]), condition, [1.0, 1.0], [1.0, 1.0])
    assert result == {"dx1": [INF, 0.0], "dx2": [0.0, INF]}


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "erf", "atan", "asinh"])
def test_saturated_gradients_are_finite(name: str) -> None:
    points = [-INF, -1000.0, -30.0, 30.0, 1000.0, INF]
    (gradient,) = gradient_of(lambda b, x: getattr(b, name)(x), points)
    assert all(0 <= g <= 1 for g in gradient)
    assert all(map(math.isfinite, value_of(lambda b, x: getattr(b, name)(x), points[1:-1])))


def test_sigmoid_keeps_its_digits_on_the_left() -> None:
    same(value_of(lambda b, x: b.sigmoid(x), [-700.0]), [math.exp(-700.0)])
    same(gradient_of(lambda b, x: b.sigmoid(x), [-700.0]), [[math.exp(-700.0)]])


def test_expm1_and_log1p_keep_their_digits() -> None:
    same(value_of(lambda b, x: b.expm1(x), [1e-15]), [1e-15])
    same(value_of(lambda b, x: b.log1p(x), [1e-15]), [1e-15])
    same(gradient_of(lambda b, x: b.expm1(x), [-80.0]), [[math.exp(-80.0)]])
    same(gradient_of(lambda b, x: b.asin(x), [1 - 2**-40]), [[(2**-40 * (2 - 2**-40)) ** -0.5]])


def test_division_gradient_does_not_square_a_small_divisor() -> None:
    same(gradient_of(lambda b, x, y: b.div(x, y), [1e-200], [1e-200]), [[1e200], [-1e200]])


def test_reductions_over_nothing_give_the_neutral_value() -> None:
    graphs = {
        n: graph_of(lambda b, x, n=n: b.emit(n, x, axes=(0,)), "f64[0,2]")
        for n in ("reduce_sum", "reduce_prod", "reduce_max", "reduce_min")
    }
    results = {
        n: run_reference(g, {"x0": torch.zeros(0, 2)}).outputs["y"].tolist() for n, g in graphs.items()
    }
    assert results == {
        "reduce_sum": [0, 0],
        "reduce_prod": [1, 1],
        "reduce_max": [-INF] * 2,
        "reduce_min": [INF] * 2,
    }


def test_every_equal_element_gets_the_whole_gradient_of_an_extreme() -> None:
    assert gradient_of(lambda b, x: b.reduce("reduce_max", x, [0]), [1.0, 3.0, 3.0]) == [[0.0, 1.0, 1.0]]
    assert gradient_of(lambda b, x: b.reduce("reduce_min", x, [0]), [1.0, 1.0, 3.0]) == [[1.0, 1.0, 0.0]]


def test_a_product_with_zeros_has_its_derivative() -> None:
    def product(b: Builder, x: Value) -> Value:
        return b.reduce("reduce_prod", x, [0])

    assert gradient_of(product, [2.0, 3.0, 5.0]) == [[15.0, 10.0, 6.0]]
    assert gradient_of(product, [2.0, 0.0, 5.0]) == [[0.0, 10.0, 0.0]]
    assert gradient_of(product, [0.0, 0.0, 5.0]) == [[0.0, 0.0, 0.0]]


def test_positions_take_the_first_of_equals_and_nan() -> None:
    def position(name: str, values: list[float]) -> Any:
        return value_of(lambda b, x: b.emit(name, x, axes=(0,)), values)

    assert position("argmax", [1.0, 4.0, 4.0]) == 1
    assert position("argmin", [1.0, 1.0, 4.0]) == 0
    assert position("argmax", [1.0, NAN, INF, NAN]) == 1
    assert position("argmin", [-INF, NAN, 0.0]) == 1
    assert all(
        math.isnan(value_of(lambda b, x, n=n: b.reduce(n, x, [0]), [1.0, NAN]))
        for n in ("reduce_max", "reduce_min")
    )


def pool(x: list[float], kernel: int, stride: int, low: int, high: int) -> tuple[list[float], list[int]]:
    builder = Builder()
    value = builder.input("x", TensorType.parse(f"f64[{len(x)}]"))
    geometry = {"kernel": (kernel,), "stride": (stride,), "pad_low": (low,), "pad_high": (high,)}
    y, index = builder.emit_all("max_pool", value, **geometry)
    result = run_reference(builder.finish({"y": y, "index": index}), {"x": torch.tensor(x)}).outputs
    return result["y"].tolist(), result["index"].tolist()


def test_max_pool_at_ties_nan_and_padding() -> None:
    assert pool([2.0, 2.0, 1.0], 2, 1, 0, 0) == ([2.0, 2.0], [0, 0])
    # Padding never wins, not even against negative numbers, and the position counts it.
    assert pool([-5.0, -7.0], 2, 2, 1, 1) == ([-5.0, -7.0], [1, 0])
    values, positions = pool([1.0, NAN, 3.0], 3, 1, 0, 0)
    assert math.isnan(values[0]) and positions == [1]
    assert pool([1.0], 2, 2, 0, 3) == ([1.0, -INF], [0, 0])


def test_indices_are_clipped() -> None:
    graph = graph_of(lambda b, x, i: b.emit("gather", x, i, axis=0), "f64[3]", "i64[4]")
    values, indices = [1.0, 2.0, 3.0], [-5, 0, 2, 99]
    assert evaluate(graph, values, indices) == {"y": [1.0, 1.0, 3.0, 3.0]}
    assert evaluate(differentiate(graph, ["x0"]), values, indices) == {"dx0": [2.0, 0.0, 2.0]}


def test_markers() -> None:
    stopped = graph_of(lambda b, x: b.mul(b.stop_gradient(x), x), "f64[1]")
    assert evaluate(differentiate(stopped, ["x0"]), [3.0]) == {"dx0": [3.0]}

    def loss(scaled: bool, weight: float) -> Graph:
        return graph_of(
            lambda b, out, data, g: b.mul(b.with_gradient(out, data, g, scaled=scaled), weight),
            "f64[2]", "f64[2]", "f64[2]",
        )  # fmt: skip

    operands = [5.0, 6.0], [1.0, 2.0], [0.25, -0.5]
    assert evaluate(loss(True, 10.0), *operands) == {"y": [50.0, 60.0]}
    names = ["x0", "x1", "x2"]
    nothing = [0.0, 0.0]
    assert list(evaluate(differentiate(loss(True, 10.0), names), *operands).values()) == [
        nothing,
        [2.5, -5.0],
        nothing,
    ]
    assert list(evaluate(differentiate(loss(False, 10.0), names), *operands).values()) == [
        nothing,
        [0.25, -0.5],
        nothing,
    ]


def test_a_loss_marker_sends_its_gradient_without_any_head() -> None:
    builder = Builder()
    data = builder.input("data", TensorType.parse("f64[2]"))
    marked = builder.with_gradient(data, data, builder.sin(data), scaled=False)
    graph = builder.finish({"truth": builder.gt(marked, 0.0)})
    assert evaluate(differentiate(graph, ["data"]), [0.5, 1.0]) == {"ddata": [math.sin(0.5), math.sin(1.0)]}
