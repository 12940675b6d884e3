"""Every oracle against a formula in numpy, in float64 and in float32, on odd and empty shapes."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch

from graphc.driver.reference import run_reference
from graphc.ir.graph import Node
from graphc.primitives import primitives
from graphc.primitives.builder import Builder
from graphc.primitives.concrete import concrete_node
from graphc.primitives.random import philox, uniform
from graphc.types import DType, TensorType
from support.primitive_cases import CASES, SIZES, Case
from support.recurrence_formulas import recurrence, recurrence_gradient

Array = Any
Formula = Callable[..., Any]

erf = numpy.vectorize(math.erf, otypes=[float])

UNARY: dict[str, Formula] = {
    "neg": numpy.negative, "abs": numpy.abs, "sign": numpy.sign, "floor": numpy.floor, "ceil": numpy.ceil,
    "round": numpy.rint, "trunc": numpy.trunc, "exp": numpy.exp, "expm1": numpy.expm1, "log": numpy.log,
    "log1p": numpy.log1p, "sqrt": numpy.sqrt, "rsqrt": lambda x: 1 / numpy.sqrt(x), "cbrt": numpy.cbrt,
    "sin": numpy.sin, "cos": numpy.cos, "tan": numpy.tan, "asin": numpy.arcsin, "acos": numpy.arccos,
    "atan": numpy.arctan, "sinh": numpy.sinh, "cosh": numpy.cosh, "tanh": numpy.tanh, "asinh": numpy.arcsinh,
    "acosh": numpy.arccosh, "atanh": numpy.arctanh, "erf": erf, "sigmoid": lambda x: 1 / (1 + numpy.exp(-x)),
    "logical_not": numpy.logical_not, "is_nan": numpy.isnan,
}  # fmt: skip


def divide(x: Array, y: Array) -> Array:
    if x.dtype.kind == "f":
        return x / y
    quotients = [0 if q == 0 else math.trunc(p / q) for p, q in zip(x.tolist(), y.tolist(), strict=True)]
    return numpy.array(quotients, x.dtype)


def modulo(x: Array, y: Array) -> Array:
    if x.dtype.kind == "f":
        return x - y * numpy.floor(x / y)
    return numpy.array([0 if q == 0 else p % q for p, q in zip(x.tolist(), y.tolist(), strict=True)], x.dtype)


BINARY: dict[str, Formula] = {
    "add": numpy.add, "sub": numpy.subtract, "mul": numpy.multiply, "div": divide, "pow": numpy.power,
    "maximum": numpy.maximum, "minimum": numpy.minimum, "mod": modulo, "atan2": numpy.arctan2, "eq": numpy.equal,
    "ne": numpy.not_equal, "lt": numpy.less, "le": numpy.less_equal, "gt": numpy.greater, "ge": numpy.greater_equal,
    "logical_and": numpy.logical_and, "logical_or": numpy.logical_or, "logical_xor": numpy.logical_xor,
}  # fmt: skip


def broadcast(x: Array, a: Any, shape: tuple[int, ...]) -> Array:
    result = numpy.empty(shape, x.dtype)
    for index in itertools.product(*map(range, shape)):
        result[index] = x[tuple(0 if d == 1 else index[k] for k, d in zip(a["axes"], x.shape, strict=True))]
    return result


def windows(shape: tuple[int, ...], a: Any) -> Any:
    """(index of the window, [(position, element) of each that is no padding]) for all windows of a tensor."""
    rank = len(a["kernel"])
    lead, space = shape[: len(shape) - rank], shape[len(shape) - rank :]
    counts = [
        (d + low + high - k) // s + 1
        for d, k, s, low, high in zip(
            space, a["kernel"], a["stride"], a["pad_low"], a["pad_high"], strict=True
        )
    ]
    for head in itertools.product(*map(range, lead)):
        for window in itertools.product(*map(range, counts)):
            elements = []
            for position, offset in enumerate(itertools.product(*map(range, a["kernel"]))):
                place = [
                    w * s - low + o
                    for w, s, low, o in zip(window, a["stride"], a["pad_low"], offset, strict=True)
                ]
                if all(0 <= p < d for p, d in zip(place, space, strict=True)):
                    elements.append((position, (*head, *place)))
            yield (*head, *window), elements


def max_pool(x: Array, a: Any, shape: tuple[int, ...]) -> Any:
    y, index = numpy.zeros(shape, x.dtype), numpy.zeros(shape, int)
    for window, elements in windows(x.shape, a):
        best = max(elements, key=lambda element: (x[element[1]], -element[0]))
        index[window], y[window] = best[0], x[best[1]]
    return y, index


def window_gather(x: Array, chosen: Array, a: Any, shape: tuple[int, ...]) -> Array:
    y = numpy.zeros(shape, x.dtype)
    for window, elements in windows(x.shape, a):
        y[window] = sum(x[place] for position, place in elements if position == chosen[window])
    return y


def window_scatter(dy: Array, chosen: Array, a: Any, shape: tuple[int, ...]) -> Array:
    dx = numpy.zeros(shape, dy.dtype)
    for window, elements in windows(shape, a):
        for position, place in elements:
            dx[place] += dy[window] * (position == chosen[window])
    return dx


def window_sum(x: Array, a: Any, shape: tuple[int, ...]) -> Array:
    y = numpy.zeros(shape, x.dtype)
    for window, elements in windows(x.shape, a):
        y[window] = sum(x[place] for _, place in elements)
    return y


def window_sum_transpose(dy: Array, a: Any, shape: tuple[int, ...]) -> Array:
    dx = numpy.zeros(shape, dy.dtype)
    for window, elements in windows(shape, a):
        for _, place in elements:
            dx[place] += dy[window]
    return dx


def convolve(x: tuple[int, ...], w: tuple[int, ...], a: Any) -> Any:
    """(index in the result, in the data, in the weight) of every product of a convolution."""
    groups, spatial = a["groups"], range(len(x) - 2)
    span = [a["dilate"][k] * (w[2 + k] - 1) + 1 for k in spatial]
    counts = [(x[2 + k] + 2 * a["pad"][k] - span[k]) // a["stride"][k] + 1 for k in spatial]
    for n, o, c in itertools.product(range(x[0]), range(w[0]), range(w[1])):
        channel = o // (w[0] // groups) * w[1] + c
        for out in itertools.product(*map(range, counts)):
            for tap in itertools.product(*map(range, w[2:])):
                place = [out[k] * a["stride"][k] - a["pad"][k] + tap[k] * a["dilate"][k] for k in spatial]
                if all(0 <= place[k] < x[2 + k] for k in spatial):
                    yield (n, o, *out), (n, channel, *place), (o, c, *tap)


def contraction(result: int) -> Formula:
    """One operand of y = sum x * w from the other two; `result` is its position among (y, x, w)."""

    def formula(first: Array, second: Array, a: Any, shape: tuple[int, ...]) -> Array:
        total = numpy.zeros(shape)
        tensors = [first, second]
        tensors.insert(result, total)
        for place in convolve(tensors[1].shape, tensors[2].shape, a):
            terms = [tensors[k][place[k]] for k in range(3) if k != result]
            total[place[result]] += terms[0] * terms[1]
        return total

    return formula


def channels_last(x: Array, w: Array, a: Any, shape: tuple[int, ...]) -> Array:
    """The convolution of [N,C,...], its channels moved."""
    first = (shape[0], shape[-1], *shape[1:-1])
    return numpy.moveaxis(contraction(0)(numpy.moveaxis(x, -1, 1), w, {**a, "groups": 1}, first), 1, -1)


def dot(x: Array, y: Array, a: Any, shape: tuple[int, ...]) -> Array:
    if x.dtype.kind in "iu":
        x, y = x.astype(numpy.int32), y.astype(numpy.int32)
    x = x.swapaxes(-1, -2) if a["transpose_a"] else x
    return (x[..., :, :, None] * (y.swapaxes(-1, -2) if a["transpose_b"] else y)[..., None, :, :]).sum(-2)


def hidden_scores(q: Array, k: Array, bias: Array | float, a: Any) -> Array:
    """The scores of attention, -inf where the causal rule hides a key."""
    scores = a["scale"] * numpy.einsum("...sd,...td->...st", q, k) + bias
    for query, key in itertools.product(range(q.shape[-2]), range(k.shape[-2])):
        if a["causal"] and key > query + a["offset"]:
            scores[..., query, key] = -math.inf
    return scores


def bias_and_dropout(rest: tuple[Any, ...], scores: tuple[int, ...]) -> tuple[Any, Array]:
    """The bias, and what each probability is multiplied by, element after element."""
    *operands, a, _ = rest
    factors = numpy.ones(math.prod(scores))
    if a["keep"] < 1:
        seed, step = (int(word) for word in operands.pop().reshape(-1)[:2])
        for place, drawn in enumerate(uniform(seed, step, a["stream"], factors.size)):
            factors[place] = 1 / a["keep"] if drawn < numpy.float32(a["keep"]) else 0
    return operands[0] if operands else 0.0, factors.reshape(scores)


def attention(q: Array, k: Array, v: Array, *rest: Any) -> tuple[Array, Array]:
    bias, factors = bias_and_dropout(rest, (*q.shape[:-1], k.shape[-2]))
    powers = numpy.exp(hidden_scores(q, k, bias, rest[-2]))
    total = powers.sum(-1)
    return numpy.einsum("...st,...te->...se", factors * powers / total[..., None], v), numpy.log(total)


def attention_gradient(
    lse: Array, delta: Array, g: Array, q: Array, k: Array, v: Array, *rest: Any
) -> tuple[Array, ...]:
    a = rest[-2]
    bias, factors = bias_and_dropout(rest, (*q.shape[:-1], k.shape[-2]))
    p = numpy.exp(hidden_scores(q, k, bias, a) - lse[..., None])
    ds = p * (factors * numpy.einsum("...se,...te->...st", g, v) - delta[..., None]) * a["scale"]
    return (
        numpy.einsum("...st,...td->...sd", ds, k),
        numpy.einsum("...st,...sd->...td", ds, q),
        numpy.einsum("...st,...se->...te", factors * p, g),
    )


def scatter_add(indices: Array, updates: Array, a: Any, shape: tuple[int, ...]) -> Array:
    result, axis = numpy.zeros(shape, updates.dtype), a["axis"]
    for index in itertools.product(*map(range, updates.shape)):
        row = min(max(int(indices[index[axis : axis + indices.ndim]]), 0), shape[axis] - 1)
        result[(*index[:axis], row, *index[axis + indices.ndim :])] += updates[index]
    return result


def reduction(function: Formula, empty: Callable[[numpy.dtype[Any]], Any]) -> Formula:
    def formula(x: Array, a: Any, shape: tuple[int, ...]) -> Array:
        return function(x, axis=a["axes"], initial=empty(x.dtype))

    return formula


def least(dtype: numpy.dtype[Any]) -> Any:
    return -math.inf if dtype.kind == "f" else numpy.iinfo(dtype).min


def greatest(dtype: numpy.dtype[Any]) -> Any:
    return math.inf if dtype.kind == "f" else numpy.iinfo(dtype).max


OTHERS: dict[str, Formula] = {
    "where": lambda c, x, y, a, s: numpy.where(c, x, y),
    "full": lambda a, s: numpy.full(s, a["value"]),
    "iota": lambda a, s: numpy.indices(s)[a["axis"]],
    "dim": lambda a, s: numpy.array(a["value"]),
    "broadcast": broadcast,
    "transpose": lambda x, a, s: numpy.transpose(x, a["axes"]),
    "slice": lambda x, a, s: x[tuple(slice(p, q) for p, q in zip(a["start"], a["stop"], strict=True))],
    "pad": lambda x, a, s: numpy.pad(
        x, tuple(zip(a["low"], a["high"], strict=True)), constant_values=a["value"]
    ),
    "reverse": lambda x, a, s: numpy.flip(x, a["axes"]),
    "concat": lambda *x: numpy.concatenate(x[:-2], x[-2]["axis"]),
    "reshape": lambda x, a, s: numpy.reshape(x, s),
    "gather": lambda x, i, a, s: numpy.take(x, i.astype(int), a["axis"], mode="clip"),
    "scatter_add": scatter_add,
    "reduce_sum": reduction(numpy.sum, lambda dtype: 0),
    "reduce_prod": reduction(numpy.prod, lambda dtype: 1),
    "reduce_max": reduction(numpy.max, least),
    "reduce_min": reduction(numpy.min, greatest),
    "reduce_any": lambda x, a, s: numpy.any(x, a["axes"]),
    "argmax": lambda x, a, s: numpy.argmax(x, a["axes"][0]),
    "argmin": lambda x, a, s: numpy.argmin(x, a["axes"][0]),
    "max_pool": max_pool,
    "window_gather": window_gather,
    "window_scatter": window_scatter,
    "window_sum": window_sum,
    "window_sum_transpose": window_sum_transpose,
    "dot": dot,
    "convolution": contraction(0),
    "channels_last_convolution": channels_last,
    "convolution_data_gradient": lambda dy, w, a, s: contraction(1)(dy, w, a, s),
    "convolution_weight_gradient": lambda x, dy, a, s: contraction(2)(dy, x, a, s),
    "attention": attention,
    "attention_gradient": attention_gradient,
    "recurrence": recurrence,
    "recurrence_gradient": recurrence_gradient,
    "stop_gradient": lambda x, a, s: x,
    "with_gradient": lambda out, data, gradient, a, s: out,
}
# Their numbers have tests of their own below.
APART = {"cast", "random_uniform"}


def formula_of(node: Node, operands: list[Array]) -> list[Array]:
    shapes = [value.type.concrete_shape({}) for value in node.outputs]
    elementwise = UNARY.get(node.primitive) or BINARY.get(node.primitive)
    result = (
        elementwise(*operands)
        if elementwise
        else OTHERS[node.primitive](*operands, node.attributes, shapes[0])
    )
    return list(result) if isinstance(result, tuple) else [result]


def test_every_oracle_has_a_formula() -> None:
    assert {*UNARY, *BINARY, *OTHERS, *APART} == {declared.name for declared in primitives()}


@pytest.mark.parametrize("case", [case for case in CASES if case.primitive not in APART], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, None], ids=["f64", "declared"])
def test_an_oracle_agrees_with_numpy(case: Case, dtype: torch.dtype | None) -> None:
    graph, inputs = case.graph(), case.inputs()
    outputs = run_reference(graph, inputs, dtype=dtype).outputs
    node = concrete_node(graph.nodes[0], SIZES)
    expected = formula_of(node, [inputs[value.name].numpy() for value in node.inputs])
    tolerance = 1e-12 if dtype is not None else 3e-5
    for value, result, formula in zip(node.outputs, outputs.values(), expected, strict=True):
        declared = value.type.dtype
        assert result.dtype is (dtype if dtype is not None and declared.is_float else declared.torch)
        assert tuple(result.shape) == value.type.concrete_shape({}) == numpy.shape(formula)
        numpy.testing.assert_allclose(result.numpy(), formula, rtol=tolerance, atol=tolerance)


CASTS: list[tuple[DType, list[float], DType, list[float]]] = [
    (DType.F32, [-2.7, -0.5, 0.5, 2.7], DType.I32, [-2, 0, 0, 2]),
    (DType.F32, [-2.7, 0.0, -0.0, math.nan], DType.BOOL, [1, 0, 0, 1]),
    (DType.BOOL, [0, 1], DType.F32, [0.0, 1.0]),
    (DType.I32, [300, -129, 7], DType.I8, [44, 127, 7]),
    (DType.I64, [256, 3], DType.BOOL, [1, 1]),
    (DType.F32, [1 + 2**-9, 70000.0], DType.F16, [1 + 2**-9, math.inf]),
    (DType.F32, [1 + 2**-9, 70000.0], DType.BF16, [1.0, 70144.0]),
    (DType.F32, [math.nan, math.inf], DType.F64, [math.nan, math.inf]),
]


@pytest.mark.parametrize(("source", "values", "target", "expected"), CASTS)
def test_casts(source: DType, values: list[float], target: DType, expected: list[float]) -> None:
    builder = Builder()
    x = builder.input("x", TensorType(source, (len(values),)))
    graph = builder.finish({"y": builder.emit("cast", x, dtype=target)})
    result = run_reference(graph, {"x": torch.tensor(values, dtype=source.torch)}, dtype=None).outputs["y"]
    assert result.dtype is target.torch
    numpy.testing.assert_array_equal(result.double().numpy(), expected)


def test_philox_gives_the_published_words() -> None:
    # Known answers of the Random123 distribution (kat_vectors, philox4x32 with 10 rounds).
    ones, pi = 0xFFFFFFFF, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    known = [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones,) * 4, (ones,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (pi, (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ]
    for counter, key, words in known:
        a, b, c, d = (numpy.array([word], numpy.uint64) for word in counter)
        assert tuple(int(word[0]) for word in philox((a, b, c, d), key)) == words


def test_random_uniform_is_seeded_uniform_and_told_apart_by_stream_and_step() -> None:
    builder = Builder()
    state = builder.input("state", TensorType(DType.I64, (2,)))
    streams = {f"s{k}": builder.emit("random_uniform", state, stream=k, shape=(10000,)) for k in (0, 1)}
    graph = builder.finish(streams)

    def draw(seed: int, step: int) -> dict[str, torch.Tensor]:
        return run_reference(graph, {"state": torch.tensor([seed, step])}, dtype=None).outputs

    first = draw(11, 0)
    assert first["s0"].dtype is torch.float32
    assert torch.equal(first["s0"], draw(11, 0)["s0"])
    different = [first["s1"], draw(12, 0)["s0"], draw(11, 1)["s0"], draw(11 + 2**32, 0)["s0"]]
    assert not any(torch.equal(first["s0"], other) for other in different)
    values = torch.cat([*first.values(), *draw(-1, 5).values()]).double()
    assert values.min() >= 0 and values.max() < 1
    assert abs(values.mean() - 1 / 2) < 0.005 and abs(values.var() - 1 / 12) < 0.002
    # Word 0 of key (11, 0), counter (0, 0, 0, 0), by the paper's round written out.
    counter, key = [0, 0, 0, 0], [11, 0]
    for _ in range(10):
        left, right = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [
            right >> 32 ^ counter[1] ^ key[0],
            right % 2**32,
            left >> 32 ^ counter[3] ^ key[1],
            left % 2**32,
        ]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    assert float(first["s0"][0]) == (counter[0] >> 8) * 2**-24
