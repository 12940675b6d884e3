"""Rules that take factors and means out of sums, so that a normalization's gradient needs no third reduction.

The gradient of x - mean(x) sums terms such as k * (x - mean(x)), which is 0 but for rounding, and y * s with s the
same along the summed axes, which is s times the sum of y, a sum that is often at hand. Without these rules that sum
needs another pass over the whole tensor once the other sums are known.
"""

from __future__ import annotations

from graphc.ir.graph import Node, Value
from graphc.passes.rewrite import Rewriter, Rule, on
from graphc.passes.rules.reductions import repeated_axes, times, without_repeats
from graphc.primitives.builder import Scalar
from graphc.types import DType, product

_DEPTH = 24
"""Sums within sums within ... are left alone from here on."""

_WIDE = (DType.F32, DType.F64)
"""Types whose range holds the sum wherever it holds the terms times their factor, for the models there are."""


def _negated(rewriter: Rewriter, node: Node) -> Value | None:
    inner = rewriter.producer(node.inputs[0], "neg")
    if inner is None or rewriter.depth > _DEPTH:
        return None
    return rewriter.neg(rewriter.emit("reduce_sum", inner.inputs[0], axes=node.attributes["axes"]))


def _take_factor(rewriter: Rewriter, node: Node) -> Value | None:
    """sum(x * s) is sum(x) * s when s is the same along all summed axes, and so for a quotient.

    A number stays inside where nothing follows from its leaving: x * s may have other readers, who need it in memory,
    and x would then lie there beside it for the sum alone.
    """
    inner = rewriter.producer(node.inputs[0], "mul", "div")
    axes = node.attributes["axes"]
    if inner is None or node.output.type.dtype not in _WIDE or rewriter.depth > _DEPTH:
        return None
    for position in (0, 1) if inner.primitive == "mul" else (1,):
        factor, rest = _along(rewriter, inner.inputs[position], axes), inner.inputs[1 - position]
        if isinstance(factor, Value) or (factor is not None and _gains(rewriter, rest, axes)):
            total = rewriter.emit("reduce_sum", rest, axes=axes)
            operands = (total, factor) if position == 1 else (factor, total)
            result: Value = getattr(rewriter, inner.primitive)(*operands)
            return result
    return None


def _gains(rewriter: Rewriter, value: Value, axes: tuple[int, ...]) -> bool:
    """True where the sum of a value is at hand, or where another rule simplifies it."""
    if rewriter.computed("reduce_sum", value, axes=axes) is not None:
        return True
    inner = rewriter.producer(value, "neg", "mul", "div", "add", "sub", "broadcast", "reduce_sum")
    if inner is None or inner.primitive in ("neg", "broadcast", "reduce_sum"):
        return inner is not None
    if inner.primitive in ("mul", "div"):
        return any(_along(rewriter, operand, axes) is not None for operand in inner.inputs)
    return _centered(rewriter, value, axes) is not None or any(
        _vanishes(rewriter, operand, axes) for operand in inner.inputs
    )


def _along(rewriter: Rewriter, value: Value, axes: tuple[int, ...]) -> Value | Scalar | None:
    """What a value is at every place along the axes; None when it varies there."""
    number = rewriter.splat(value)
    if number is not None:
        return number
    spread = rewriter.producer(value, "broadcast")
    if spread is None or not set(axes) <= repeated_axes(spread):
        return None
    return without_repeats(rewriter, spread, axes)


def _centered(rewriter: Rewriter, value: Value, axes: tuple[int, ...]) -> tuple[Value, Value] | None:
    """Of x - mean(x) along the axes, the sum of x and the mean; None for anything else."""
    inner = rewriter.producer(value, "sub")
    spread = None if inner is None else rewriter.producer(inner.inputs[1], "broadcast")
    if inner is None or spread is None or not set(axes) <= repeated_axes(spread):
        return None
    mean = rewriter.producer(spread.inputs[0], "mul", "div")
    total = rewriter.computed("reduce_sum", inner.inputs[0], axes=axes)
    if mean is None or total is None or total.name not in (operand.name for operand in mean.inputs):
        return None
    return total, without_repeats(rewriter, spread, axes)


def _sum_centered(rewriter: Rewriter, node: Node) -> Value | None:
    """sum(x - mean) is sum(x) - n * mean: rounding noise either way, but no pass over x."""
    axes = node.attributes["axes"]
    found = _centered(rewriter, node.inputs[0], axes)
    if found is None or node.output.type.dtype not in _WIDE:
        return None
    total, mean = found
    count = product(node.inputs[0].type.shape[axis] for axis in axes)
    return rewriter.sub(total, times(rewriter, mean, count))


def _vanishes(rewriter: Rewriter, value: Value, axes: tuple[int, ...]) -> bool:
    """True for x - mean(x), and for its multiples, which sum to nothing along the axes."""
    for _ in range(_DEPTH):
        inner = rewriter.producer(value, "mul", "div", "neg")
        if inner is None:
            return _centered(rewriter, value, axes) is not None
        varying = [operand for operand in inner.inputs if not _is_repeated(rewriter, operand, axes)]
        if len(varying) != 1 or (inner.primitive == "div" and varying[0] is inner.inputs[1]):
            return False
        value = varying[0]
    return False


def _is_repeated(rewriter: Rewriter, value: Value, axes: tuple[int, ...]) -> bool:
    spread = rewriter.producer(value, "broadcast")
    return rewriter.splat(value) is not None or (spread is not None and set(axes) <= repeated_axes(spread))


def _split_off(rewriter: Rewriter, node: Node) -> Value | None:
    """sum(y + v) is sum(y) + sum(v) where v vanishes, or where v repeats and a term of y vanishes."""
    inner = rewriter.producer(node.inputs[0], "add", "sub")
    axes = node.attributes["axes"]
    if inner is None or node.output.type.dtype not in _WIDE or rewriter.depth > _DEPTH:
        return None
    x, y = inner.inputs
    if not (
        _vanishes(rewriter, x, axes)
        or _vanishes(rewriter, y, axes)
        or (_is_repeated(rewriter, y, axes) and _has_vanishing_term(rewriter, x, axes))
    ):
        return None
    sums = [rewriter.emit("reduce_sum", operand, axes=axes) for operand in inner.inputs]
    result: Value = getattr(rewriter, inner.primitive)(*sums)
    return result


def _has_vanishing_term(rewriter: Rewriter, value: Value, axes: tuple[int, ...]) -> bool:
    inner = rewriter.producer(value, "add", "sub")
    return inner is not None and any(_vanishes(rewriter, operand, axes) for operand in inner.inputs)


_ROUNDING = "the same sum, rounded in another order"

RULES = (
    Rule("sum(neg(x)) -> neg(sum(x))", "rounding is symmetric", on("reduce_sum"), _negated),
    Rule("sum(x * s) -> sum(x) * s", _ROUNDING, on("reduce_sum"), _take_factor, exact=False),
    Rule(
        "sum(x - mean) -> sum(x) - n * mean",
        "rounding noise about 0 either way; NaN and infinities make NaN either way",
        on("reduce_sum"),
        _sum_centered,
        exact=False,
    ),
    Rule("sum(y + k * (x - mean)) -> sum(y) + ...", _ROUNDING, on("reduce_sum"), _split_off, exact=False),
)
