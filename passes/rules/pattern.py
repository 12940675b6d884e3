"""Scalar rewrite rules written as text: "sub(x, neg(y))" -> "add(x, y)".

    pattern = name | number | primitive "(" pattern {"," pattern} ")"

A name stands for any value, the same one wherever it occurs; a number for a constant of that value, +0 apart from -0
(`0` stands for an integer's and for +0.0). Operands of commutative primitives match in both orders.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from graphc.ir.graph import Node, Value
from graphc.passes.rewrite import Rewriter, Rule
from graphc.primitives.builder import Scalar
from graphc.primitives.declare import primitive
from graphc.types import DType

DOMAINS: dict[str, Callable[[DType], bool]] = {
    "float": lambda dtype: dtype.is_float,
    "integer": lambda dtype: dtype.is_integer,
    "number": lambda dtype: dtype is not DType.BOOL,
    "bool": lambda dtype: dtype is DType.BOOL,
    "any": lambda dtype: True,
}


@dataclass(frozen=True, slots=True)
class Name:
    """Any value."""

    text: str


@dataclass(frozen=True, slots=True)
class Number:
    """A constant."""

    value: Scalar


@dataclass(frozen=True, slots=True)
class Apply:
    """A primitive applied to patterns."""

    primitive: str
    operands: tuple[Pattern, ...]


Pattern: TypeAlias = Name | Number | Apply
Bindings: TypeAlias = dict[str, Value]


def parse(text: str) -> Pattern:
    """Read a pattern; ValueError for anything that is none."""
    return _read(ast.parse(text, mode="eval").body)


def _read(node: ast.expr) -> Pattern:
    match node:
        case ast.Name(id=name):
            return Name(name)
        case ast.Constant(value=bool() | int() | float() as value):
            return Number(value)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return Number(-value)
        case ast.Call(func=ast.Name(id=name), args=operands, keywords=[]):
            return Apply(name, tuple(map(_read, operands)))
    raise ValueError(f"{ast.unparse(node)!r} is no pattern")


def algebraic(
    pattern: str, replacement: str, sound: str, *, domain: str = "float", exact: bool = True
) -> Rule:
    """The rule that `pattern` is `replacement` for operands of a domain (that of the last operand)."""
    left, right = parse(pattern), parse(replacement)
    if not isinstance(left, Apply):
        raise ValueError(f"{pattern!r} must apply a primitive")
    accepts = DOMAINS[domain]

    def apply(rewriter: Rewriter, node: Node) -> Value | None:
        if not accepts(node.inputs[-1].type.dtype):
            return None
        bindings = _match_operands(rewriter, left, node, {})
        return None if bindings is None else _build(rewriter, right, bindings, node.output)

    name = left.primitive
    return Rule(f"{pattern} -> {replacement}", sound, lambda declared: declared.name == name, apply, exact)


def _match_operands(rewriter: Rewriter, pattern: Apply, node: Node, bindings: Bindings) -> Bindings | None:
    found = _match_all(rewriter, pattern.operands, node.inputs, bindings)
    if found is None and primitive(node.primitive).commutative:
        found = _match_all(rewriter, pattern.operands, node.inputs[::-1], bindings)
    return found


def _match_all(
    rewriter: Rewriter, patterns: tuple[Pattern, ...], values: tuple[Value, ...], bindings: Bindings
) -> Bindings | None:
    for pattern, value in zip(patterns, values, strict=True):
        found = _match(rewriter, pattern, value, bindings)
        if found is None:
            return None
        bindings = found
    return bindings


def _match(rewriter: Rewriter, pattern: Pattern, value: Value, bindings: Bindings) -> Bindings | None:
    match pattern:
        case Name(text):
            bound = bindings.get(text)
            if bound is None:
                return {**bindings, text: value}
            return bindings if bound.name == value.name else None
        case Number(number):
            return bindings if equal_numbers(rewriter.splat(value), number) else None
        case Apply(name):
            node = rewriter.producer(value, name)
            return None if node is None else _match_operands(rewriter, pattern, node, bindings)


def equal_numbers(a: Scalar | None, b: Scalar | None) -> bool:
    """Equal, and zeros of equal sign."""
    return a is not None and b is not None and a == b and math.copysign(1, a) == math.copysign(1, b)


def _build(rewriter: Rewriter, pattern: Pattern, bindings: Bindings, like: Value) -> Value:
    match pattern:
        case Name(text):
            return bindings[text]
        case Number(number):
            return rewriter.full_like(number, like)
        case Apply(name, operands):
            values = [
                operand.value if isinstance(operand, Number) else _build(rewriter, operand, bindings, like)
                for operand in operands
            ]
            result: Value = getattr(rewriter, name)(*values)
            return result
