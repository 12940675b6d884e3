"""Scalars, dimensions and index expressions as C++ text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphc.ir.kernel import Affine, Guard, Literal, Reduction
from graphc.types import Dim, DType

if TYPE_CHECKING:
    import sympy

TYPES: Mapping[DType, str] = {
    DType.F32: "float", DType.F64: "double", DType.F16: "gc_f16", DType.BF16: "gc_bf16", DType.I8: "int8_t",
    DType.U8: "uint8_t", DType.I16: "int16_t", DType.I32: "int32_t", DType.I64: "int64_t", DType.BOOL: "bool",
}  # fmt: skip

# In arrays of lanes a bool takes four bytes: loops that mix one-byte and four-byte arrays do not vectorise.
LANE_TYPES: Mapping[DType, str] = {**TYPES, DType.BOOL: "int32_t"}

# In memory a bool is a byte that is compared with 0: loads of C++'s bool do not vectorise.
MEMORY_TYPES: Mapping[DType, str] = {**TYPES, DType.BOOL: "uint8_t"}

_LARGEST_F32 = 3.4028235677973366e38  # where rounding to f32 turns to infinity


@dataclass(frozen=True, slots=True)
class Operation:
    """How a scalar operation is written, for floats and for integers, and its cost in vector additions."""

    floating: str
    integer: str = ""
    cost: float = 1.0

    def text(self, dtype: DType) -> str:
        return self.floating if dtype.is_float or not self.integer else self.integer


def _call(name: str, cost: float, integer: str = "") -> Operation:
    return Operation(f"gc_{name}({{0}})", integer, cost)


# Keyed by the elementwise primitive's name; the operands' type chooses the column.
OPERATIONS: Mapping[str, Operation] = {
    "add": Operation("{0} + {1}", "gc_wrap_add({0}, {1})"),
    "sub": Operation("{0} - {1}", "gc_wrap_sub({0}, {1})"),
    "mul": Operation("{0} * {1}", "gc_wrap_mul({0}, {1})"),
    "div": Operation("{0} / {1}", "gc_integer_div({0}, {1})", 6),
    "mod": Operation("gc_mod({0}, {1})", "gc_integer_mod({0}, {1})", 10),
    "pow": Operation("gc_pow({0}, {1})", "gc_integer_pow({0}, {1})", 40),
    "atan2": Operation("gc_atan2({0}, {1})", cost=30),
    "maximum": Operation("gc_max({0}, {1})", cost=2),
    "minimum": Operation("gc_min({0}, {1})", cost=2),
    "eq": Operation("{0} == {1}"),
    "ne": Operation("{0} != {1}"),
    "lt": Operation("{0} < {1}"),
    "le": Operation("{0} <= {1}"),
    "gt": Operation("{0} > {1}"),
    "ge": Operation("{0} >= {1}"),
    "logical_and": Operation("({0} != 0) & ({1} != 0)"),
    "logical_or": Operation("({0} != 0) | ({1} != 0)"),
    "logical_xor": Operation("({0} != 0) != ({1} != 0)"),
    "logical_not": Operation("{0} == 0"),
    "is_nan": Operation("{0} != {0}"),
    "where": Operation("{0} ? {1} : {2}"),
    "neg": Operation("-{0}", "gc_wrap_neg({0})"),
    "abs": _call("fabs", 1, "gc_integer_abs({0})"),
    "sign": _call("sign", 3),
    "floor": _call("floor", 1, "{0}"),
    "ceil": _call("ceil", 1, "{0}"),
    "round": _call("rint", 1, "{0}"),
    "trunc": _call("trunc", 1, "{0}"),
    "sqrt": _call("sqrt", 6),
    "rsqrt": _call("rsqrt", 12),
    "cbrt": _call("cbrt", 30),
    "exp": _call("exp", 14),
    "expm1": _call("expm1", 16),
    "log": _call("log", 18),
    "log1p": _call("log1p", 20),
    "sin": _call("sin", 30),
    "cos": _call("cos", 30),
    "tan": _call("tan", 40),
    "asin": _call("asin", 30),
    "acos": _call("acos", 30),
    "atan": _call("atan", 30),
    "sinh": _call("sinh", 40),
    "cosh": _call("cosh", 40),
    "tanh": _call("tanh", 20),
    "asinh": _call("asinh", 40),
    "acosh": _call("acosh", 40),
    "atanh": _call("atanh", 40),
    "erf": _call("erf", 24),
    "sigmoid": _call("sigmoid", 20),
}


def operation_text(operation: str, operand: DType, arguments: Sequence[str]) -> str:
    """The expression of a scalar operation on operands of that type (the last operand's, for where)."""
    return OPERATIONS[operation].text(operand).format(*arguments)


def cast_text(source: DType, target: DType, argument: str) -> str:
    """A conversion; 16-bit floats go through f32."""
    if source is target:
        return argument
    if source in (DType.F16, DType.BF16):
        return cast_text(DType.F32, target, f"gc_to_f32({argument})")
    if target is DType.BOOL:
        return f"({argument} != 0)"
    if source is DType.BOOL and target.is_float:
        # Written as a choice, which compilers vectorise; the conversion of a bool they do not.
        return cast_text(DType.F32, target, f"({argument} ? 1.0f : 0.0f)")
    if target in (DType.F16, DType.BF16):
        return f"gc_to_{target.value}({cast_text(source, DType.F32, argument)})"
    return f"({TYPES[target]})({argument})"


def literal(value: Literal, dtype: DType) -> str:
    """A constant of that type, exact."""
    if dtype is DType.BOOL:
        return "true" if value else "false"
    if dtype in (DType.F16, DType.BF16):
        return f"gc_to_{dtype.value}({literal(value, DType.F32)})"
    if dtype.is_float:
        number = float(value)
        if math.isnan(number):
            return f"({TYPES[dtype]})GC_NAN"
        if math.isinf(number) or (dtype is DType.F32 and abs(number) >= _LARGEST_F32):
            return f"{'-' if number < 0 else ''}({TYPES[dtype]})GC_INFINITY"
        return f"{number!r}{'f' if dtype is DType.F32 else ''}"
    whole = int(value)
    if dtype is DType.I64:
        return "INT64_MIN" if whole == -(2**63) else f"INT64_C({whole})"
    return f"({TYPES[dtype]}){whole}" if dtype is not DType.I32 else str(whole)


@dataclass(frozen=True, slots=True)
class Fold:
    """How a reduction starts and joins two partial results."""

    identity: str
    join: str


def fold(operation: Reduction, dtype: DType) -> Fold:
    """The identity and the joining expression of {0} (so far) and {1} (next)."""
    c = TYPES[dtype]
    lowest = f"-({c})GC_INFINITY" if dtype.is_float else f"gc_lowest<{c}>()"
    highest = f"({c})GC_INFINITY" if dtype.is_float else f"gc_highest<{c}>()"
    match operation:
        case Reduction.SUM:
            return Fold(literal(0, dtype), operation_text("add", dtype, ("{0}", "{1}")))
        case Reduction.PROD:
            return Fold(literal(1, dtype), operation_text("mul", dtype, ("{0}", "{1}")))
        case Reduction.MAX | Reduction.ARGMAX:
            return Fold(lowest, "gc_max({1}, {0})")
        case Reduction.MIN | Reduction.ARGMIN:
            return Fold(highest, "gc_min({1}, {0})")
        case Reduction.ANY:
            return Fold(literal(0, dtype), "({0} | {1})")


def dim_text(dim: Dim) -> str:
    """A dimension as an int64_t expression over the kernel's size parameters."""
    return str(dim) if isinstance(dim, int) else _sympy_text(dim)


def dim_factor(dim: Dim) -> str:
    """The same, in parentheses where it is a sum."""
    text = dim_text(dim)
    return text if re.fullmatch(r"-?\w+|\w+\(.*\)", text) and text.count("(") <= 1 else f"({text})"


def _sympy_text(expression: Any) -> str:
    import sympy

    if expression.is_Integer or expression.is_Symbol:
        return str(expression)
    if isinstance(expression, sympy.floor):
        numerator, denominator = sympy.fraction(sympy.together(expression.args[0]))
        return f"gc_floor_div({_sympy_text(numerator)}, {_sympy_text(denominator)})"
    if isinstance(expression, sympy.ceiling):
        numerator, denominator = sympy.fraction(sympy.together(expression.args[0]))
        return f"gc_ceil_div({_sympy_text(numerator)}, {_sympy_text(denominator)})"
    if isinstance(expression, (sympy.Max, sympy.Min)):
        name = "gc_max_of" if isinstance(expression, sympy.Max) else "gc_min_of"
        ordered = sorted(expression.args, key=str)
        text = _sympy_text(ordered[0])
        for argument in ordered[1:]:
            text = f"{name}<int64_t>({text}, {_sympy_text(argument)})"
        return text
    if isinstance(expression, sympy.Mod):
        a, b = (_sympy_text(argument) for argument in expression.args)
        return f"(({a}) - ({b}) * gc_floor_div({a}, {b}))"
    return _sympy_arithmetic(expression)


def _sympy_arithmetic(expression: sympy.Expr) -> str:
    import sympy

    numerator, denominator = sympy.fraction(sympy.together(expression))
    if denominator != 1:
        return f"(({_sympy_text(numerator)}) / ({_sympy_text(denominator)}))"
    if expression.is_Add:
        return "(" + " + ".join(_sympy_text(term) for term in expression.as_ordered_terms()) + ")"
    if expression.is_Mul:
        return " * ".join(_sympy_text(factor) for factor in expression.as_ordered_factors())
    if expression.is_Pow and expression.exp.is_Integer and int(expression.exp) > 0:
        return " * ".join([_sympy_text(expression.base)] * int(expression.exp))
    raise TypeError(f"dimension {expression} has no C++ form")


def affine_text(expression: Affine, names: Mapping[str, str]) -> str:
    """An index expression; `names` gives the C++ text of its variables."""
    terms = [_term(names[variable], stride) for variable, stride in expression.terms]
    if expression.offset != 0 or not terms:
        terms.append(dim_text(expression.offset))
    return " + ".join(terms).replace("+ -", "- ")


def _term(variable: str, stride: Dim) -> str:
    if stride == 1:
        return variable
    factor = f"({variable})" if " " in variable else variable
    return f"-{factor}" if stride == -1 else f"{factor} * {dim_factor(stride)}"


def guard_text(guard: Guard, names: Mapping[str, str]) -> str:
    """The condition that a guard states, in parentheses, free of branches."""
    text = affine_text(guard.expression, names)
    low, high = dim_text(guard.low), dim_text(guard.high)
    if " " in text:
        text = f"({text})"
    return f"({text} >= {low}) & ({text} < {high})"


_RESERVED = """
alignas alignof and asm auto bool break case catch char class const continue default delete do double else enum explicit
export extern false float for friend goto if inline int long mutable namespace new not nullptr operator or private
protected public register return short signed sizeof static struct switch template this throw true try typedef typename
union unsigned using virtual void volatile while xor main
exp log pow sin cos tan tanh sqrt erf abs floor ceil round trunc fabs
"""
_KEYWORDS = frozenset(_RESERVED.split())


class Names:
    """Unique C++ identifiers in one function, close to the user's names; a closed scope gives its names back."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken) | _KEYWORDS

    @contextmanager
    def scope(self) -> Iterator[None]:
        saved = set(self._taken)
        yield
        self._taken = saved

    def new(self, wanted: str) -> str:
        """An identifier that nothing else in the function has."""
        stem = re.sub(r"\W", "_", wanted).strip("_") or "value"
        stem = f"v{stem}" if stem[0].isdigit() or stem.startswith("gc_") else stem
        name, count = stem, 1
        while name in self._taken:
            name, count = f"{stem}_{count}", count + 1
        self._taken.add(name)
        return name
