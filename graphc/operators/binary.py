"""Elementwise functions of two tensors, or of a tensor and a number: one table, four families.

    elemwise_add(lhs, rhs)          tensors of one shape (a + b)
    broadcast_add(lhs, rhs)         shapes that broadcast
    _plus_scalar(data, scalar=2)    a tensor and a number (a + 2)
    _rminus_scalar(data, scalar=2)  a number and a tensor (2 - a)

Comparisons and logic give 0 and 1 in the operands' element type, as in MXNet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphc.ir.graph import Value
from graphc.operators.declare import Compose, Context, Operator, declare
from graphc.operators.inference import BrokenRuleError, ShapeFrame, is_known, same_shape_rule
from graphc.operators.parameters import COUNT, Parameters, ignored, number
from graphc.primitives.builder import Builder, Scalar
from graphc.types import Dim, same_dim

Operand = Value | Scalar
Function = Callable[[Builder, Operand, Operand], Value]


@dataclass(frozen=True, slots=True)
class _Family:
    """The names of one function in each family; an empty name leaves the family out."""

    symbol: str
    function: Function
    tensors: str
    broadcast: str
    scalar: str
    reversed: str = ""
    tensor_aliases: tuple[str, ...] = ()
    broadcast_aliases: tuple[str, ...] = ()
    scalar_aliases: tuple[str, ...] = ()
    reversed_aliases: tuple[str, ...] = ()


def _primitive(name: str) -> Function:
    return lambda builder, x, y: getattr(builder, name)(x, y)


def _dtype_of(*operands: Operand) -> Value:
    return next(operand for operand in operands if isinstance(operand, Value))


def _compared(name: str) -> Function:
    def function(builder: Builder, x: Operand, y: Operand) -> Value:
        return builder.cast(getattr(builder, name)(x, y), _dtype_of(x, y).type.dtype)

    return function


def _logical(name: str) -> Function:
    """Logic on what is not zero."""

    def function(builder: Builder, x: Operand, y: Operand) -> Value:
        truths = [
            builder.ne(operand, 0) if isinstance(operand, Value) else bool(operand) for operand in (x, y)
        ]
        return builder.cast(getattr(builder, name)(*truths), _dtype_of(x, y).type.dtype)

    return function


def _hypotenuse(builder: Builder, x: Operand, y: Operand) -> Value:
    """The greater times sqrt(1 + (less / greater)²), which overflows only where the result does."""
    sizes = [builder.abs(operand) if isinstance(operand, Value) else abs(operand) for operand in (x, y)]
    great, less = builder.maximum(*sizes), builder.minimum(*sizes)
    ratio = builder.div(less, builder.where(builder.eq(great, 0.0), 1.0, great))
    return builder.mul(great, builder.sqrt(builder.add(builder.mul(ratio, ratio), 1.0)))


def _arithmetic(
    symbol: str, primitive: str, word: str, capital: str, reversible: bool, plus: str = ""
) -> _Family:
    """The names of + - * /, which have had three generations of them."""
    old = plus or word
    return _Family(
        symbol,
        _primitive(primitive),
        f"elemwise_{word}",
        f"broadcast_{word}",
        f"_{old}_scalar",
        f"_r{old}_scalar" if reversible else "",
        tuple(dict.fromkeys((f"_{capital}", f"_{word}", f"_{old}"))),
        (f"broadcast_{old}",) if plus else (),
        (f"_{capital}Scalar",),
        (f"_R{capital}Scalar",) if reversible else (),
    )


def _named(symbol: str, function: Function, word: str, capital: str, reversible: bool = False) -> _Family:
    """The names of the functions that have one word."""
    return _Family(
        symbol,
        function,
        f"_{word}",
        f"broadcast_{word}",
        f"_{word}_scalar",
        f"_r{word}_scalar" if reversible else "",
        (f"_{capital}",),
        (),
        (f"_{capital}Scalar",),
        (f"_R{capital}Scalar",) if reversible else (),
    )


_FAMILIES = (
    _arithmetic("x + y", "add", "add", "Plus", False, "plus"),
    _arithmetic("x - y", "sub", "sub", "Minus", True, "minus"),
    _arithmetic("x * y", "mul", "mul", "Mul", False),
    _arithmetic("x / y", "div", "div", "Div", True),
    _named("The remainder of x / y, with the sign of y", _primitive("mod"), "mod", "Mod", True),
    _named("x ** y", _primitive("pow"), "power", "Power", True),
    _named("The greater of x and y", _primitive("maximum"), "maximum", "Maximum"),
    _named("The lesser of x and y", _primitive("minimum"), "minimum", "Minimum"),
    _named("sqrt(x² + y²)", _hypotenuse, "hypot", "Hypot"),
    _named("1 where x = y, else 0", _compared("eq"), "equal", "Equal"),
    _named("1 where x ≠ y, else 0", _compared("ne"), "not_equal", "NotEqual"),
    _named("1 where x > y, else 0", _compared("gt"), "greater", "Greater"),
    _named("1 where x ≥ y, else 0", _compared("ge"), "greater_equal", "GreaterEqual"),
    _named("1 where x < y, else 0", _compared("lt"), "lesser", "Lesser"),
    _named("1 where x ≤ y, else 0", _compared("le"), "lesser_equal", "LesserEqual"),
    _named("1 where x and y are not 0, else 0", _logical("logical_and"), "logical_and", "LogicalAnd"),
    _named("1 where x or y is not 0, else 0", _logical("logical_or"), "logical_or", "LogicalOr"),
    _named("1 where one of x and y is not 0, else 0", _logical("logical_xor"), "logical_xor", "LogicalXor"),
)


def _compose_tensors(function: Function) -> Compose:
    def compose(
        builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
    ) -> Value:
        return function(builder, inputs[0], inputs[1])

    return compose


def _compose_scalar(function: Function, is_reversed: bool) -> Compose:
    def compose(
        builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
    ) -> Value:
        x, scalar = inputs[0], parameters.scalar
        return function(builder, scalar, x) if is_reversed else function(builder, x, scalar)

    return compose


def _tensor_shapes(broadcast: str) -> Callable[[ShapeFrame], None]:
    def rule(frame: ShapeFrame) -> None:
        frame.unify(frame.names, "operands must have one shape", f"use {broadcast} for shapes that broadcast")

    return rule


def _broadcast_shapes(frame: ShapeFrame) -> None:
    """Numpy's rule: trailing axes aligned, and each pair equal or one of them 1."""
    left, right = frame["lhs"], frame["rhs"]
    if left is None or right is None:
        return
    rank = max(len(left), len(right))
    dims: list[Dim] = []
    for position in range(-rank, 0):
        pair = [shape[position] for shape in (left, right) if len(shape) >= -position]
        wide = [dim for dim in pair if is_known(dim) and dim != 1]
        if len(wide) == 2 and not same_dim(*wide):
            raise BrokenRuleError(
                f"shapes do not broadcast at axis {position}",
                {"rhs": "equal sizes, or 1"},
                "reshape one operand",
            )
        # An unknown dimension beside 1 may be anything; beside a wide one the result is wide.
        dims.append(wide[0] if wide else 1 if all(dim == 1 for dim in pair) else 0)
    frame.expect_output(tuple(dims))


for _family in _FAMILIES:
    declare(
        Operator(
            _family.tensors,
            f"{_family.symbol}, elementwise; the operands have one shape.",
            _compose_tensors(_family.function),
            arguments=("lhs", "rhs"),
            shapes=_tensor_shapes(_family.broadcast),
            aliases=_family.tensor_aliases,
        )
    )
    declare(
        Operator(
            _family.broadcast,
            f"{_family.symbol}, elementwise; the operands' shapes broadcast.",
            _compose_tensors(_family.function),
            arguments=("lhs", "rhs"),
            shapes=_broadcast_shapes,
            aliases=_family.broadcast_aliases,
        )
    )
    for _name, _aliases, _reversed in (
        (_family.scalar, _family.scalar_aliases, False),
        (_family.reversed, _family.reversed_aliases, True),
    ):
        if _name:
            declare(
                Operator(
                    _name,
                    f"{_family.symbol}, elementwise; {'x' if _reversed else 'y'} is a number.",
                    _compose_scalar(_family.function, _reversed),
                    parameters=(number("scalar", "The number."), ignored("is_int")),
                    shapes=same_shape_rule,
                    aliases=_aliases,
                )
            )


# Sums of any number of tensors


def _add_all(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    total = inputs[0]
    for value in inputs[1:]:
        total = builder.add(total, value)
    return total


declare(
    Operator(
        "add_n",
        "The sum of all inputs.",
        _add_all,
        parameters=(COUNT,),
        counted="num_args",
        shapes=same_shape_rule,
        aliases=("ElementWiseSum",),
    )
)
