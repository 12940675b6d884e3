"""Functions of graphc.symbol that choose an operator by what they are given, as MXNet's Python layer does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.diagnostics import fail, user_location
from graphc.symbol.compose import apply_function
from graphc.symbol.symbol import Symbol


def _choose(tensors: str, scalar: str, swapped: str, left: Any, right: Any) -> Symbol:
    """The operator for two symbols, or for a symbol and a number on either side."""
    if isinstance(left, Symbol):
        called, inputs = (tensors, (left, right)) if isinstance(right, Symbol) else (scalar, (left, right))
        return apply_function(called, inputs, {})
    if not isinstance(right, Symbol):
        message = f"{left!r} and {right!r} are both numbers, and one must be a symbol"
        raise fail("G109", message, operator=tensors, location=user_location())
    return apply_function(swapped, (right, left), {})


def maximum(left: Any, right: Any) -> Symbol:
    """The greater of two, elementwise; one may be a number."""
    return _choose("_Maximum", "_MaximumScalar", "_MaximumScalar", left, right)


def minimum(left: Any, right: Any) -> Symbol:
    """The lesser of two, elementwise; one may be a number."""
    return _choose("_Minimum", "_MinimumScalar", "_MinimumScalar", left, right)


def power(base: Any, exp: Any) -> Symbol:
    """Base ** exp, elementwise; one may be a number."""
    return _choose("_Power", "_PowerScalar", "_RPowerScalar", base, exp)


pow = power


def hypot(left: Any, right: Any) -> Symbol:
    """sqrt(left² + right²), elementwise; one may be a number."""
    return _choose("_Hypot", "_HypotScalar", "_HypotScalar", left, right)


def zeros(shape: int | Sequence[int], dtype: Any = None, **kwargs: Any) -> Symbol:
    """A tensor of zeros."""
    return apply_function("_zeros", (), {"shape": shape, "dtype": dtype or "float32", **kwargs})


def ones(shape: int | Sequence[int], dtype: Any = None, **kwargs: Any) -> Symbol:
    """A tensor of ones."""
    return apply_function("_ones", (), {"shape": shape, "dtype": dtype or "float32", **kwargs})


def full(shape: int | Sequence[int], val: float, dtype: Any = None, **kwargs: Any) -> Symbol:
    """A tensor of one value."""
    return apply_function("_full", (), {"shape": shape, "value": val, "dtype": dtype or "float32", **kwargs})


def arange(
    start: float,
    stop: float | None = None,
    step: float = 1.0,
    repeat: int = 1,
    dtype: Any = None,
    **kwargs: Any,
) -> Symbol:
    """Numbers from start up to, and without, stop; from 0 up to start where stop is not given."""
    given = {"start": start, "stop": stop, "step": step, "repeat": repeat, "dtype": dtype or "float32"}
    return apply_function("_arange", (), {**given, **kwargs})
