"""Elementwise functions of one tensor, from a table."""

from __future__ import annotations

import math
from collections.abc import Callable

from graphc.ir.graph import Value
from graphc.operators import activation
from graphc.operators.declare import Compose, Context, Operator, declare
from graphc.operators.inference import fixed_output_dtype, same_shape_rule
from graphc.operators.parameters import DTYPE, Parameter, Parameters, number
from graphc.primitives.builder import Builder

Function = Callable[[Builder, Value], Value]


def _primitive(name: str) -> Function:
    return lambda builder, x: builder.emit(name, x)


def _logical_not(builder: Builder, x: Value) -> Value:
    return builder.cast(builder.eq(x, 0.0), x.type.dtype)


def _round(builder: Builder, x: Value) -> Value:
    """The nearest whole number, halves away from zero."""
    whole = builder.trunc(x)
    half = builder.ge(builder.abs(builder.sub(x, whole)), 0.5)
    return builder.where(half, builder.add(whole, builder.sign(x)), whole)


def _rint(builder: Builder, x: Value) -> Value:
    """The nearest whole number, halves to the lower one as in MXNet."""
    low, high = builder.floor(x), builder.ceil(x)
    return builder.where(builder.le(builder.sub(x, low), builder.sub(high, x)), low, high)


def _square(builder: Builder, x: Value) -> Value:
    return builder.mul(x, x)


def _reciprocal(builder: Builder, x: Value) -> Value:
    return builder.div(builder.full_like(1.0, x), x)


def _scaled(name: str, factor: float) -> Function:
    return lambda builder, x: builder.mul(builder.emit(name, x), factor)


def _times(factor: float) -> Function:
    return lambda builder, x: builder.mul(x, factor)


def _reciprocal_cube_root(builder: Builder, x: Value) -> Value:
    return _reciprocal(builder, builder.cbrt(x))


_TABLE: tuple[tuple[str, str, Function, tuple[str, ...]], ...] = (
    ("abs", "|x|", _primitive("abs"), ()),
    ("sign", "-1, 0 or 1", _primitive("sign"), ()),
    ("negative", "-x", _primitive("neg"), ()),
    ("floor", "The greatest whole number <= x", _primitive("floor"), ()),
    ("ceil", "The least whole number >= x", _primitive("ceil"), ()),
    ("trunc", "x without its fraction", _primitive("trunc"), ("fix",)),
    ("round", "The nearest whole number, halves away from zero", _round, ()),
    ("rint", "The nearest whole number, halves to the lower one", _rint, ()),
    ("exp", "e ** x", _primitive("exp"), ()),
    ("expm1", "e ** x - 1, exact near 0", _primitive("expm1"), ()),
    ("log", "The natural logarithm", _primitive("log"), ()),
    ("log10", "The logarithm to base 10", _scaled("log", 1 / math.log(10)), ()),
    ("log2", "The logarithm to base 2", _scaled("log", 1 / math.log(2)), ()),
    ("log1p", "log(1 + x), exact near 0", _primitive("log1p"), ()),
    ("sqrt", "The square root", _primitive("sqrt"), ()),
    ("rsqrt", "1 / sqrt(x)", _primitive("rsqrt"), ()),
    ("cbrt", "The cube root", _primitive("cbrt"), ()),
    ("rcbrt", "1 / cbrt(x)", _reciprocal_cube_root, ()),
    ("square", "x * x", _square, ()),
    ("reciprocal", "1 / x", _reciprocal, ()),
    ("sin", "The sine", _primitive("sin"), ()),
    ("cos", "The cosine", _primitive("cos"), ()),
    ("tan", "The tangent", _primitive("tan"), ()),
    ("arcsin", "The inverse of sin", _primitive("asin"), ()),
    ("arccos", "The inverse of cos", _primitive("acos"), ()),
    ("arctan", "The inverse of tan", _primitive("atan"), ()),
    ("sinh", "The hyperbolic sine", _primitive("sinh"), ()),
    ("cosh", "The hyperbolic cosine", _primitive("cosh"), ()),
    ("tanh", "The hyperbolic tangent", _primitive("tanh"), ()),
    ("arcsinh", "The inverse of sinh", _primitive("asinh"), ()),
    ("arccosh", "The inverse of cosh", _primitive("acosh"), ()),
    ("arctanh", "The inverse of tanh", _primitive("atanh"), ()),
    ("degrees", "Radians to degrees", _times(180 / math.pi), ()),
    ("radians", "Degrees to radians", _times(math.pi / 180), ()),
    ("erf", "The error function", _primitive("erf"), ()),
    ("relu", "The greater of x and 0", activation.relu, ()),
    ("sigmoid", "1 / (1 + exp(-x))", _primitive("sigmoid"), ()),
    ("softsign", "x / (1 + |x|)", activation.softsign, ()),
    ("gelu", "x Φ(x), Φ the normal distribution", activation.gelu, ()),
    ("logical_not", "1 where x is 0, else 0", _logical_not, ()),
    ("_copy", "x itself", lambda builder, x: x, ("identity",)),
)


def _compose(function: Function) -> Compose:
    def compose(
        builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
    ) -> Value:
        return function(builder, inputs[0])

    return compose


for _name, _doc, _function, _aliases in _TABLE:
    declare(Operator(_name, f"{_doc}.", _compose(_function), shapes=same_shape_rule, aliases=_aliases))


# With parameters


def _clip(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    return builder.minimum(builder.maximum(inputs[0], parameters.a_min), parameters.a_max)


declare(
    Operator(
        "clip",
        "x held between two bounds.",
        _clip,
        parameters=(number("a_min", "Lower bound."), number("a_max", "Upper bound.")),
        shapes=same_shape_rule,
    )
)


def _hard_sigmoid(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    line = builder.add(builder.mul(inputs[0], parameters.alpha), parameters.beta)
    return builder.minimum(builder.maximum(line, 0.0), 1.0)


declare(
    Operator(
        "hard_sigmoid",
        "alpha x + beta, held between 0 and 1.",
        _hard_sigmoid,
        parameters=(number("alpha", "Slope.", 0.2), number("beta", "Value at 0.", 0.5)),
        shapes=same_shape_rule,
    )
)


def _smooth_l1(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    """Quadratic within 1 / sigma² of zero, linear outside (Girshick 2015, arXiv:1504.08083)."""
    x, sigma2 = inputs[0], parameters.scalar**2
    size = builder.abs(x)
    inside = builder.mul(builder.mul(x, x), 0.5 * sigma2)
    return builder.where(builder.lt(size, 1.0 / sigma2), inside, builder.sub(size, 0.5 / sigma2))


declare(
    Operator(
        "smooth_l1",
        "(sigma x)² / 2 where |x| < 1 / sigma², |x| - 1 / (2 sigma²) elsewhere.",
        _smooth_l1,
        parameters=(number("scalar", "Sigma.", 1.0),),
        shapes=same_shape_rule,
    )
)


# Casts and constants of the same shape


def _cast(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    return builder.cast(inputs[0], parameters.dtype)


declare(
    Operator(
        "Cast",
        "Converts to another element type.",
        _cast,
        parameters=(Parameter("dtype", DTYPE, "Element type of the result."),),
        shapes=same_shape_rule,
        dtypes=fixed_output_dtype("dtype"),
        aliases=("cast",),
    )
)


def _constant_like(value: float) -> Compose:
    def compose(
        builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
    ) -> Value:
        return builder.full_like(value, inputs[0])

    return compose


for _name, _value in (("zeros_like", 0.0), ("ones_like", 1.0)):
    declare(
        Operator(_name, f"{_value:g} in the shape of data.", _constant_like(_value), shapes=same_shape_rule)
    )
