"""Rules that compute on constants: what is known when the program is compiled is not computed when it runs.

Arithmetic goes through each primitive's oracle in the tensor's own element type, so a folded f32 constant has the
bits that the program would have computed, NaN, infinities, signed zeros and rounding included.
"""

from __future__ import annotations

import math
from typing import Any

from graphc.ir.graph import Node, Value
from graphc.passes.rewrite import Rewriter, Rule, of_kind, on
from graphc.passes.rules.pattern import algebraic
from graphc.passes.rules.reductions import times
from graphc.primitives.builder import Scalar
from graphc.primitives.declare import Kind, primitive
from graphc.types import DType, product

_BITS = "computed by the oracle in the same element type"
_COPIES = "every element is the same"
_WIDEST = {float: DType.F64, int: DType.I64, bool: DType.BOOL}


def evaluate(node: Node, numbers: list[Scalar]) -> Scalar | None:
    """The result of an elementwise node on numbers; None where its value is unspecified."""
    import torch

    target = node.output.type.dtype
    if target.is_integer and any(isinstance(n, float) and not _fits(n, target) for n in numbers):
        return None
    operands = tuple(
        torch.tensor(number, dtype=_WIDEST[type(number)].torch).to(value.type.dtype.torch)
        for number, value in zip(numbers, node.inputs, strict=True)
    )
    (result,) = primitive(node.primitive).oracle(operands, node, ((),))
    number: Any = result.item()
    return number  # type: ignore[no-any-return]


def _fits(number: float, dtype: DType) -> bool:
    """True when a cast of the number to an integer type is defined."""
    import torch

    limits = torch.iinfo(dtype.torch)
    return math.isfinite(number) and limits.min <= math.trunc(number) <= limits.max


def _elementwise(rewriter: Rewriter, node: Node) -> Value | None:
    numbers = [rewriter.splat(value) for value in node.inputs]
    known = [number for number in numbers if number is not None]
    result = evaluate(node, known) if known and len(known) == len(numbers) else None
    return None if result is None else rewriter.full_like(result, node.output)


def _moved(rewriter: Rewriter, node: Node) -> Value | None:
    """A view or reshape of one number, the padding included, is that number."""
    numbers = [rewriter.splat(value) for value in node.inputs]
    fill = primitive(node.primitive).fill
    if fill is not None:
        numbers.append(fill(node))
    first = numbers[0]
    # repr tells 0.0 from -0.0 and takes NaN for NaN.
    if first is None or any(number is None or repr(number) != repr(first) for number in numbers):
        return None
    return rewriter.full_like(first, node.output)


def _gathered(rewriter: Rewriter, node: Node) -> Value | None:
    number = rewriter.splat(node.inputs[0])
    return None if number is None else rewriter.full_like(number, node.output)


def _reduced(rewriter: Rewriter, node: Node) -> Value | None:
    """A reduction of n equal numbers, n not 0 (named dimensions are at least 1)."""
    number = rewriter.splat(node.inputs[0])
    count = product(node.inputs[0].type.shape[axis] for axis in node.attributes["axes"])
    if number is None or count == 0:
        return None
    match node.primitive:
        case "reduce_max" | "reduce_min" | "reduce_any":
            return rewriter.full_like(number, node.output)
        case "argmax" | "argmin":
            return rewriter.full_like(0, node.output)
        case "reduce_sum":
            return times(rewriter, rewriter.full_like(number, node.output), count)
        case "reduce_prod" if node.output.type.dtype.is_float and isinstance(count, int):
            power = rewriter.full(count, node.output.type)
            return rewriter.pow(rewriter.full_like(number, node.output), power)
    return None


def _known_dim(rewriter: Rewriter, node: Node) -> Value | None:
    size = node.attributes["value"]
    return rewriter.full_like(size, node.output) if isinstance(size, int) else None


def _iota_of_one(rewriter: Rewriter, node: Node) -> Value | None:
    return (
        rewriter.full_like(0, node.output) if node.output.type.shape[node.attributes["axis"]] == 1 else None
    )


RULES = (
    Rule("f(constants) -> constant", _BITS, of_kind(Kind.ELEMENTWISE), _elementwise),
    Rule("view of a constant", _COPIES, of_kind(Kind.VIEW, Kind.RESHAPE), _moved),
    Rule("gather from a constant", _COPIES, of_kind(Kind.GATHER), _gathered),
    Rule(
        "reduction of a constant",
        "rounded once, not at every step",
        of_kind(Kind.REDUCTION),
        _reduced,
        exact=False,
    ),
    Rule("dim of a known size", "known", on("dim"), _known_dim),
    Rule("iota along one element", "the index is 0", on("iota"), _iota_of_one),
    algebraic("where(True, x, y)", "x", "the branch that is taken", domain="any"),
    algebraic("where(False, x, y)", "y", "the branch that is taken", domain="any"),
)
