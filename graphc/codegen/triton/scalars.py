"""Scalar operations as Triton expressions, and the helper functions that they need.

Triton's interpreter has no libdevice, so what `tl` lacks is written out in `templates/triton/functions/`, one file a
function, accurate to a few units in the last place; a generated module holds those that it uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from graphc.codegen.triton.expressions import TRITON_TYPES, as_operand, literal_text, without_parentheses
from graphc.ir.kernel import Reduction
from graphc.types import DType

Form: TypeAlias = "Callable[[Sequence[str], DType], str]"
"""(operands, each fit to stand beside an operator; their dtype) to an expression."""


def _infix(symbol: str) -> Form:
    return lambda operands, dtype: f"{operands[0]} {symbol} {operands[1]}"


def _extreme(name: str) -> Form:
    """tl.maximum and tl.minimum drop NaN unless told to keep it; truth values have none of the two."""

    def form(operands: Sequence[str], dtype: DType) -> str:
        a, b = operands
        if dtype is DType.BOOL:
            return f"{a} | {b}" if name == "maximum" else f"{a} & {b}"
        keep = ", propagate_nan=tl.PropagateNan.ALL" if dtype.is_float else ""
        return f"tl.{name}({a}, {b}{keep})"

    return form


def _divide(operands: Sequence[str], dtype: DType) -> str:
    return f"{operands[0]} / {operands[1]}" if dtype.is_float else f"divide({operands[0]}, {operands[1]})"


def _negate(operands: Sequence[str], dtype: DType) -> str:
    # Triton 3.6 takes -x for 0 - x, which has another sign at 0.
    return f"{operands[0]} * -1.0" if dtype.is_float else f"0 - {operands[0]}"


def _modulo(operands: Sequence[str], dtype: DType) -> str:
    return f"{'modulo' if dtype.is_float else 'integer_modulo'}({operands[0]}, {operands[1]})"


def _absolute(operands: Sequence[str], dtype: DType) -> str:
    return operands[0] if dtype in (DType.U8, DType.BOOL) else f"tl.abs({operands[0]})"


_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
    "logical_and": "&", "logical_or": "|", "logical_xor": "^",
}  # fmt: skip
_TRITON = ("floor", "ceil", "exp", "log", "sqrt", "rsqrt", "sin", "cos", "erf")
_HELPERS = {
    "round": "round_half_even", "trunc": "truncate", "sign": "sign", "expm1": "expm1", "log1p": "log1p", "cbrt": "cbrt",
    "tan": "tangent", "asin": "arc_sine", "acos": "arc_cosine", "atan": "arc_tangent", "sinh": "sinh", "cosh": "cosh",
    "tanh": "tanh", "asinh": "asinh", "acosh": "acosh", "atanh": "atanh", "pow": "power", "atan2": "arc_tangent2",
    "sigmoid": "sigmoid",
}  # fmt: skip


def _call(name: str) -> Form:
    return lambda operands, dtype: f"{name}({', '.join(operands)})"


FORMS: Mapping[str, Form] = {
    **{name: _infix(symbol) for name, symbol in _INFIX.items()},
    **{name: _call(f"tl.{name}") for name in _TRITON},
    **{name: _call(helper) for name, helper in _HELPERS.items()},
    "abs": _absolute,
    "neg": _negate,
    "div": _divide,
    "mod": _modulo,
    "maximum": _extreme("maximum"),
    "minimum": _extreme("minimum"),
    "logical_not": lambda operands, dtype: f"{operands[0]} == False",
    "is_nan": lambda operands, dtype: f"{operands[0]} != {operands[0]}",
    "where": lambda operands, dtype: f"tl.where({', '.join(operands)})",
}

EXACT_WITH_LITERALS = ("add", "sub", "mul", "div", "where")
"""Operations that take a literal in the type of the operand beside it; others round it to f32 in Triton 3.6."""

REQUIRES: Mapping[str, tuple[str, ...]] = {
    "sinh": ("expm1",),
    "tanh": ("expm1",),
    "asinh": ("log1p",),
    "acosh": ("log1p",),
    "atanh": ("log1p",),
    "arc_sine": ("arc_tangent",),
    "arc_cosine": ("arc_tangent",),
    "arc_tangent2": ("arc_tangent",),
    "power": ("truncate",),
}
"""Helper functions that a helper function calls."""

HELPER_NAMES = frozenset(_HELPERS.values()) | {
    "divide", "modulo", "integer_modulo", "multiply", "greater", "lesser", "first_greatest", "first_least", "uniform",
}  # fmt: skip
"""The names of all helper functions, which no variable of a kernel may take."""

CALLS: Mapping[str, str] = _HELPERS
"""The helper function of an operation that has one for every dtype."""


def helpers_of(operation: str, dtype: DType) -> tuple[str, ...]:
    """The helper functions that the expression of an operation on that dtype calls directly."""
    if operation == "div" and not dtype.is_float:
        return ("divide",)
    if operation == "mod":
        return ("modulo" if dtype.is_float else "integer_modulo",)
    return (CALLS[operation],) if operation in CALLS else ()


def with_required(helpers: set[str]) -> tuple[str, ...]:
    """The helpers with all that they call, callees first, in a fixed order."""
    ordered: dict[str, None] = {}

    def visit(name: str) -> None:
        for callee in REQUIRES.get(name, ()):
            visit(callee)
        ordered.setdefault(name)

    for name in sorted(helpers):
        visit(name)
    return tuple(ordered)


# Reductions

_MINIMUM = {DType.I8: -(2**7), DType.U8: 0, DType.I16: -(2**15), DType.I32: -(2**31), DType.I64: -(2**63)}
_MAXIMUM = {
    DType.I8: 2**7 - 1,
    DType.U8: 255,
    DType.I16: 2**15 - 1,
    DType.I32: 2**31 - 1,
    DType.I64: 2**63 - 1,
}

NO_POSITION = 2**31 - 1
"""A position in the reduction axes beyond all others."""


def identity_text(operation: Reduction, dtype: DType) -> str:
    """The neutral element of a reduction, as a literal."""
    match operation:
        case Reduction.SUM:
            return literal_text(0, dtype)
        case Reduction.PROD:
            return literal_text(1, dtype)
        case Reduction.ANY:
            return "False"
        case Reduction.MAX | Reduction.ARGMAX:
            if dtype is DType.BOOL:
                return "False"
            return 'float("-inf")' if dtype.is_float else str(_MINIMUM[dtype])
        case Reduction.MIN | Reduction.ARGMIN:
            if dtype is DType.BOOL:
                return "True"
            return 'float("inf")' if dtype.is_float else str(_MAXIMUM[dtype])


def combine_text(operation: Reduction, dtype: DType, a: str, b: str) -> str:
    """One step of a reduction, elementwise (not for positions)."""
    name = {
        Reduction.SUM: "add", Reduction.PROD: "mul", Reduction.MAX: "maximum", Reduction.MIN: "minimum",
        Reduction.ANY: "logical_or",
    }[operation]  # fmt: skip
    return FORMS[name]((a, b), dtype)


def reduce_text(operation: Reduction, dtype: DType, value: str, axis: int) -> tuple[str, str | None]:
    """(a whole reduction of `value` along an axis of the tile, the helper function that it calls)."""
    target = TRITON_TYPES[dtype]
    value = without_parentheses(value)
    # tl.sum and tl.max widen small integers to 32 bits.
    back = "" if dtype.is_float or dtype in (DType.I32, DType.I64) else f".to({target})"
    match operation:
        case Reduction.SUM:
            return f"tl.sum({value}, axis={axis}){back}", None
        case Reduction.PROD:
            return f"tl.reduce({value}, {axis}, multiply)", "multiply"
        case Reduction.ANY:
            return f"tl.max({as_operand(value)}.to(tl.int32), axis={axis}) != 0", None
        case Reduction.MAX | Reduction.MIN:
            name = operation.value
            if dtype.is_float:
                helper = "greater" if operation is Reduction.MAX else "lesser"
                return f"tl.reduce({value}, {axis}, {helper})", helper
            if dtype is DType.BOOL:
                return f"tl.{name}({as_operand(value)}.to(tl.int32), axis={axis}) != 0", None
            return f"tl.{name}({value}, axis={axis}){back}", None
        case _:
            raise ValueError(f"{operation} is no reduction of values alone")
