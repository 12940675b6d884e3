"""Operators that give the same elements another shape or order: Reshape, Flatten, transpose and their like."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.graph import Value
from graphc.operators.axes import normalize_axes, normalize_axis
from graphc.operators.declare import Context, Operator, declare
from graphc.operators.inference import BrokenRuleError, ShapeFrame, is_guess, same_dtype_but
from graphc.operators.parameters import INTEGERS, Parameter, Parameters, boolean, integer, integers, optional
from graphc.primitives.builder import Builder
from graphc.types import Dim, dimension, floor_divide, product, same_dim

# Reshape


def _reshape(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    return builder.reshape(inputs[0], reshaped(inputs[0].type.shape, parameters.shape, parameters.reverse))


def reshaped(shape: Sequence[Dim], codes: Sequence[int], reverse: bool = False) -> tuple[Dim, ...]:
    """The shape that MXNet's codes describe.

    0 copies a dimension, -1 takes what is left over, -2 copies all the rest, -3 joins two, -4 splits one into the next
    two codes (of which one may be -1). With `reverse` they are read from the right.
    """
    if reverse:
        groups = _code_groups(codes)
        backward = [
            code for group in reversed(groups) for code in ([-4, *group[:0:-1]] if group[0] == -4 else group)
        ]
        return tuple(reversed(reshaped(tuple(reversed(shape)), backward)))
    result: list[Dim] = []
    position, unknown = 0, -1
    for group in _code_groups(codes):
        code = group[0]
        if code in (0, -3, -4) and position + (code == -3) >= len(shape):
            raise BrokenRuleError(f"code {code} of shape {tuple(codes)} has no dimension left to read")
        if code == -1 and unknown >= 0:
            raise BrokenRuleError(
                f"shape {tuple(codes)} holds -1 twice", help="only one dimension can be inferred"
            )
        if code == 0:
            result.append(shape[position])
        elif code == -1:
            unknown = len(result)
            result.append(1)
        elif code == -2:
            result += shape[position:]
            position = len(shape)
        elif code == -3:
            result.append(dimension(shape[position] * shape[position + 1]))
            position += 1
        elif code == -4:
            result += _split(shape[position], group[1], group[2])
        else:
            result.append(code)
        position += 1
    if unknown >= 0:
        result[unknown] = floor_divide(product(shape), product(result))
    if not same_dim(product(result), product(shape)):
        raise BrokenRuleError(f"shape {tuple(codes)} does not hold the elements of data")
    return tuple(result)


def _code_groups(codes: Sequence[int]) -> list[list[int]]:
    """Each code by itself, -4 with its two dimensions."""
    groups: list[list[int]] = []
    position = 0
    while position < len(codes):
        width = 3 if codes[position] == -4 else 1
        group = list(codes[position : position + width])
        if group[0] < -4 or len(group) < width:
            raise BrokenRuleError(f"shape {tuple(codes)} is no list of dimensions and codes 0 to -4")
        groups.append(group)
        position += width
    return groups


def _split(dim: Dim, first: int, second: int) -> tuple[Dim, Dim]:
    if first == -1 and second == -1:
        raise BrokenRuleError("-4 is followed by two -1", help="give one of the two dimensions")
    if first == -1:
        return floor_divide(dim, second), second
    return (first, floor_divide(dim, first)) if second == -1 else (first, second)


declare(
    Operator(
        "Reshape",
        "The same elements, in the same order, in another shape.",
        _reshape,
        parameters=(
            integers(
                "shape",
                "Dimensions, or codes: 0 copies one, -1 infers one, -2 copies the rest, -3 joins two, -4 splits one.",
                minimum=-4,
            ),
            boolean("reverse", "Read the codes from the right.", False),
        ),
        aliases=("reshape",),
    )
)


def _flatten(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    x = inputs[0]
    return builder.reshape(x, (x.type.shape[0], product(x.type.shape[1:])))


def _flatten_shapes(frame: ShapeFrame) -> None:
    data, output = frame["data"], frame.outputs[0]
    if data == ():
        raise BrokenRuleError("data needs an axis at least")
    if data is not None and output is not None:
        frame.expect("data", (output[0], *[0] * (len(data) - 1)), "data and output have the same examples")


declare(
    Operator(
        "Flatten",
        "Joins all axes but the first.",
        _flatten,
        shapes=_flatten_shapes,
        aliases=("flatten",),
    )
)


def _reshape_like(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    lhs, rhs = inputs
    if not same_dim(lhs.type.size, rhs.type.size):
        raise BrokenRuleError("operands have different numbers of elements")
    return builder.reshape(lhs, rhs.type.shape)


declare(
    Operator(
        "reshape_like",
        "The elements of lhs in the shape of rhs.",
        _reshape_like,
        arguments=("lhs", "rhs"),
        dtypes=same_dtype_but("rhs"),
    )
)


# Axes


def _transpose(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    x = inputs[0]
    rank = x.type.rank
    axes = tuple(normalize_axis(axis, rank) for axis in parameters.axes) or tuple(reversed(range(rank)))
    if sorted(axes) != list(range(rank)):
        raise BrokenRuleError(f"axes {parameters.axes} are no order of the {rank} axes of data")
    return builder.transpose(x, axes)


declare(
    Operator(
        "transpose",
        "The axes in another order.",
        _transpose,
        parameters=(integers("axes", "The new order; reversed by default.", ()),),
    )
)


def _swap_axes(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    x = inputs[0]
    first, second = (normalize_axis(axis, x.type.rank) for axis in (parameters.dim1, parameters.dim2))
    axes = list(range(x.type.rank))
    axes[first], axes[second] = second, first
    return builder.transpose(x, axes)


declare(
    Operator(
        "SwapAxis",
        "Two axes exchanged.",
        _swap_axes,
        parameters=(integer("dim1", "The first axis.", 0), integer("dim2", "The second axis.", 0)),
        aliases=("swapaxes",),
    )
)


def _expand_dims(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    shape = list(inputs[0].type.shape)
    shape.insert(normalize_axis(parameters.axis, len(shape) + 1), 1)
    return builder.reshape(inputs[0], shape)


declare(
    Operator(
        "expand_dims",
        "A new axis of size 1.",
        _expand_dims,
        parameters=(integer("axis", "Where the new axis stands in the result."),),
    )
)


def _squeeze(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    x = inputs[0]
    if parameters.axis is None:
        if any(is_guess(dim) for dim in x.type.shape):
            raise BrokenRuleError("an axis of unknown size may be dropped or not", help="give axis=")
        dropped = {axis for axis, dim in enumerate(x.type.shape) if dim == 1}
    else:
        dropped = set(normalize_axes(parameters.axis, x.type.rank))
    for axis in dropped:
        if x.type.shape[axis] != 1:
            raise BrokenRuleError(
                f"axis {axis} has {x.type.shape[axis]} elements, only an axis of 1 can be dropped"
            )
    kept = [dim for axis, dim in enumerate(x.type.shape) if axis not in dropped]
    return builder.reshape(x, kept or (1,))


declare(
    Operator(
        "squeeze",
        "Drops axes of size 1.",
        _squeeze,
        parameters=(
            Parameter("axis", optional(INTEGERS), "The axes to drop; all of size 1 by default.", None),
        ),
    )
)
