"""Checks that type rules share; each raises TypeRuleError with a message that states the rule."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from graphc.primitives.declare import AttributeSpec, TypeRuleError
from graphc.types import Dim, DType, Shape, TensorType, floor_divide, same_shape, shape_of


def show(shape: Sequence[Dim]) -> str:
    """A shape as it stands in messages."""
    return "[" + ",".join(str(dim).replace(" ", "") for dim in shape) + "]"


def operands(types: Sequence[TensorType], count: int) -> None:
    """The primitive takes this many operands."""
    if len(types) != count:
        raise TypeRuleError(f"takes {count} operand{'s' * (count != 1)}, got {len(types)}")


def floating(*types: TensorType) -> None:
    """All are floating-point."""
    for type in types:
        if not type.dtype.is_float:
            raise TypeRuleError(f"operands must be floating-point, got {type}")


def numeric(*types: TensorType) -> None:
    """None is bool."""
    for type in types:
        if type.dtype is DType.BOOL:
            raise TypeRuleError(f"operands must be numbers, got {type}; cast the bool first")


def boolean(*types: TensorType) -> None:
    """All are bool."""
    for type in types:
        if type.dtype is not DType.BOOL:
            raise TypeRuleError(f"operands must be bool, got {type}; compare with 0 first")


def integral(what: str, type: TensorType) -> None:
    """The named operand is of an integer type."""
    if not type.dtype.is_integer:
        raise TypeRuleError(f"{what} must be integers, got {type}")


def one_dtype(*types: TensorType) -> None:
    """All have one element type."""
    if any(type.dtype is not types[0].dtype for type in types):
        raise TypeRuleError(f"operands must have one element type, got {_names(types)}; cast first")


def one_shape(*types: TensorType) -> None:
    """All have one shape, for every size of the named dimensions."""
    if not all(same_shape(types[0].shape, type.shape) for type in types[1:]):
        raise TypeRuleError(f"operands must have one shape, got {_names(types)}")


def _names(types: Sequence[TensorType]) -> str:
    return ", ".join(map(str, types))


def shape_is(what: str, actual: Sequence[Dim], expected: Sequence[Dim]) -> None:
    """The named operand has the expected shape."""
    if not same_shape(actual, expected):
        raise TypeRuleError(f"{what} must have shape {show(expected)}, got {show(actual)}")


def shape_attribute(value: object) -> Shape:
    """A `shape` attribute: a tuple of dimensions, none of them negative."""
    if not isinstance(value, tuple):
        raise TypeRuleError(f"shape must be a tuple of dimensions, got {value!r}")
    try:
        shape = shape_of(value)
    except TypeError as error:
        raise TypeRuleError(f"shape must be a tuple of dimensions: {error}") from None
    if any(is_negative(dim) for dim in shape):
        raise TypeRuleError(f"dimensions must not be negative, got {show(shape)}")
    return shape


def is_negative(dim: Dim) -> bool:
    """True when the dimension is below 0 for every size of the named ones."""
    return dim < 0 if isinstance(dim, int) else bool(dim.is_negative)


def axis_in(axis: object, rank: int) -> int:
    """An `axis` attribute: it lies in the rank."""
    if not isinstance(axis, int) or isinstance(axis, bool) or not 0 <= axis < rank:
        raise TypeRuleError(f"axis must lie in 0..{rank - 1} for rank {rank}, got {axis!r}")
    return axis


def increasing_axes(axes: object, rank: int) -> tuple[int, ...]:
    """An `axes` attribute: different axes in increasing order."""
    if not isinstance(axes, tuple):
        raise TypeRuleError(f"axes must be a tuple, got {axes!r}")
    for axis in axes:
        axis_in(axis, rank)
    if not all(a < b for a, b in itertools.pairwise(axes)):
        raise TypeRuleError(f"axes must be different and in increasing order, got {axes}")
    return axes


def whole_numbers(what: str, value: object, count: int, least: int) -> tuple[int, ...]:
    """An attribute of `count` known integers that are at least `least`."""
    good = isinstance(value, tuple) and all(isinstance(v, int) and v >= least for v in value)
    if not isinstance(value, tuple) or not good or len(value) != count:
        raise TypeRuleError(f"{what} must be {count} integers of at least {least}, got {value!r}")
    return value


def constant(value: object, dtype: DType) -> None:
    """A constant of that element type: a Python float, int in its range, or bool."""
    expected = float if dtype.is_float else bool if dtype is DType.BOOL else int
    if type(value) is not expected:
        raise TypeRuleError(f"a constant of {dtype} takes a Python {expected.__name__}, got {value!r}")
    if dtype.is_integer:
        assert isinstance(value, int)
        bits = 8 * dtype.itemsize
        low, high = (0, 2**bits - 1) if dtype is DType.U8 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if not low <= value <= high:
            raise TypeRuleError(f"a constant of {dtype} must lie in {low}..{high}, got {value}")


def window_count(size: Dim, window: int, stride: int, padding: int) -> Dim:
    """Number of windows along an axis: floor((size + padding - window) / stride) + 1."""
    if isinstance(size, int) and size + padding < window:
        rule = f"a window of {window} must fit into the axis"
        raise TypeRuleError(f"{rule}: it has {size} elements and {padding} of padding")
    result = floor_divide(size + padding - window, stride) + 1
    return result if isinstance(result, int) else shape_of([result])[0]


DTYPE = AttributeSpec("dtype", "element type of the result")
SHAPE = AttributeSpec("shape", "shape of the result")
