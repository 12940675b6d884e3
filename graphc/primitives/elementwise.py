"""Elementwise primitives, one row each: formula, operands, gradient, oracle.

A gradient is a function of (builder, g, x, y) for a unary primitive y = f(x) and of (builder, g, x, y, z) for a
binary one z = f(x, y); g is the gradient of the result. Every primitive returns NaN for a NaN operand unless its
row says otherwise, and follows IEEE 754 and C99 at infinities and poles.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from graphc.ir.graph import Attributes, Node, Value
from graphc.primitives import rules
from graphc.primitives.declare import Kind, Oracle, Primitive, TypeRule, TypeRuleError, declare
from graphc.types import DType, TensorType

if TYPE_CHECKING:
    import torch

    from graphc.primitives.builder import Builder

Gradients: TypeAlias = "tuple[Value | None, ...]"
UnaryGradient: TypeAlias = "Callable[[Builder, Value, Value, Value], Value]"
BinaryGradient: TypeAlias = "Callable[[Builder, Value, Value, Value, Value], Gradients]"
Domain: TypeAlias = "Callable[..., None]"

FLAT = "it is constant between its steps, so its derivative is 0 wherever it exists"
TRUTH = "its result is a truth value"


def _rule(count: int, domain: Domain | None, result: DType | None) -> TypeRule:
    def infer(types: tuple[TensorType, ...], attributes: Attributes) -> tuple[TensorType, ...]:
        rules.operands(types, count)
        if domain is not None:
            domain(*types)
        rules.one_dtype(*types)
        rules.one_shape(*types)
        return (types[0] if result is None else types[0].with_dtype(result),)

    return infer


def _oracle(function: str | Callable[..., torch.Tensor]) -> Oracle:
    def evaluate(
        operands: tuple[torch.Tensor, ...], node: Node, shapes: tuple[tuple[int, ...], ...]
    ) -> tuple[torch.Tensor, ...]:
        import torch

        call = getattr(torch, function) if isinstance(function, str) else function
        return (call(*operands),)

    return evaluate


def _unary(
    name: str,
    doc: str,
    gradient: UnaryGradient | None = None,
    *,
    reason: str = "",
    domain: Domain = rules.floating,
    result: DType | None = None,
    oracle: str | Callable[..., torch.Tensor] = "",
    cheap: bool = False,
) -> None:
    def rule(builder: Builder, node: Node, heads: Gradients) -> Gradients:
        assert gradient is not None
        (g,) = heads
        return (None if g is None else gradient(builder, g, node.inputs[0], node.outputs[0]),)

    declare(
        Primitive(
            name,
            doc,
            Kind.ELEMENTWISE,
            _rule(1, domain, result),
            _oracle(oracle or name),
            gradient=rule if gradient else None,
            no_gradient=reason,
            cheap=cheap,
        )
    )


def _binary(
    name: str,
    doc: str,
    gradient: BinaryGradient | None = None,
    *,
    reason: str = "",
    domain: Domain | None = rules.numeric,
    result: DType | None = None,
    oracle: str | Callable[..., torch.Tensor] = "",
    commutative: bool = False,
    cheap: bool = False,
    rounded: bool = False,
) -> None:
    def rule(builder: Builder, node: Node, heads: Gradients) -> Gradients:
        assert gradient is not None
        (g,), (x, y) = heads, node.inputs
        return (None, None) if g is None else gradient(builder, g, x, y, node.outputs[0])

    declare(
        Primitive(
            name,
            doc,
            Kind.ELEMENTWISE,
            _rule(2, domain, result),
            _oracle(oracle or name),
            gradient=rule if gradient else None,
            no_gradient=reason,
            cheap=cheap,
            commutative=commutative,
            rounded=rounded,
        )
    )


# Oracles that torch has no single function for


def _sign(x: torch.Tensor) -> torch.Tensor:
    return (x > 0).to(x.dtype) - (x < 0).to(x.dtype)


def _with_numpy(function: str, *operands: torch.Tensor) -> torch.Tensor:
    """A function that torch lacks, or has only less exact."""
    import numpy
    import torch

    half = operands[0].dtype in (torch.float16, torch.bfloat16)
    arrays = [(x.float() if half else x).numpy(force=True) for x in operands]
    with numpy.errstate(all="ignore"):
        result = getattr(numpy, function)(*arrays)
    return torch.as_tensor(result).to(operands[0].dtype)


def _divide(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    import torch

    if x.is_floating_point():
        return torch.div(x, y)
    # The hardware traps at a zero divisor and at the least integer over -1.
    quotient = torch.div(x, torch.where((y == 0) | (y == -1), torch.ones_like(y), y), rounding_mode="trunc")
    return torch.where(y == 0, torch.zeros_like(x), torch.where(y == -1, -x, quotient))


def _modulo(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    import torch

    if x.is_floating_point():
        # torch's own rounds the quotient.
        rest = _with_numpy("fmod", x, y)
        return torch.where((rest != 0) & ((rest < 0) != (y < 0)), rest + y, rest)
    trivial = (y == 0) | (y == -1)
    return torch.where(
        trivial, torch.zeros_like(x), torch.remainder(x, torch.where(trivial, torch.ones_like(y), y))
    )


# Gradients that need more than an expression


def _pow_gradient(b: Builder, g: Value, x: Value, y: Value, z: Value) -> Gradients:
    # Where a factor is 0 the other one may be infinite: give it a harmless operand instead, in every order.
    exponent = b.sub(b.where(b.eq(y, 0.0), 1.0, y), 1.0)
    base = b.where(b.eq(x, 0.0), 1.0, x)
    return b.mul(g, b.mul(y, b.pow(x, exponent))), b.mul(g, b.mul(z, b.log(base)))


def _atan2_gradient(b: Builder, g: Value, x: Value, y: Value, z: Value) -> Gradients:
    scaled = b.div(g, b.add(b.mul(x, x), b.mul(y, y)))
    return b.mul(scaled, y), b.neg(b.mul(scaled, x))


def _choose(b: Builder, g: Value, first: Value) -> Gradients:
    """The gradient goes to one of two operands: the first where `first` holds."""
    return b.where(first, g, 0.0), b.where(first, 0.0, g)


_unary("neg", "-x", lambda b, g, x, y: b.neg(g), domain=rules.numeric, cheap=True)
_unary(
    "abs", "|x|; gradient 0 at 0", lambda b, g, x, y: b.mul(g, b.sign(x)), domain=rules.numeric, cheap=True
)
_unary("sign", "-1, 0 or 1; 0 for NaN", reason=FLAT, domain=rules.numeric, oracle=_sign, cheap=True)
_unary("floor", "the greatest whole number <= x", reason=FLAT, cheap=True)
_unary("ceil", "the least whole number >= x", reason=FLAT, cheap=True)
_unary("round", "the nearest whole number, halves to the even one", reason=FLAT, cheap=True)
_unary("trunc", "x without its fraction", reason=FLAT, cheap=True)
_unary("exp", "e ** x", lambda b, g, x, y: b.mul(g, y))
# exp(x), not y + 1, which loses everything below 1e-7 when x is far below 0.
_unary("expm1", "e ** x - 1, exact near 0", lambda b, g, x, y: b.mul(g, b.exp(x)))
_unary("log", "natural logarithm; -inf at 0, NaN below", lambda b, g, x, y: b.div(g, x))
_unary("log1p", "log(1 + x), exact near 0", lambda b, g, x, y: b.div(g, b.add(x, 1.0)))
_unary("sqrt", "square root; NaN below 0; gradient inf at 0", lambda b, g, x, y: b.div(b.mul(g, 0.5), y))
_unary(
    "rsqrt",
    "1 / sqrt(x); inf at 0, NaN below",
    lambda b, g, x, y: b.mul(b.mul(g, -0.5), b.mul(y, b.mul(y, y))),
)
_unary(
    "cbrt",
    "cube root, also of negative numbers",
    lambda b, g, x, y: b.div(g, b.mul(3.0, b.mul(y, y))),
    oracle=lambda x: _with_numpy("cbrt", x),
)
_unary("sin", "sine of radians; NaN at infinity", lambda b, g, x, y: b.mul(g, b.cos(x)))
_unary("cos", "cosine of radians; NaN at infinity", lambda b, g, x, y: b.neg(b.mul(g, b.sin(x))))
_unary("tan", "tangent of radians; NaN at infinity", lambda b, g, x, y: b.mul(g, b.add(b.mul(y, y), 1.0)))
# (1 - x)(1 + x) keeps the digits that 1 - x * x loses near 1.
_unary(
    "asin",
    "arc sine; NaN outside [-1, 1]",
    lambda b, g, x, y: b.mul(g, b.rsqrt(b.mul(b.sub(1.0, x), b.add(x, 1.0)))),
)
_unary(
    "acos",
    "arc cosine; NaN outside [-1, 1]",
    lambda b, g, x, y: b.neg(b.mul(g, b.rsqrt(b.mul(b.sub(1.0, x), b.add(x, 1.0))))),
)
_unary("atan", "arc tangent", lambda b, g, x, y: b.div(g, b.add(b.mul(x, x), 1.0)))
_unary("sinh", "hyperbolic sine", lambda b, g, x, y: b.mul(g, b.cosh(x)))
_unary("cosh", "hyperbolic cosine", lambda b, g, x, y: b.mul(g, b.sinh(x)))
_unary("tanh", "hyperbolic tangent", lambda b, g, x, y: b.mul(g, b.mul(b.sub(1.0, y), b.add(y, 1.0))))
_unary("asinh", "inverse hyperbolic sine", lambda b, g, x, y: b.mul(g, b.rsqrt(b.add(b.mul(x, x), 1.0))))
_unary(
    "acosh",
    "inverse hyperbolic cosine; NaN below 1",
    lambda b, g, x, y: b.mul(g, b.rsqrt(b.mul(b.sub(x, 1.0), b.add(x, 1.0)))),
)
_unary(
    "atanh",
    "inverse hyperbolic tangent; infinite at -1 and 1, NaN outside",
    lambda b, g, x, y: b.div(g, b.mul(b.sub(1.0, x), b.add(x, 1.0))),
)
_unary(
    "erf",
    "error function 2 / sqrt(pi) * integral of exp(-t * t) from 0 to x",
    lambda b, g, x, y: b.mul(b.mul(g, 2.0 / math.sqrt(math.pi)), b.exp(b.neg(b.mul(x, x)))),
)
_unary(
    "sigmoid",
    "1 / (1 + exp(-x)) without overflow: 0 at -inf, 1 at inf",
    lambda b, g, x, y: b.mul(g, b.mul(y, b.sub(1.0, y))),
)
_unary("logical_not", "not x", reason=TRUTH, domain=rules.boolean, cheap=True)
_unary("is_nan", "whether x is NaN", reason=TRUTH, result=DType.BOOL, oracle="isnan", cheap=True)

_binary(
    "add", "x + y; integers wrap", lambda b, g, x, y, z: (g, g), commutative=True, cheap=True, rounded=True
)
_binary("sub", "x - y; integers wrap", lambda b, g, x, y, z: (g, b.neg(g)), cheap=True, rounded=True)
_binary(
    "mul",
    "x * y; integers wrap",
    lambda b, g, x, y, z: (b.mul(g, y), b.mul(g, x)),
    commutative=True,
    cheap=True,
)
_binary(
    "div",
    "x / y; integers truncate towards 0 and give 0 for y = 0, their overflow wraps",
    lambda b, g, x, y, z: (b.div(g, y), b.neg(b.mul(b.div(g, y), z))),
    oracle=_divide,
)
_binary(
    "pow",
    "x ** y as C's pow: x ** 0 = 1 and 1 ** y = 1 even for NaN, NaN for x < 0 with a fractional y. Gradient of x: "
    "0 where y = 0; of y: 0 where x = 0, NaN where x < 0",
    _pow_gradient,
    domain=rules.floating,
)
_binary(
    "maximum",
    "the greater; NaN when either is. Equal operands: the gradient goes to the second, so relu(x) = maximum(x, 0) "
    "has gradient 0 at 0; hence operands must not be swapped before gradients are built",
    lambda b, g, x, y, z: _choose(b, g, b.gt(x, y)),
    cheap=True,
)
_binary(
    "minimum",
    "the lesser; NaN when either is. Equal operands: the gradient goes to the second",
    lambda b, g, x, y, z: _choose(b, g, b.lt(x, y)),
    cheap=True,
)
_binary(
    "mod",
    "x - y * floor(x / y), the sign of y, as Python's %; integers give 0 for y = 0",
    lambda b, g, x, y, z: (g, b.neg(b.mul(g, b.floor(b.div(x, y))))),
    oracle=_modulo,
)
_binary(
    "atan2",
    "angle of the point (y, x) = (second, first operand), -pi to pi",
    _atan2_gradient,
    domain=rules.floating,
)
for _name, _doc in {
    "eq": "x == y; false for NaN",
    "ne": "x != y; true for NaN",
    "lt": "x < y; false for NaN",
    "le": "x <= y; false for NaN",
    "gt": "x > y; false for NaN",
    "ge": "x >= y; false for NaN",
}.items():
    _binary(
        _name,
        _doc,
        reason=TRUTH,
        domain=None,
        result=DType.BOOL,
        commutative=_name in ("eq", "ne"),
        cheap=True,
    )
for _name, _doc in {"logical_and": "x and y", "logical_or": "x or y", "logical_xor": "x != y"}.items():
    _binary(_name, _doc, reason=TRUTH, domain=rules.boolean, commutative=True, cheap=True)


def _where_rule(types: tuple[TensorType, ...], attributes: Attributes) -> tuple[TensorType, ...]:
    rules.operands(types, 3)
    condition, x, y = types
    if condition.dtype is not DType.BOOL:
        raise TypeRuleError(f"the condition must be bool, got {condition}")
    rules.one_dtype(x, y)
    rules.one_shape(*types)
    return (x,)


def _where_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,) = heads
    return (None, None, None) if g is None else (None, *_choose(b, g, node.inputs[0]))


declare(
    Primitive(
        "where",
        "x where the condition holds, y elsewhere; the other operand's NaN does not show, nor its gradient",
        Kind.ELEMENTWISE,
        _where_rule,
        _oracle("where"),
        gradient=_where_gradient,
        differentiable_inputs=(1, 2),
        cheap=True,
    )
)


def _cast_rule(types: tuple[TensorType, ...], attributes: Attributes) -> tuple[TensorType, ...]:
    rules.operands(types, 1)
    dtype = attributes["dtype"]
    if not isinstance(dtype, DType):
        raise TypeRuleError(f"dtype must be an element type, got {dtype!r}")
    return (types[0].with_dtype(dtype),)


def _cast_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,) = heads
    source = node.inputs[0].type.dtype
    return (b.cast(g, source) if g is not None and source.is_float and g.type.dtype.is_float else None,)


def _cast_oracle(operands: tuple[torch.Tensor, ...], node: Node, shapes: Any) -> tuple[torch.Tensor, ...]:
    return (operands[0].to(node.attributes["dtype"].torch),)


declare(
    Primitive(
        "cast",
        "x in another element type: to integer truncates towards 0 (unspecified for NaN and out of range), integers "
        "wrap, to bool is x != 0; no gradient passes an integer or bool",
        Kind.ELEMENTWISE,
        _cast_rule,
        _cast_oracle,
        gradient=_cast_gradient,
        attributes=(rules.DTYPE,),
        cheap=True,
    )
)
