"""Arithmetic on affine indices: exact division of dimensions, reshape of an index, mixed-radix coverage.

An axis runs over 0 ... extent - 1. A reshape maps the index of a result element to the index of the operand element
with the same row-major number. That is affine when every axis falls into one operand dimension; where an axis would
straddle two of them it must be split first, which SplitNeededError asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from graphc.ir.kernel import Affine
from graphc.types import Dim, dimension, row_major_strides, same_dim

ZERO = Affine()


class NotAffineError(Exception):
    """An index is no integer combination of axes; the message is the reason in plain words."""


class SplitNeededError(Exception):
    """An axis must become two, the inner one of extent `inner`, before an index is affine."""

    def __init__(self, axis: str, inner: Dim) -> None:
        super().__init__(f"axis {axis} must be split by {inner}")
        self.axis = axis
        self.inner = inner


def exact_quotient(a: Dim, b: Dim) -> Dim | None:
    """A / b when b divides a for all values of the symbolic dimensions, else None."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b != 0 and a % b == 0 else None
    if a == 0:
        return 0
    import sympy

    numerator, denominator = sympy.fraction(sympy.cancel(sympy.sympify(a) / sympy.sympify(b)))
    if denominator == -1:
        numerator, denominator = -numerator, sympy.Integer(1)
    return dimension(sympy.expand(numerator)) if denominator == 1 else None


def is_less(a: Dim, b: Dim) -> bool:
    """True when a < b is certain."""
    if isinstance(a, int) and isinstance(b, int):
        return a < b
    import sympy

    return bool(sympy.expand(sympy.sympify(b) - sympy.sympify(a)).is_positive)


def ordered(expression: Affine) -> Affine:
    """The expression with its variables in sorted order, so that equal ones compare equal."""
    if len(expression.terms) < 2:
        return expression
    return Affine(expression.offset, tuple(sorted(expression.terms, key=lambda term: term[0])))


def bounds(expression: Affine, extents: Mapping[str, Dim]) -> tuple[Dim, Dim]:
    """Least and greatest value; NotAffineError when a variable is no axis."""
    low = high = expression.offset
    for name, stride in expression.terms:
        if name not in extents:
            raise NotAffineError("an index read from memory has no known range")
        reach = dimension(stride * (extents[name] - 1))
        if isinstance(stride, int) and stride < 0:
            low = low + reach
        else:
            high = high + reach
    return dimension(low), dimension(high)


def divide(expression: Affine, divisor: Dim, extents: Mapping[str, Dim]) -> tuple[Affine, Affine]:
    """(quotient, remainder) of an expression by a dimension; raises SplitNeededError or NotAffineError."""
    if isinstance(divisor, int) and divisor == 1:
        return expression, ZERO
    outer: list[tuple[str, Dim]] = []
    inner: list[tuple[str, Dim]] = []
    for name, stride in expression.terms:
        quotient = exact_quotient(stride, divisor)
        if quotient is not None:
            outer.append((name, quotient))
            continue
        if name not in extents:
            raise NotAffineError("an index read from memory would be split over two dimensions")
        _check_straddle(name, stride, divisor, extents[name])
        inner.append((name, stride))
    remainder = Affine(0, tuple(inner))
    low, high = bounds(remainder, extents)
    carry = _carry(expression.offset, low, divisor)
    offset = dimension(expression.offset - carry * divisor)
    if is_less(offset + low, 0) or not is_less(offset + high, divisor):
        raise NotAffineError("an axis of one shape ends inside an axis of the other")
    return ordered(Affine(carry, tuple(outer))), ordered(Affine(offset, tuple(inner)))


def _check_straddle(name: str, stride: Dim, divisor: Dim, extent: Dim) -> None:
    size = -stride if isinstance(stride, int) and stride < 0 else stride
    factor = exact_quotient(divisor, size)
    if factor is None or same_dim(extent, factor):
        return
    pieces = exact_quotient(extent, factor)
    if pieces is not None and pieces not in (0, 1):
        raise SplitNeededError(name, factor)


def _carry(offset: Dim, low: Dim, divisor: Dim) -> Dim:
    if isinstance(offset, int) and isinstance(low, int) and isinstance(divisor, int):
        return (offset + low) // divisor
    whole = exact_quotient(offset, divisor)
    return 0 if whole is None else whole


def flatten(index: Sequence[Affine], shape: Sequence[Dim]) -> Affine:
    """The row-major number of an element."""
    if len(index) == 1:
        return index[0]
    terms: list[tuple[str, Dim]] = []
    offset: Dim = 0
    for position, stride in zip(index, row_major_strides(shape), strict=True):
        offset = offset + position.offset * stride
        terms.extend((name, coefficient * stride) for name, coefficient in position.terms)
    return ordered(Affine.make(offset, terms))


def unflatten(expression: Affine, shape: Sequence[Dim], extents: Mapping[str, Dim]) -> tuple[Affine, ...]:
    """The index of the element with that row-major number."""
    result: list[Affine] = []
    for dim in reversed(shape[1:]):
        expression, remainder = divide(expression, dim, extents)
        result.append(remainder)
    result.append(expression)
    return tuple(reversed(result)) if shape else ()


Segment = tuple[range, range]


def segments(a: Sequence[Dim], b: Sequence[Dim]) -> list[Segment]:
    """The finest cut of two shapes of one size into runs of dimensions with equal products."""
    cuts: list[Segment] = []
    i = j = 0
    while i < len(a) or j < len(b):
        start_i, start_j = i, j
        left: Dim = 1
        right: Dim = 1
        grow_left, grow_right = i < len(a), j < len(b)
        while grow_left or grow_right:
            if grow_left:
                left, i = dimension(left * a[i]), i + 1
            if grow_right:
                right, j = dimension(right * b[j]), j + 1
            grow_left, grow_right = _shorter(left, right)
            grow_left, grow_right = grow_left and i < len(a), grow_right and j < len(b)
        cuts.append((range(start_i, i), range(start_j, j)))
    return cuts


def _shorter(left: Dim, right: Dim) -> tuple[bool, bool]:
    """Which of two unequal products must take another dimension; both when neither divides the other."""
    if same_dim(left, right):
        return False, False
    if isinstance(left, int) and isinstance(right, int):
        return left < right, right < left
    divides_right = exact_quotient(right, left) is not None
    divides_left = exact_quotient(left, right) is not None
    return not divides_left, not divides_right


def reshape_index(
    index: Sequence[Affine], result: Sequence[Dim], operand: Sequence[Dim], extents: Mapping[str, Dim]
) -> tuple[Affine, ...]:
    """The operand's index for the index of a reshape's result; raises SplitNeededError or NotAffineError."""
    if any(dim == 0 for dim in result):
        return (ZERO,) * len(operand)
    source: list[Affine] = []
    for outs, ins in segments(result, operand):
        if len(outs) == len(ins) == 1:
            source.append(index[outs[0]])
            continue
        number = flatten([index[k] for k in outs], [result[k] for k in outs]) if outs else ZERO
        if len(ins) == 1:
            source.append(number)
        elif ins:
            source.extend(unflatten(number, [operand[k] for k in ins], extents))
    return tuple(source)


def covers(
    index: Sequence[Affine],
    shape: Sequence[Dim],
    axes: Iterable[str],
    extents: Mapping[str, Dim],
    guarded: frozenset[Affine] = frozenset(),
) -> bool:
    """True when the axes run over every element of the shape exactly once.

    `guarded` holds expressions that are kept below their dimension by a guard, so that they may run past it.
    """
    left = {name for name in axes if extents[name] != 1}
    for position, dim in zip(index, shape, strict=True):
        if position.offset != 0:
            return False
        radix: Dim = 1
        for name, stride in sorted(position.terms, key=lambda term: _order(term[1])):
            if name not in left and extents.get(name) != 1:
                return False
            if not same_dim(stride, radix) and extents[name] != 1:
                return False
            left.discard(name)
            radix = dimension(radix * extents[name])
        if not same_dim(radix, dim) and position not in guarded:
            return False
    return not left


def _order(stride: Dim) -> tuple[int, int, str]:
    """Symbolic strides lie outside integer ones; among them the one with more factors lies further out."""
    if isinstance(stride, int):
        return (0, stride, "")
    return (1, int(stride.subs(dict.fromkeys(stride.free_symbols, 97))), "")
