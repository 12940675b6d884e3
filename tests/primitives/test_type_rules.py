"""Every way to break a type rule is refused with the rule and the shapes; results have the right types."""

import re
from typing import Any

import pytest

from graphc.diagnostics import GraphcError
from graphc.primitives import TypeRuleError, primitive, primitives
from graphc.primitives.builder import Builder
from graphc.types import DType, TensorType
from support.primitive_cases import CASES, LINE, POOL, N, shape

ONE = {"stride": (1,), "pad": (0,), "dilate": (1,)}
F32, I64 = DType.F32, DType.I64

UNARY_FLOAT = [
    "floor",
    "ceil",
    "round",
    "trunc",
    "exp",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "rsqrt",
    "cbrt",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "erf",
    "sigmoid",
    "is_nan",
]
BINARY_NUMBER = ["add", "sub", "mul", "div", "maximum", "minimum", "mod"]
COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]
LOGIC = ["logical_and", "logical_or", "logical_xor"]

Broken = tuple[str, list[str], dict[str, Any], str]

BROKEN: list[Broken] = [
    *((name, ["i32[3]"], {}, "must be floating-point, got i32[3]") for name in UNARY_FLOAT),
    *((name, ["bool[3]"], {}, "must be numbers, got bool[3]") for name in ("neg", "abs", "sign")),
    ("neg", ["f32[3]", "f32[3]"], {}, "takes 1 operand, got 2"),
    ("logical_not", ["f32[3]"], {}, "must be bool, got f32[3]"),
    *((name, ["bool[3]", "bool[3]"], {}, "must be numbers") for name in BINARY_NUMBER),
    *((name, ["i32[3]", "i32[3]"], {}, "must be floating-point") for name in ("pow", "atan2")),
    *((name, ["f32[3]", "f32[3]"], {}, "must be bool") for name in LOGIC),
    *((name, ["f32[3]", "f64[3]"], {}, "one element type, got f32[3], f64[3]") for name in COMPARISONS),
    *((name, ["f32[3]", "f32[3,1]"], {}, "one shape, got f32[3], f32[3,1]") for name in ("add", *COMPARISONS)),
    ("add", ["f32[3]"], {}, "takes 2 operands, got 1"),
    ("add", ["f32[N]", "f32[M]"], {}, "one shape, got f32[N], f32[M]"),
    ("where", ["f32[3]", "f32[3]", "f32[3]"], {}, "the condition must be bool, got f32[3]"),
    ("where", ["bool[3]", "f32[3]", "i32[3]"], {}, "one element type"),
    ("where", ["bool[2]", "f32[3]", "f32[3]"], {}, "one shape"),
    ("cast", ["f32[3]"], {"dtype": "f64"}, "dtype must be an element type, got 'f64'"),
    ("cast", ["f32[3]"], {}, "needs the attribute 'dtype'"),
    ("full", [], {"value": 1, "dtype": F32, "shape": ()}, "takes a Python float, got 1"),
    ("full", [], {"value": 128, "dtype": DType.I8, "shape": ()}, "must lie in -128..127, got 128"),
    ("full", [], {"value": -1, "dtype": DType.U8, "shape": ()}, "must lie in 0..255, got -1"),
    ("full", [], {"value": True, "dtype": I64, "shape": ()}, "takes a Python int, got True"),
    ("full", [], {"value": 0.0, "dtype": F32, "shape": (2, -1)}, "must not be negative, got [2,-1]"),
    ("full", [], {"value": 0.0, "dtype": F32, "shape": 3}, "shape must be a tuple"),
    ("full", [], {"value": 0.0, "dtype": F32, "shape": (2.5,)}, "shape must be a tuple of dimensions"),
    ("iota", [], {"axis": 2, "dtype": F32, "shape": (2, 3)}, "axis must lie in 0..1 for rank 2, got 2"),
    ("iota", [], {"axis": 0, "dtype": DType.BOOL, "shape": (2,)}, "must be numbers"),
    ("dim", [], {"value": 1.5, "dtype": F32}, "value must be a dimension"),
    ("dim", ["f32[]"], {"value": 1, "dtype": F32}, "takes 0 operands, got 1"),
    ("broadcast", ["f32[3]"], {"shape": (2, 4), "axes": (1,)}, "f32[3] does not fit [2,4] at axis 1"),
    ("broadcast", ["f32[3]"], {"shape": (2, 3), "axes": (2,)}, "axis must lie in 0..1"),
    ("broadcast", ["f32[3,1]"], {"shape": (3, 1), "axes": (1, 0)}, "increasing order, got (1, 0)"),
    ("broadcast", ["f32[3]"], {"shape": (2, 3), "axes": (0, 1)}, "one axis for each of f32[3]"),
    ("broadcast", ["f32[N]"], {"shape": (3,), "axes": (0,)}, "must be 1 or equal"),
    ("transpose", ["f32[2,3]"], {"axes": (0, 0)}, "an order of the 2 axes of f32[2,3], got (0, 0)"),
    ("slice", ["f32[4]"], {"start": (1,), "stop": (5,)}, "start <= stop <= size must hold, axis 0 of f32[4] has 1:5"),
    ("slice", ["f32[4]"], {"start": (3,), "stop": (2,)}, "axis 0 of f32[4] has 3:2"),
    ("slice", ["f32[4]"], {"start": (-1,), "stop": (2,)}, "axis 0 of f32[4] has -1:2"),
    ("slice", ["f32[N]"], {"start": (0,), "stop": (N + 1,)}, "axis 0 of f32[N] has 0:N + 1"),
    ("slice", ["f32[4]"], {"start": (0, 0), "stop": (2,)}, "start must hold one dimension for each of the 1 axes"),
    ("pad", ["f32[4]"], {"low": (-1,), "high": (0,), "value": 0.0}, "padding must not be negative, got low [-1]"),
    ("pad", ["f32[4]"], {"low": (1,), "high": (0,), "value": 0}, "a constant of f32 takes a Python float, got 0"),
    ("pad", ["bool[4]"], {"low": (1,), "high": (0,), "value": 1}, "takes a Python bool"),
    ("reverse", ["f32[4]"], {"axes": (1,)}, "axis must lie in 0..0"),
    ("concat", [], {"axis": 0}, "at least one operand"),
    ("concat", ["f32[2,3]", "f32[2,4]"], {"axis": 0}, "but for axis 0: f32[2,3] and, at position 1, f32[2,4]"),
    ("concat", ["f32[2]", "f64[2]"], {"axis": 0}, "one element type"),
    ("concat", ["f32[2]", "f32[2,1]"], {"axis": 0}, "must agree but for axis 0"),
    ("reshape", ["f32[6]"], {"shape": (4,)}, "the number of elements must stay: f32[6] has 6, [4] has 4"),
    ("reshape", ["f32[N,2]"], {"shape": (N, 3)}, "the number of elements must stay: f32[N,2] has 2*N"),
    *((f"reduce_{n}", ["bool[3]"], {"axes": (0,)}, "must be numbers") for n in ("sum", "prod", "max", "min")),
    ("reduce_any", ["f32[3]"], {"axes": (0,)}, "must be bool"),
    ("reduce_sum", ["f32[3]"], {"axes": ()}, "at least one axis"),
    ("reduce_sum", ["f32[2,3]"], {"axes": (1, 0)}, "increasing order"),
    ("reduce_sum", ["f32[2,3]"], {"axes": (-1,)}, "axis must lie in 0..1 for rank 2, got -1"),
    ("argmax", ["f32[2,3]"], {"axes": (0, 1)}, "exactly one axis, got (0, 1)"),
    ("argmin", ["f32[0,3]"], {"axes": (0,)}, "axis 0 of f32[0,3] must not be empty"),
    ("max_pool", ["f32[2,2]"], {**LINE, "kernel": (6,)}, "6 must fit into the axis: it has 2 elements and 3"),
    ("max_pool", ["f32[4]"], POOL, "kernel (2, 3) has more axes than the operand, which has 1"),
    ("max_pool", ["f32[4]"], {**LINE, "stride": (0,)}, "stride must be 1 integers of at least 1, got (0,)"),
    ("window_sum", ["f32[4]"], {**LINE, "pad_low": (-1,)}, "pad_low must be 1 integers of at least 0"),
    ("window_sum", ["bool[7]"], LINE, "must be numbers"),
    ("window_gather", ["f32[7]", "i32[4]"], LINE, "the index must be u8 for kernel (3,), got i32[4]"),
    ("window_gather", ["f32[7]", "u8[5]"], LINE, "the index must have shape [4], got [5]"),
    ("window_scatter", ["f32[4]", "u8[3]"], {**LINE, "shape": (7,)}, "the index must have shape [4], got [3]"),
    ("window_scatter", ["f32[4]", "i64[4]"], {**LINE, "shape": (7,)}, "the index must be u8"),
    ("window_sum_transpose", ["f32[5]"], {**LINE, "shape": (7,)}, "windows over [7] must have shape [4], got [5]"),
    ("dot", ["f32[2,3]", "f32[2,3]"], {}, "inner dimensions differ: 3 of f32[2,3], 2 of f32[2,3]"),
    ("dot", ["f32[3]", "f32[3]"], {}, "one rank of at least 2, got f32[3] and f32[3]"),
    ("dot", ["f32[2,3,4]", "f32[5,4,2]"], {}, "leading axes must have shape [2], got [5]"),
    ("dot", ["i32[2,2]", "i32[2,2]"], {}, "must be floating-point"),
    ("dot", ["f32[2,2]", "f32[2,2]"], {"transpose_a": 1}, "transpose_a must be a bool, got 1"),
    ("convolution", ["f32[1,3,8]", "f32[4,2,3]"], ONE, "data [1,3,8] has 3, weight [4,2,3] takes 2 in 1 groups"),
    ("convolution", ["f32[1,4,8]", "f32[3,2,3]"], {**ONE, "groups": 2}, "filters of weight [3,2,3] must divide into 2"),
    ("convolution", ["f32[1,4,2]", "f32[3,4,3]"], ONE, "a window of 3 must fit"),
    ("convolution", ["f32[1,4]", "f32[3,4]"], ONE, "one to three spatial axes"),
    ("convolution", ["f32[1,4,9]", "f32[3,4,N]"], ONE, "kernel sizes must be known"),
    ("convolution", ["f32[1,4,8]", "f32[3,4,3]"], {**ONE, "pad": (0, 0)}, "pad must be 1 integers"),
    ("channels_last_convolution", ["f32[1,8,3]", "f32[4,2,3]"], ONE, "data [1,3,8] has 3, weight [4,2,3] takes 2"),
    ("channels_last_convolution", ["f32[3]", "f32[4,2,3]"], ONE, "one to three spatial axes"),
    (
        "convolution_data_gradient",
        ["f32[1,3,5]", "f32[3,4,3]"],
        {**ONE, "shape": (1, 4, 8)},
        "the gradient of data [1,4,8] must have shape [1,3,6], got [1,3,5]",
    ),
    (
        "convolution_weight_gradient",
        ["f32[1,4,8]", "f32[1,3,5]"],
        {**ONE, "shape": (3, 4, 3)},
        "the gradient of weight [3,4,3] must have shape [1,3,6], got [1,3,5]",
    ),
    ("recurrence", ["f32[3,2,4]", "f32[4,1]", "f32[2,1]"], {"mode": "lstm"}, "takes 4 operands, got 3"),
    ("recurrence", ["f32[3,2,4]", "f32[4,1]", "f32[2,1]"], {"mode": "rnn"}, "mode must be one of rnn_relu"),
    ("recurrence", ["f32[3,2,4]", "f32[4,4]", "f32[2,1]"], {"mode": "rnn_relu"}, "first state of rnn_relu must have"),
    ("recurrence", ["f32[3,2,4]", "f32[4,4]", "f64[2,4]"], {"mode": "rnn_relu"}, "one element type"),
    ("recurrence", ["f32[3,2,N]", "f32[N,N]", "f32[2,N]"], {"mode": "rnn_relu"}, "for known H, got f32[N,N]"),
    ("recurrence", ["f32[3,2]", "f32[4,4]", "f32[2,4]"], {"mode": "rnn_relu"}, "batch, features], got f32[3,2]"),
    ("recurrence", ["f32[3,2,4]"], {"mode": "gru"}, "takes 4 operands, got 1"),
    ("recurrence", ["f32[1,1,1]"] * 3, {"mode": "rnn_relu", "clip": (0.0, 1.0)}, "only the cell of an lstm"),
    ("recurrence", ["f32[1,1,4]"] * 4, {"mode": "lstm", "clip": (1.0, 0.0)}, "must not be above the upper one"),
    ("recurrence", ["f32[1,1,4]"] * 4, {"mode": "lstm", "clip": (1, 0)}, "clip must be two numbers or None"),
    ("recurrence", ["f32[1,1,4]"] * 4, {"mode": "lstm", "reverse": 1}, "reverse must be a bool, got 1"),
    ("recurrence_gradient", ["f32[3,2,4]", "f32[4,4]", "f32[3,2,1]"], {"mode": "rnn_tanh"}, "must have shape [3,2,4]"),
    ("recurrence_gradient", ["f32[3,2,4]"], {"mode": "lstm"}, "takes 5 operands, got 1"),
    ("attention", ["f32[2,3]", "f32[4,3]"], {"scale": 1.0}, "got 2 operands"),
    ("attention", ["f32[2,3]", "f32[4,5]", "f32[4,6]"], {"scale": 1.0}, "equally many features"),
    ("attention", ["f32[2,3]", "f32[4,3]", "f32[5,6]"], {"scale": 1.0}, "as many values as keys"),
    ("attention", ["f32[2,3]", "f32[4,3]", "f32[4,6]"], {"scale": 1}, "scale must be a float, got 1"),
    ("attention", ["f32[2,3]", "f32[4,3]", "f32[4,6]"], {"scale": 1.0, "offset": 2}, "0 without causal, got 2"),
    ("attention", ["f32[3]", "f32[3]", "f32[3]"], {"scale": 1.0}, "one rank of at least 2"),
    ("attention_gradient", ["f32[2]", "f32[2]", "f32[2,6]"], {"scale": 1.0}, "got 3 operands"),
    (
        "attention_gradient",
        ["f16[2]", "f16[2]", "f16[2,6]", "f16[2,3]", "f16[4,3]", "f16[4,6]"],
        {"scale": 1.0},
        "log_sum_exp must be f32, got f16[2]",
    ),
    ("gather", ["f32[3]", "f32[2]"], {"axis": 0}, "indices must be integers, got f32[2]"),
    ("gather", ["f32[3]", "i32[2]"], {"axis": 1}, "axis must lie in 0..0"),
    ("gather", ["f32[0]", "i32[2]"], {"axis": 0}, "axis 0 of f32[0] must not be empty"),
    ("scatter_add", ["f32[2]", "f32[2]"], {"axis": 0, "size": 3}, "indices must be integers"),
    ("scatter_add", ["i32[2]", "f32[3]"], {"axis": 0, "size": 3}, "must have shape [2], got [3]"),
    ("scatter_add", ["i32[2]", "f32[2]"], {"axis": 0, "size": 0}, "size must not be 0"),
    ("scatter_add", ["i32[2]", "bool[2]"], {"axis": 0, "size": 3}, "must be numbers"),
    ("random_uniform", ["i64[3]"], {"stream": 0, "shape": ()}, "the state must be i64[2], (seed, step), got i64[3]"),
    ("random_uniform", ["i64[2]"], {"stream": -1, "shape": ()}, "stream must be an integer of 32 bits, got -1"),
    ("stop_gradient", [], {}, "takes 1 operand, got 0"),
    ("with_gradient", ["f32[2]", "f32[3]", "f32[2]"], {}, "gradient must have shape [3], got [2]"),
    ("with_gradient", ["f32[2]", "i32[3]", "i32[3]"], {}, "must be floating-point"),
    ("with_gradient", ["f32[2]", "f32[3]", "f32[3]"], {"scaled": True}, "its own gradient) must have shape [3]"),
]  # fmt: skip


def test_every_primitive_has_a_rule_that_can_be_broken() -> None:
    assert {broken[0] for broken in BROKEN} == {declared.name for declared in primitives()}


@pytest.mark.parametrize(
    "broken", BROKEN, ids=lambda broken: f"{broken[0]}({','.join(broken[1])}) {broken[3]}"
)
def test_a_broken_rule_is_stated(broken: Broken) -> None:
    name, operands, attributes, message = broken
    declared = primitive(name)
    with pytest.raises(TypeRuleError, match=re.escape(message)):
        declared.infer(tuple(map(TensorType.parse, operands)), declared.complete(attributes))
    builder = Builder()
    values = [builder.input(f"x{k}", TensorType.parse(text)) for k, text in enumerate(operands)]
    with pytest.raises(GraphcError) as caught:
        builder.emit(name, *values, **attributes)
    assert caught.value.diagnostic.code == "G201"
    assert message in caught.value.diagnostic.message
    assert [operand.type for operand in caught.value.diagnostic.operands] == operands


RESULTS: list[tuple[str, list[str], dict[str, Any], list[str]]] = [
    ("lt", ["f16[N]", "f16[N]"], {}, ["bool[N]"]),
    ("is_nan", ["bf16[2]"], {}, ["bool[2]"]),
    ("where", ["bool[N]", "i8[N]", "i8[N]"], {}, ["i8[N]"]),
    ("broadcast", ["f32[1]"], {"shape": shape("N,4"), "axes": (1,)}, ["f32[N,4]"]),
    ("transpose", ["f32[N,M,3]"], {"axes": (2, 0, 1)}, ["f32[3,N,M]"]),
    ("slice", ["f32[2*N]"], {"start": (N,), "stop": (2 * N,)}, ["f32[N]"]),
    ("pad", ["f32[N]"], {"low": (1,), "high": (N,), "value": 0.0}, ["f32[2*N+1]"]),
    ("concat", ["f32[N]", "f32[M]", "f32[N]"], {"axis": 0}, ["f32[M+2*N]"]),
    ("reshape", ["f32[2*N,M]"], {"shape": shape("N,2*M")}, ["f32[N,2*M]"]),
    ("reduce_sum", ["i8[N,3,M]"], {"axes": (0, 2)}, ["i8[3]"]),
    ("argmax", ["f32[N,3]"], {"axes": (1,)}, ["i64[N]"]),
    ("max_pool", ["f32[N,7]"], LINE, ["f32[N,4]", "u8[N,4]"]),
    (
        "max_pool",
        ["f32[N]"],
        {**LINE, "kernel": (256,), "pad_low": (255,)},
        ["f32[floor(N/2+1/2)+1]", "i32[floor(N/2+1/2)+1]"],
    ),
    ("dot", ["f32[3,N,4]", "f32[3,M,4]"], {"transpose_b": True}, ["f32[3,N,M]"]),
    ("convolution", ["f32[N,4,9]", "f32[6,2,3]"], {**ONE, "stride": (2,), "groups": 2}, ["f32[N,6,4]"]),
    ("gather", ["f32[5,M]", "i32[N,2]"], {"axis": 0}, ["f32[N,2,M]"]),
    ("scatter_add", ["i32[N,2]", "f32[4,N,2]"], {"axis": 1, "size": 5}, ["f32[4,5]"]),
    ("random_uniform", ["i64[2]"], {"stream": 1, "shape": shape("N,2")}, ["f32[N,2]"]),
    ("with_gradient", ["f32[]", "f32[N]", "f32[N]"], {}, ["f32[]"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "operands", "attributes", "expected"), RESULTS)
def test_result_types(
    name: str, operands: list[str], attributes: dict[str, Any], expected: list[str]
) -> None:
    declared = primitive(name)
    results = declared.infer(tuple(map(TensorType.parse, operands)), declared.complete(attributes))
    assert [str(result) for result in results] == expected


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rules_do_not_depend_on_the_form_of_dimensions(case: Any) -> None:
    # Rules see whatever a text or a trace wrote: results must be canonical, whole numbers int.
    for value in case.graph().nodes[0].outputs:
        assert all(isinstance(dim, int) or not dim.is_Integer for dim in value.type.shape)
