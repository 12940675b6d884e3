"""Dimensions, index expressions and literals as Triton source."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from graphc.ir.kernel import Affine, Literal
from graphc.types import Dim, DType

if TYPE_CHECKING:
    import sympy

TRITON_TYPES = {
    DType.F32: "tl.float32",
    DType.F64: "tl.float64",
    DType.F16: "tl.float16",
    DType.BF16: "tl.bfloat16",
    DType.I8: "tl.int8",
    DType.U8: "tl.uint8",
    DType.I16: "tl.int16",
    DType.I32: "tl.int32",
    DType.I64: "tl.int64",
    DType.BOOL: "tl.int1",
}

RESERVED = frozenset(
    {"tl", "triton", "float", "int", "bool", "range", "min", "max", "abs", "INDEX", "program", "run"}
)


def dim_text(dim: Dim) -> str:
    """The dimension as an expression that needs no parentheses as a factor, Python's and Triton's alike."""
    if isinstance(dim, int):
        return str(dim) if dim >= 0 else f"({dim})"
    text = _sympy_text(dim)
    return text if re.fullmatch(r"\w+", text) else f"({text})"


def _sympy_text(value: sympy.Basic) -> str:
    import sympy

    def factor(part: sympy.Basic) -> str:
        text = _sympy_text(part)
        return text if re.fullmatch(r"[\w.]+|\w+\([^()]*\)", text) else f"({text})"

    match value:
        case sympy.Symbol() | sympy.Integer():
            return str(value)
        case sympy.Add():
            return " + ".join(_sympy_text(part) for part in value.as_ordered_terms()).replace("+ -", "- ")
        case sympy.Mul():
            return " * ".join(factor(part) for part in value.as_ordered_factors())
        case sympy.Pow() if value.exp.is_Integer and value.exp > 0:
            return " * ".join([factor(value.base)] * int(value.exp))
        case sympy.floor():
            numerator, denominator = sympy.fraction(sympy.together(value.args[0]))
            return f"{factor(numerator)} // {factor(denominator)}"
        case sympy.Mod():
            return f"{factor(value.args[0])} % {factor(value.args[1])}"
        case sympy.Max() | sympy.Min():
            name = "max" if isinstance(value, sympy.Max) else "min"
            result = _sympy_text(value.args[0])
            for part in value.args[1:]:
                result = f"{name}({result}, {_sympy_text(part)})"
            return result
        case _:
            raise ValueError(f"no Triton form of the dimension {value}")


def affine_text(expression: Affine, variables: Mapping[str, str]) -> str:
    """Offset + sum of stride * variable, each variable printed as `variables` says; "0" when nothing is left."""
    parts = []
    for name, stride in expression.terms:
        variable = variables.get(name, name)
        if stride == 1:
            parts.append(variable)
        elif stride == -1:
            parts.append(f"-{as_operand(variable)}")
        else:
            parts.append(f"{as_operand(variable)} * {dim_text(stride)}")
    if expression.offset != 0 or not parts:
        offset = expression.offset
        parts.append(str(offset) if isinstance(offset, int) else dim_text(offset))
    return " + ".join(parts).replace("+ -", "- ")


def as_operand(text: str) -> str:
    """The expression in parentheses unless it is an atom, a call, a subscript of one, or already in them."""
    match = re.match(r"-?[\w.]*", text)
    position = match.end() if match else 0
    while position < len(text) and text[position] in "([":
        position = _closing(text, position) + 1
        suffix = re.match(r"[\w.]*", text[position:])
        position += suffix.end() if suffix else 0
    return text if position == len(text) else f"({text})"


def _closing(text: str, position: int) -> int:
    """Where the bracket that opens at `position` closes."""
    depth = 0
    for index in range(position, len(text)):
        depth += (text[index] in "([") - (text[index] in ")]")
        if depth == 0:
            return index
    return len(text) - 1


def without_parentheses(text: str) -> str:
    """The expression without the parentheses around the whole of it, if there are any."""
    return text[1:-1] if text.startswith("(") and _closing(text, 0) == len(text) - 1 else text


def literal_text(value: Literal, dtype: DType) -> str:
    """A literal of that type, as Triton reads it."""
    if dtype is DType.BOOL:
        return "True" if value else "False"
    if not dtype.is_float:
        return str(int(value))
    number = float(value)
    if math.isnan(number) or math.isinf(number):
        return f'float("{number}")'
    return repr(number)


def identifier(name: str) -> str:
    """A Python name as near to `name` as can be."""
    text = re.sub(r"\W", "_", name)
    if not text or text[0].isdigit():
        text = f"v{text}"
    return f"{text}_" if keyword.iskeyword(text) or text in RESERVED else text


class Names:
    """Hands out names that are unique in one kernel, near to the user's."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._taken: set[str] = set(reserved)
        self._names: dict[tuple[str, str], str] = {}

    def new(self, wanted: str) -> str:
        base = identifier(wanted)
        name, number = base, 2
        while name in self._taken:
            name, number = f"{base}_{number}", number + 1
        self._taken.add(name)
        return name

    def of(self, kind: str, key: str) -> str:
        """The name given to (kind, key), made at the first call."""
        if (kind, key) not in self._names:
            self._names[kind, key] = self.new(key)
        return self._names[kind, key]
