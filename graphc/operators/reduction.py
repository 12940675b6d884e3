"""Reductions over axes: sum, mean, prod, max, min, norm, argmax and their like.

A reduction of all axes gives shape (1,), as in MXNet, whose tensors have an axis at least.
"""

from __future__ import annotations

from collections.abc import Callable

from graphc.ir.graph import Value
from graphc.operators.axes import normalize_axes, normalize_axis
from graphc.operators.declare import Compose, Context, Operator, declare
from graphc.operators.inference import BrokenRuleError, fixed_output_dtype
from graphc.operators.parameters import (
    INTEGER,
    INTEGERS,
    Parameter,
    Parameters,
    boolean,
    integer,
    optional,
)
from graphc.primitives.builder import Builder
from graphc.types import DType

Reduce = Callable[[Builder, Value, tuple[int, ...]], Value]

_AXES = Parameter("axis", optional(INTEGERS), "The axes to reduce; all by default.", None)
_KEEP = boolean("keepdims", "Leave the reduced axes in the shape, with size 1.", False)
_EXCLUDE = boolean("exclude", "Reduce all axes but those of `axis`.", False)


def _kept_shape(builder: Builder, x: Value, axes: tuple[int, ...], keepdims: bool, result: Value) -> Value:
    """The result of a reduction in the shape that the user sees."""
    if keepdims:
        return builder.reshape(result, [1 if axis in axes else dim for axis, dim in enumerate(x.type.shape)])
    return builder.reshape(result, result.type.shape or (1,))


def _reduction(reduce: Reduce) -> Compose:
    def compose(
        builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
    ) -> Value:
        x = inputs[0]
        axes = normalize_axes(parameters.axis, x.type.rank, parameters.exclude)
        result = reduce(builder, x, axes) if axes else x
        return _kept_shape(builder, x, axes, parameters.keepdims, result)

    return compose


def _primitive(name: str) -> Reduce:
    return lambda builder, x, axes: builder.reduce(name, x, axes)


def _without_nan(name: str, neutral: float) -> Reduce:
    return lambda builder, x, axes: builder.reduce(name, builder.where(builder.is_nan(x), neutral, x), axes)


def _mean(builder: Builder, x: Value, axes: tuple[int, ...]) -> Value:
    return builder.mean(x, axes)


_TABLE: tuple[tuple[str, str, Reduce, tuple[str, ...]], ...] = (
    ("sum", "The sum", _primitive("reduce_sum"), ("sum_axis",)),
    ("mean", "The arithmetic mean", _mean, ()),
    ("prod", "The product", _primitive("reduce_prod"), ()),
    ("max", "The greatest element", _primitive("reduce_max"), ("max_axis",)),
    ("min", "The least element", _primitive("reduce_min"), ("min_axis",)),
    ("nansum", "The sum, NaN counted as 0", _without_nan("reduce_sum", 0.0), ()),
    ("nanprod", "The product, NaN counted as 1", _without_nan("reduce_prod", 1.0), ()),
)

for _name, _doc, _reduce, _aliases in _TABLE:
    declare(
        Operator(
            _name,
            f"{_doc} over axes.",
            _reduction(_reduce),
            parameters=(_AXES, _KEEP, _EXCLUDE),
            aliases=_aliases,
        )
    )


def _norm(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    x = inputs[0]
    axes = normalize_axes(parameters.axis, x.type.rank)
    if parameters.ord == 1:
        result = builder.sum(builder.abs(x), axes)
    elif parameters.ord == 2:
        result = builder.sqrt(builder.sum(builder.mul(x, x), axes))
    else:
        raise BrokenRuleError(f"ord {parameters.ord} is neither 1 nor 2")
    return _kept_shape(builder, x, axes, parameters.keepdims, result)


declare(
    Operator(
        "norm",
        "The sum of magnitudes (ord 1) or the Euclidean norm (ord 2) over axes.",
        _norm,
        parameters=(integer("ord", "Order of the norm.", 2, minimum=1), _AXES, _KEEP),
    )
)


# Positions


def _position(name: str, axis_of: Callable[[Parameters], int | None]) -> Compose:
    def compose(
        builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
    ) -> Value:
        x, axis = inputs[0], axis_of(parameters)
        keepdims = bool(parameters.get("keepdims", False))
        flat = builder.reshape(x, (x.type.size,)) if axis is None else x
        axes = (0,) if axis is None else (normalize_axis(axis, x.type.rank),)
        index = builder.cast(builder.emit(name, flat, axes=axes), DType.F32)
        reduced = tuple(range(x.type.rank)) if axis is None else axes
        return _kept_shape(builder, x, reduced, keepdims, index)

    return compose


for _name, _doc in (("argmax", "greatest"), ("argmin", "least")):
    declare(
        Operator(
            _name,
            f"The index of the {_doc} element, the first of several, as float32; no gradient.",
            _position(_name, lambda parameters: parameters.axis),
            parameters=(
                Parameter("axis", optional(INTEGER), "The axis to search; all elements by default.", None),
                _KEEP,
            ),
            dtypes=fixed_output_dtype(DType.F32),
        )
    )

declare(
    Operator(
        "argmax_channel",
        "The index of the greatest element of axis 1, as float32; no gradient.",
        _position("argmax", lambda parameters: 1),
        dtypes=fixed_output_dtype(DType.F32),
    )
)
