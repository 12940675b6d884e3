"""Cases for every primitive: operand types with the range of their values, and attributes. N is 3, M is 2."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import torch

from graphc.ir.graph import Graph
from graphc.primitives.builder import Builder
from graphc.types import DType, TensorType, parse_dim, symbol

SIZES = {"N": 3, "M": 2}
N, M = symbol("N"), symbol("M")


@dataclass(frozen=True)
class Operand:
    """An operand's type, and the range of its values."""

    type: TensorType
    low: float
    high: float


@dataclass(frozen=True)
class Case:
    primitive: str
    operands: tuple[Operand, ...]
    attributes: dict[str, Any]

    def __str__(self) -> str:
        parts = [str(operand.type) for operand in self.operands]
        return f"{self.primitive}({', '.join(parts)}; {', '.join(f'{k}={v}' for k, v in self.attributes.items())})"

    def graph(self) -> Graph:
        """The primitive applied to inputs x0, x1 ...; outputs y0, y1 ..."""
        builder = Builder(self.primitive)
        operands = [builder.input(f"x{k}", operand.type) for k, operand in enumerate(self.operands)]
        # Gives every symbolic dimension of the attributes its size.
        builder.input("sizes", TensorType(DType.BOOL, (N, M)))
        results = builder.emit_all(self.primitive, *operands, **self.attributes)
        return builder.finish({f"y{k}": value for k, value in enumerate(results)})

    def inputs(self) -> dict[str, torch.Tensor]:
        """Values in each operand's range, floats in float64; the same in every run."""
        generator = torch.Generator().manual_seed(zlib.crc32(str(self).encode()))
        values = {f"x{k}": _values(operand, generator) for k, operand in enumerate(self.operands)}
        return values | {"sizes": torch.zeros(SIZES["N"], SIZES["M"], dtype=torch.bool)}

    def differentiable(self) -> list[str]:
        """Names of the floating-point inputs."""
        return [f"x{k}" for k, operand in enumerate(self.operands) if operand.type.dtype.is_float]


def _values(operand: Operand, generator: torch.Generator) -> torch.Tensor:
    shape, dtype = operand.type.concrete_shape(SIZES), operand.type.dtype
    if dtype is DType.BOOL:
        return torch.randint(0, 2, shape, generator=generator, dtype=torch.bool)
    if dtype.is_float:
        unit = torch.rand(shape, generator=generator, dtype=torch.float64)
        return operand.low + (operand.high - operand.low) * unit
    return torch.randint(int(operand.low), int(operand.high) + 1, shape, generator=generator).to(dtype.torch)


def case(primitive: str, *operands: str | tuple[str, float, float], **attributes: Any) -> Case:
    """Operands are types, with the range of their values unless that is -2 to 2 (unsigned: 0 to 3)."""
    made = []
    for operand in operands:
        text, low, high = (operand, -2.0, 2.0) if isinstance(operand, str) else operand
        type = TensorType.parse(text)
        made.append(
            Operand(type, *((0, 3) if type.dtype is DType.U8 and isinstance(operand, str) else (low, high)))
        )
    return Case(primitive, tuple(made), attributes)


def shape(text: str) -> tuple[Any, ...]:
    return tuple(parse_dim(part) for part in text.split(",")) if text else ()


SHAPES = ("[7]", "[]", "[1,5]", "[0,3]", "[N,2]")

UNARY = {
    "neg": (-2, 2), "abs": (-2, 2), "sign": (-2, 2), "floor": (-3, 3), "ceil": (-3, 3), "round": (-3, 3),
    "trunc": (-3, 3),
    "exp": (-2, 2), "expm1": (-2, 2), "log": (0.1, 4), "log1p": (-0.9, 3), "sqrt": (0.1, 4), "rsqrt": (0.2, 4),
    "cbrt": (0.2, 3), "sin": (-4, 4), "cos": (-4, 4), "tan": (-1.2, 1.2), "asin": (-0.9, 0.9), "acos": (-0.9, 0.9),
    "atan": (-3, 3), "sinh": (-2, 2), "cosh": (-2, 2), "tanh": (-2, 2), "asinh": (-3, 3), "acosh": (1.2, 4),
    "atanh": (-0.9, 0.9), "erf": (-2, 2), "sigmoid": (-4, 4), "is_nan": (-1, 1),
}  # fmt: skip
BINARY = {
    "add": (-2, 2), "sub": (-2, 2), "mul": (-2, 2), "div": (0.3, 2), "pow": (0.3, 2), "maximum": (-2, 2),
    "minimum": (-2, 2), "mod": (0.6, 2), "atan2": (0.3, 2),
}  # fmt: skip
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
LOGIC = ("logical_and", "logical_or", "logical_xor")
POOL = {"kernel": (2, 3), "stride": (2, 1), "pad_low": (1, 0), "pad_high": (0, 1)}
LINE = {"kernel": (3,), "stride": (2,), "pad_low": (1,), "pad_high": (2,)}
IMAGE = {"kernel": (3, 2, 1), "stride": (2, 1, 1), "pad_low": (1, 1, 0), "pad_high": (1, 0, 0)}
SQUARE = {"stride": (2, 1), "pad": (1, 0), "dilate": (1, 2), "groups": 2}


def _elementwise() -> list[Case]:
    cases = [case(name, (f"f32{dims}", *span)) for name, span in UNARY.items() for dims in SHAPES]
    cases += [case(name, f"{dtype}[5]") for name in ("neg", "abs", "sign") for dtype in ("i32", "i64")]
    cases += [
        case(name, (f"f32{dims}", *span), (f"f32{dims}", *span))
        for name, span in BINARY.items()
        for dims in SHAPES
    ]
    integer = ("add", "sub", "mul", "div", "maximum", "minimum", "mod")
    cases += [
        case(name, (f"{t}[17]", -9, 9), (f"{t}[17]", -4, 4)) for name in integer for t in ("i32", "i64", "i8")
    ]
    cases += [
        case(name, f"{t}{dims}", f"{t}{dims}")
        for name in COMPARISONS
        for t in ("f32", "i32")
        for dims in SHAPES
    ]
    cases += [case(name, "bool[7]", "bool[7]") for name in (*LOGIC, "eq", "ne")] + [
        case("logical_not", "bool[N,5]")
    ]
    cases += [case("where", f"bool{d}", f"f32{d}", f"f32{d}") for d in SHAPES] + [
        case("where", "bool[3]", "i8[3]", "i8[3]")
    ]
    kinds = ("f32", "f64", "f16", "bf16", "i32", "i8", "bool")
    return cases + [case("cast", f"{a}[2,3]", dtype=DType(c)) for a in kinds for c in kinds]


def _views() -> list[Case]:
    return [
        case("broadcast", "f32[3]", shape=shape("2,3"), axes=(1,)),
        case("broadcast", "f32[1,3]", shape=shape("4,5,3"), axes=(1, 2)),
        case("broadcast", "f32[]", shape=shape("2,2"), axes=()),
        case("broadcast", "f32[N,1]", shape=shape("N,2,M"), axes=(0, 2)),
        case("broadcast", "f32[1]", shape=shape("0"), axes=(0,)),
        case("broadcast", "bool[2]", shape=shape("2,3"), axes=(0,)),
        case("transpose", "f32[2,3,5]", axes=(2, 0, 1)),
        case("transpose", "f32[N,M]", axes=(1, 0)),
        case("transpose", "i64[1,0,4]", axes=(1, 0, 2)),
        case("transpose", "f32[]", axes=()),
        case("slice", "f32[5,7]", start=(1, 0), stop=(4, 7)),
        case("slice", "f32[N,4]", start=(0, 2), stop=(N, 3)),
        case("slice", "f32[2*N]", start=(N,), stop=(2 * N,)),
        case("slice", "i32[3]", start=(1,), stop=(1,)),
        case("pad", "f32[2,3]", low=(1, 0), high=(0, 2), value=-1.5),
        case("pad", "f32[N]", low=(N,), high=(1,), value=0.0),
        case("pad", "f32[N,0,18]", low=(1, 2, 0), high=(0, 1, 0), value=2.0),
        case("pad", "f64[3,33]", low=(1, 0), high=(2, 0), value=-0.0),
        case("pad", "i8[0]", low=(2,), high=(1,), value=7),
        case("pad", "bool[2]", low=(0,), high=(1,), value=True),
        case("reverse", "f32[3,4]", axes=(1,)),
        case("reverse", "f32[N,2,1]", axes=(0, 2)),
        case("reverse", "u8[0]", axes=(0,)),
        case("concat", "f32[2,3]", "f32[1,3]", "f32[4,3]", axis=0),
        case("concat", "f32[N,2]", "f32[N,M]", axis=1),
        case("concat", "f32[N]", "f32[1]", "f32[2*N]", axis=0),
        case("concat", "f32[2,0]", "f32[2,3]", axis=1),
        case("concat", "bool[3]", axis=0),
        case("reshape", "f32[2,6]", shape=shape("3,4")),
        case("reshape", "f32[N,2,M]", shape=shape("2*N*M")),
        case("reshape", "f32[2*N]", shape=shape("2,N")),
        case("reshape", "i32[0,3]", shape=shape("5,0")),
        case("reshape", "f32[1]", shape=shape("")),
    ]


def _constants() -> list[Case]:
    return [
        case("full", value=1.5, dtype=DType.F32, shape=shape("2,N")),
        case("full", value=-3, dtype=DType.I8, shape=shape("")),
        case("full", value=True, dtype=DType.BOOL, shape=shape("0,2")),
        case("iota", axis=1, dtype=DType.I64, shape=shape("2,5,3")),
        case("iota", axis=0, dtype=DType.F32, shape=shape("N,1")),
        case("dim", value=2 * N + 1, dtype=DType.F32),
        case("dim", value=N * M, dtype=DType.I64),
        case("random_uniform", ("i64[2]", -9, 9), stream=3, shape=shape("N,5,7")),
        case("random_uniform", ("i64[2]", -9, 9), stream=2**32 - 1, shape=shape("0")),
    ]


def _reductions() -> list[Case]:
    shapes = (
        ("[5]", (0,)),
        ("[2,3,4]", (1,)),
        ("[2,3,4]", (0, 2)),
        ("[1,7]", (0, 1)),
        ("[N,2]", (0,)),
        ("[M,N,2]", (0, 2)),
    )
    cases = []
    for dims, axes in (*shapes, ("[0,3]", (0,)), ("[3,0]", (0,))):
        numbers = ("reduce_sum", "reduce_prod", "reduce_max", "reduce_min")
        cases += [case(name, (f"f32{dims}", 0.5, 2), axes=axes) for name in numbers]
        cases += [case(name, f"i32{dims}", axes=axes) for name in numbers]
        cases += [case("reduce_any", f"bool{dims}", axes=axes)]
    for dims, axes in (("[5]", (0,)), ("[2,3,4]", (1,)), ("[N,2]", (0,)), ("[3,1]", (1,)), ("[0,3]", (1,))):
        cases += [case(name, f"{t}{dims}", axes=axes) for name in ("argmax", "argmin") for t in ("f32", "i8")]
    return cases


def _windows() -> list[Case]:
    return [
        case("max_pool", "f32[2,5,7]", **POOL),
        case("max_pool", "f32[N,2,7]", **LINE),
        case("max_pool", "i32[1,4,4]", **POOL),
        case("max_pool", "f32[0,4,4]", **POOL),
        case("max_pool", "f32[1,17,16]", kernel=(16, 16), stride=(1, 1), pad_low=(0, 0), pad_high=(0, 0)),
        case("max_pool", "f32[N,5,4,19]", **IMAGE),
        case("window_sum", "f64[2,3,M,17]", **IMAGE),
        case("window_gather", "f32[2,5,7]", ("u8[2,3,6]", 0, 5), **POOL),
        case("window_gather", "f32[N,2,7]", ("u8[N,2,4]", 0, 2), **LINE),
        case("window_scatter", "f32[2,3,6]", ("u8[2,3,6]", 0, 5), shape=shape("2,5,7"), **POOL),
        case("window_scatter", "f32[N,2,4]", ("u8[N,2,4]", 0, 2), shape=shape("N,2,7"), **LINE),
        case("window_scatter", "f32[N,2,4]", ("u8[N,2,4]", 0, 2), shape=shape("N,2,6"), **LINE),
        case("window_sum", "f32[2,5,7]", **POOL),
        case("window_sum", "f32[2,N,5]", kernel=(1, 2), stride=(2, 3), pad_low=(0, 1), pad_high=(1, 0)),
        case("window_sum", "i64[7]", **LINE),
        case("window_sum_transpose", "f32[2,3,6]", shape=shape("2,5,7"), **POOL),
        case("window_sum_transpose", "f32[N,4]", shape=shape("N,6"), **LINE),
    ]


def _contractions() -> list[Case]:
    dots = []
    for a in (False, True):
        for c in (False, True):
            left, right = ("[5,3]" if a else "[3,5]"), ("[2,5]" if c else "[5,2]")
            dots.append(case("dot", f"f32{left}", f"f32{right}", transpose_a=a, transpose_b=c))
            left, right = ("[4,N,1,3]" if a else "[4,N,3,1]"), ("[4,N,M,1]" if c else "[4,N,1,M]")
            dots.append(case("dot", f"f32{left}", f"f32{right}", transpose_a=a, transpose_b=c))
    plain = {"stride": (1,), "pad": (2,), "dilate": (1,), "groups": 1}
    deep = {"stride": (1, 2, 1), "pad": (0, 1, 1), "dilate": (1, 1, 1), "groups": 1}
    return [
        *dots,
        case("dot", "f32[2,0]", "f32[0,3]"),
        case("dot", "f32[0,2]", "f32[2,3]"),
        case("dot", ("i8[3,17]", -128, 127), ("i8[5,17]", -128, 127), transpose_b=True),
        case("dot", ("u8[9,N]", 0, 255), ("i8[9,20]", -128, 127), transpose_a=True),
        case("dot", ("i8[2,3,5]", -128, 127), ("u8[2,5,4]", 0, 255)),
        case("dot", ("u8[2,7]", 0, 255), ("u8[7,33]", 0, 255)),
        case("convolution", "f32[2,4,5,7]", "f32[6,2,2,3]", **SQUARE),
        case("convolution", "f32[N,2,6]", "f32[3,2,4]", **plain),
        case("convolution", "f32[1,1,2,3,3]", "f32[2,1,2,2,3]", **deep),
        case("convolution", "f32[N,2,M,5]", "f32[1,2,1,3]", stride=(1, 2), pad=(0, 1), dilate=(1, 1)),
        *_channels_last(),
        case("convolution_data_gradient", "f32[2,6,3,3]", "f32[6,2,2,3]", shape=shape("2,4,5,7"), **SQUARE),
        case("convolution_data_gradient", "f32[N,3,7]", "f32[3,2,4]", shape=shape("N,2,6"), **plain),
        case(
            "convolution_data_gradient", "f32[1,2,1,2,3]", "f32[2,1,2,2,3]", shape=shape("1,1,2,3,3"), **deep
        ),
        case("convolution_weight_gradient", "f32[2,4,5,7]", "f32[2,6,3,3]", shape=shape("6,2,2,3"), **SQUARE),
        case("convolution_weight_gradient", "f32[N,2,6]", "f32[N,3,7]", shape=shape("3,2,4"), **plain),
        case(
            "convolution_weight_gradient",
            "f32[1,1,2,3,3]",
            "f32[1,2,1,2,3]",
            shape=shape("2,1,2,2,3"),
            **deep,
        ),
    ]


def _channels_last() -> list[Case]:
    """Images of one pixel, primes, symbolic sizes, one to three spatial axes; padded, strided, dilated, plain."""
    ones = {"stride": (1, 1), "pad": (0, 0), "dilate": (1, 1)}
    return [
        case("channels_last_convolution", *map("f32[{}]".format, shapes), **{**ones, **steps})
        for shapes, steps in [
            (("2,5,7,4", "6,4,2,3"), {"stride": (2, 3), "pad": (1, 2), "dilate": (2, 1)}),
            (("N,4,4,3", "17,3,3,3"), {"pad": (1, 1)}),
            (("2,3,5,7", "5,7,1,1"), {}),
            (("1,7,7,5", "33,5,1,1"), {"stride": (2, 2)}),
            (("N,6,2", "3,2,4"), {"stride": (1,), "pad": (2,), "dilate": (1,)}),
            (("1,2,3,3,2", "2,2,2,2,3"), {"stride": (1, 2, 1), "pad": (0, 1, 1), "dilate": (1, 1, 1)}),
        ]
    ]


def _attention() -> list[Case]:
    def both(
        q: str, k: str, v: str, *bias: str, dtype: str = "f32", state: str = "", **attributes: Any
    ) -> list[Case]:
        """The primitive and its gradient on operands of these shapes."""
        *lead, queries, _ = q.split(",")
        row = ",".join([*lead, queries])
        operands = [f"{dtype}[{text}]" for text in (q, k, v, *bias)]
        operands += [f"i64[{state}]"] if state else []
        d_out = f"{dtype}[{row},{v.split(',')[-1]}]"
        wide = "f64" if dtype == "f64" else "f32"
        rows = ((f"{wide}[{row}]", 1.0, 3.0), (f"{wide}[{row}]", -1.0, 1.0))
        return [
            case("attention", *operands, **attributes),
            case("attention_gradient", *rows, d_out, *operands, **attributes),
        ]

    return [
        *both("2,5,4", "2,7,4", "2,7,3", scale=0.5),
        *both("N,3,M,1", "N,3,5,1", "N,3,5,2", "N,3,M,5", scale=1.0),
        *both("1,1,3", "1,1,3", "1,1,1", scale=-0.75, causal=True),
        *both("2,M,5", "2,N,5", "2,N,2", scale=0.5, causal=True, offset=N - M),
        *both("7,2", "4,2", "4,5", "7,4", dtype="f64", scale=0.5, causal=True),
        *both("1,5,4", "1,7,4", "1,7,3", state="1,2", scale=0.5, keep=0.5, stream=9),
        *both("1,M,2", "1,N,2", "1,N,5", "1,M,N", state="1,2", scale=1.0, causal=True, keep=0.8),
    ]


def _recurrences() -> list[Case]:
    """T, N and H by mode: a prime number of units, one unit, one step, one sequence, a symbolic batch."""
    result = []
    sizes = (
        (3, "2", 5, {}), (4, "1", 3, {"reverse": True}), (1, "N", 1, {}), (2, "N", 2, {"reverse": True}),
    )  # fmt: skip
    for mode, gates in (("lstm", 4), ("gru", 3), ("rnn_relu", 1), ("rnn_tanh", 1)):
        for steps, batch, units, attributes in sizes:
            state, sequence = f"f32[{batch},{units}]", f"f32[{steps},{batch},{units}]"
            weight = (f"f32[{gates * units},{units}]", -0.7, 0.7)
            saved = (f"f32[{steps},{batch},{4 * units}]", 0.1, 0.9)
            rest = {"lstm": [state], "gru": [f"f32[{units}]"]}.get(mode, [])
            back: dict[str, list[Any]] = {
                "lstm": [state, sequence, saved, sequence],
                "gru": [state, sequence, saved],
            }
            chosen: dict[str, Any] = {"mode": mode, **attributes}
            if mode == "lstm" and attributes:
                chosen["clip"] = (-0.5, 0.75)
            x = f"f32[{steps},{batch},{gates * units}]"
            result.append(case("recurrence", x, weight, state, *rest, **chosen))
            result.append(
                case("recurrence_gradient", sequence, weight, *back.get(mode, [sequence]), **chosen)
            )
    cells = ("f32[2,3,2]", "f32[8,2]", "f32[3,2]", "f32[2,3,2]", "f32[2,3,8]")
    return [*result, case("recurrence_gradient", *cells, mode="lstm")]


def _others() -> list[Case]:
    return [
        case("gather", "f32[5,3]", ("i64[4]", -2, 7), axis=0),
        case("gather", "f32[2,5,3]", ("i32[N,2]", 0, 4), axis=1),
        case("gather", "f32[N,4]", ("u8[3]", 0, 9), axis=0),
        case("gather", "bool[4]", ("i64[]", 0, 3), axis=0),
        case("gather", "f32[3,2]", "i64[0]", axis=1),
        case("scatter_add", ("i64[4]", -2, 7), "f32[4,3]", axis=0, size=5),
        case("scatter_add", ("i32[N,2]", 0, 4), "f32[2,N,2,3]", axis=1, size=5),
        case("scatter_add", ("i32[3]", 0, 9), "f32[2,3]", axis=1, size=N),
        case("scatter_add", ("i64[]", 0, 3), "i32[2]", axis=1, size=4),
        case("scatter_add", "i64[0]", "f32[0,2]", axis=0, size=3),
        case("stop_gradient", "f32[N,2]"),
        case("with_gradient", "f32[N,2]", "f32[N,2]", "f32[N,2]", scaled=True),
        case("with_gradient", "f32[3]", "f32[N,2]", "f32[N,2]", scaled=False),
    ]


CASES = [
    *_elementwise(),
    *_views(),
    *_constants(),
    *_reductions(),
    *_windows(),
    *_contractions(),
    *_attention(),
    *_recurrences(),
    *_others(),
]
