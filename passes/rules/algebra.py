"""Algebra on scalars: what a reader of the generated code would have simplified by hand.

An exact rule gives the same bits for all operands, NaN, infinities and signed zeros included. The others are sound
up to what their line says; `Simplify(strict=True)` leaves them out.
"""

from __future__ import annotations

import math

from graphc.ir.graph import Node, Value
from graphc.passes.rewrite import Rewriter, Rule, of_kind, on
from graphc.passes.rules.pattern import algebraic
from graphc.primitives.builder import Scalar
from graphc.primitives.declare import Kind
from graphc.types import DType, same_shape

_ZERO_SIGN = "differs in the sign of a zero result only"
_SAME = "the operand itself"

TABLE = (
    # Neutral and absorbing elements
    algebraic("add(x, -0.0)", "x", _SAME),
    algebraic("add(x, 0)", "x", _SAME, domain="integer"),
    algebraic("add(x, 0.0)", "x", "-0 + 0 is +0; " + _ZERO_SIGN, exact=False),
    algebraic("sub(x, 0)", "x", _SAME, domain="number"),
    algebraic("sub(x, -0.0)", "x", "-0 - -0 is +0; " + _ZERO_SIGN, exact=False),
    algebraic("sub(x, x)", "0", "integers have no NaN", domain="integer"),
    algebraic("mul(x, 1)", "x", _SAME, domain="number"),
    algebraic("mul(x, 0)", "0", "integers have no NaN", domain="integer"),
    algebraic("div(x, 1)", "x", _SAME, domain="number"),
    algebraic("maximum(x, x)", "x", _SAME, domain="number"),
    algebraic("minimum(x, x)", "x", _SAME, domain="number"),
    algebraic("where(c, x, x)", "x", "both branches are one value", domain="any"),
    # Signs
    algebraic("mul(x, -1)", "neg(x)", "only the sign changes", domain="number"),
    algebraic("div(x, -1)", "neg(x)", "only the sign changes", domain="number"),
    algebraic("sub(0, x)", "neg(x)", "integers have one zero", domain="integer"),
    algebraic("sub(-0.0, x)", "neg(x)", "-0 - 0 is -0, -0 - -0 is +0"),
    algebraic("sub(0.0, x)", "neg(x)", "0 - 0 is +0; " + _ZERO_SIGN, exact=False),
    algebraic("neg(neg(x))", "x", "two changes of sign", domain="number"),
    algebraic("neg(sub(x, y))", "sub(y, x)", "integers wrap", domain="integer"),
    algebraic("neg(sub(x, y))", "sub(y, x)", "x - x is +0 either way; " + _ZERO_SIGN, exact=False),
    algebraic("add(x, neg(y))", "sub(x, y)", "subtraction adds the negative", domain="number"),
    algebraic("sub(x, neg(y))", "add(x, y)", "subtraction adds the negative", domain="number"),
    algebraic("mul(neg(x), neg(y))", "mul(x, y)", "signs cancel", domain="number"),
    algebraic("div(neg(x), neg(y))", "div(x, y)", "signs cancel"),
    algebraic("abs(abs(x))", "abs(x)", "no sign is left", domain="number"),
    algebraic("abs(neg(x))", "abs(x)", "the sign goes", domain="number"),
    # Powers
    algebraic("pow(x, 0)", "1.0", "1 for every x, NaN too, as in C"),
    algebraic("pow(x, -0.0)", "1.0", "1 for every x, NaN too, as in C"),
    algebraic("pow(x, 1)", "x", _SAME),
    algebraic("pow(x, 2)", "mul(x, x)", "the product is the correctly rounded square"),
    algebraic("pow(x, -1)", "div(1.0, x)", "the quotient is the correctly rounded inverse"),
    algebraic("pow(x, 3)", "mul(mul(x, x), x)", "one rounding more", exact=False),
    algebraic("pow(x, 4)", "pow(mul(x, x), 2.0)", "one rounding more", exact=False),
    algebraic(
        "pow(x, 0.5)", "sqrt(x)", "as torch.pow: NaN at -inf, where pow is inf; sign of zero", exact=False
    ),
    algebraic("pow(x, -0.5)", "rsqrt(x)", "NaN at -inf, where pow is 0; sign of the pole", exact=False),
    algebraic("div(1.0, sqrt(x))", "rsqrt(x)", "one rounding less", exact=False),
    # Logarithms that overflow or underflow as they are written
    algebraic(
        "log(div(exp(x), y))",
        "sub(x, log(y))",
        "rounding; no -inf where exp underflows: log of softmax",
        exact=False,
    ),
    algebraic(
        "log(sigmoid(x))",
        "sub(minimum(x, 0.0), log1p(exp(neg(abs(x)))))",
        "rounding; no -inf where sigmoid underflows",
        exact=False,
    ),
    # Logic
    algebraic("logical_not(logical_not(x))", "x", _SAME, domain="bool"),
    algebraic("logical_and(x, x)", "x", _SAME, domain="bool"),
    algebraic("logical_and(x, True)", "x", _SAME, domain="bool"),
    algebraic("logical_and(x, False)", "False", "truth table", domain="bool"),
    algebraic("logical_or(x, x)", "x", _SAME, domain="bool"),
    algebraic("logical_or(x, False)", "x", _SAME, domain="bool"),
    algebraic("logical_or(x, True)", "True", "truth table", domain="bool"),
    algebraic("logical_xor(x, False)", "x", _SAME, domain="bool"),
    algebraic("logical_xor(x, True)", "logical_not(x)", "truth table", domain="bool"),
    algebraic("logical_xor(x, x)", "False", "truth table", domain="bool"),
    algebraic("logical_not(eq(x, y))", "ne(x, y)", "also for NaN", domain="any"),
    algebraic("logical_not(ne(x, y))", "eq(x, y)", "also for NaN", domain="any"),
    algebraic("where(logical_not(c), x, y)", "where(c, y, x)", "branches change places", domain="any"),
    algebraic("where(c, True, False)", "c", _SAME, domain="bool"),
    algebraic("where(c, False, True)", "logical_not(c)", "truth table", domain="bool"),
    *(
        algebraic(f"{name}(x, x)", "True", "integers have no NaN", domain="integer")
        for name in ("eq", "le", "ge")
    ),
    *(
        algebraic(f"{name}(x, x)", "False", "integers have no NaN", domain="integer")
        for name in ("ne", "lt", "gt")
    ),
)


def _divide_by_power_of_two(rewriter: Rewriter, node: Node) -> Value | None:
    divisor = rewriter.splat(node.inputs[1])
    dtype = node.output.type.dtype
    # Between these powers divisor and reciprocal are normal numbers, also where subnormal ones are flushed to 0.
    limit = {DType.F16: 14, DType.F64: 1022}.get(dtype, 126)
    if not dtype.is_float or not divisor or not math.isfinite(divisor):
        return None
    mantissa, exponent = math.frexp(divisor)
    if abs(mantissa) != 0.5 or abs(exponent - 1) > limit:
        return None
    return rewriter.mul(node.inputs[0], 1.0 / divisor)


_LOSSLESS: dict[DType, frozenset[DType]] = {
    DType.BOOL: frozenset(DType),
    DType.U8: frozenset(DType) - {DType.BOOL, DType.I8},
    DType.I8: frozenset(DType) - {DType.BOOL, DType.U8},
    DType.I16: frozenset({DType.I16, DType.I32, DType.I64, DType.F32, DType.F64}),
    DType.I32: frozenset({DType.I32, DType.I64, DType.F64}),
    DType.I64: frozenset({DType.I64}),
    DType.F16: frozenset({DType.F16, DType.F32, DType.F64}),
    DType.BF16: frozenset({DType.BF16, DType.F32, DType.F64}),
    DType.F32: frozenset({DType.F32, DType.F64}),
    DType.F64: frozenset({DType.F64}),
}
"""The types that hold every value of a type; through them a cast loses nothing (bf16 has 8 bits, so u8 fits)."""


def _cast_chain(rewriter: Rewriter, node: Node) -> Value | None:
    source, target = node.inputs[0], node.output.type.dtype
    if source.type.dtype is target:
        return source
    inner = rewriter.producer(source, "cast")
    if inner is None or source.type.dtype not in _LOSSLESS[inner.inputs[0].type.dtype]:
        return None
    return rewriter.cast(inner.inputs[0], target)


def _combine_bounds(rewriter: Rewriter, node: Node) -> Value | None:
    """maximum(maximum(x, a), b) is maximum(x, maximum(a, b)) for constants, and the same for minimum."""
    inner = rewriter.producer(node.inputs[0], node.primitive)
    outer = rewriter.splat(node.inputs[1])
    bound = rewriter.splat(inner.inputs[1]) if inner is not None else None
    if inner is None or outer is None or bound is None or math.isnan(outer) or math.isnan(bound):
        return None
    choose = max if node.primitive == "maximum" else min
    return getattr(rewriter, node.primitive)(inner.inputs[0], choose(bound, outer))  # type: ignore[no-any-return]


def _compare_bounded(rewriter: Rewriter, node: Node) -> Value | None:
    """Compare the maximum where it is at hand: x > c is max(x, c) > c, and x need not be kept for it.

    So the gradient of relu reads relu's result, and what comes before relu can stay inside a kernel.
    """
    bounded = rewriter.computed("maximum" if node.primitive == "gt" else "minimum", *node.inputs)
    return None if bounded is None else rewriter.emit(node.primitive, bounded, node.inputs[1])


def _compute_before_broadcast(rewriter: Rewriter, node: Node) -> Value | None:
    """f(broadcast(x), broadcast(y)) is broadcast(f(x, y)) when both repeat along the same axes."""
    sources: list[Value | Scalar] = []
    spread: Node | None = None
    for value in node.inputs:
        number = rewriter.splat(value)
        producer = rewriter.producer(value, "broadcast")
        if producer is None and number is None:
            return None
        if producer is not None:
            if spread is not None and not _alike(spread, producer):
                return None
            spread = spread or producer
        sources.append(producer.inputs[0] if producer is not None else number)  # type: ignore[arg-type]
    if spread is None:
        return None
    shape = spread.inputs[0].type.shape
    operands = [
        source if isinstance(source, Value) else rewriter.full(source, value.type.with_shape(shape))
        for source, value in zip(sources, node.inputs, strict=True)
    ]
    small = rewriter.emit(node.primitive, *operands, **node.attributes)
    return rewriter.broadcast(small, spread.attributes["shape"], spread.attributes["axes"])


def _alike(a: Node, b: Node) -> bool:
    return a.attributes["axes"] == b.attributes["axes"] and same_shape(
        a.inputs[0].type.shape, b.inputs[0].type.shape
    )


RULES = (
    *TABLE,
    Rule(
        "div(x, 2**k) -> mul(x, 2**-k)",
        "both are the exact quotient, rounded",
        on("div"),
        _divide_by_power_of_two,
    ),
    Rule("cast(cast(x)) -> cast(x)", "the inner cast loses nothing", on("cast"), _cast_chain),
    Rule(
        "maximum(maximum(x, a), b) -> maximum(x, c)",
        "bounds are no NaN",
        on("maximum", "minimum"),
        _combine_bounds,
    ),
    Rule(
        "gt(x, c) -> gt(maximum(x, c), c)",
        "also for NaN; x == c is false in both",
        on("gt", "lt"),
        _compare_bounded,
    ),
    Rule(
        "f(broadcast(x)) -> broadcast(f(x))",
        "the same operation on the same elements, fewer times",
        of_kind(Kind.ELEMENTWISE),
        _compute_before_broadcast,
    ),
)
