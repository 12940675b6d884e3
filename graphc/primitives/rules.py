"""Checks that type rules share; each raises TypeRuleError with a message that states the rule."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from graphc.primitives.declare import AttributeSpec, TypeRuleError
from graphc.types import Dim, DType, Shape, TensorType, floor_divide, same_dim, same_shape, shape_of


def require(condition: bool, rule: str) -> None:
    """Raise the rule unless the condition holds."""
    if not condition:
        raise TypeRuleError(rule)


def show(shape: Sequence[Dim]) -> str:
    """A shape as it stands in messages."""
    return "[" + ",".join(str(dim).replace(" ", "") for dim in shape) + "]"


def operands(types: Sequence[TensorType], count: int) -> None:
    """The primitive takes this many operands."""
    require(len(types) == count, f"takes {count} operand{'s' * (count != 1)}, got {len(types)}")


def floating(*types: TensorType) -> None:
    """All are floating-point."""
    for type in types:
        require(type.dtype.is_float, f"operands must be floating-point, got {type}")


def numeric(*types: TensorType) -> None:
    """None is bool."""
    for type in types:
        require(type.dtype is not DType.BOOL, f"operands must be numbers, got {type}; cast the bool first")


def boolean(*types: TensorType) -> None:
    """All are bool."""
    for type in types:
        require(type.dtype is DType.BOOL, f"operands must be bool, got {type}; compare with 0 first")


def integral(what: str, type: TensorType) -> None:
    """The named operand is of an integer type."""
    require(type.dtype.is_integer, f"{what} must be integers, got {type}")


def one_dtype(*types: TensorType) -> None:
    """All have one element type."""
    names = ", ".join(str(type) for type in types)
    require(
        len({type.dtype for type in types}) <= 1,
        f"operands must have one element type, got {names}; cast first",
    )


def one_shape(*types: TensorType) -> None:
    """All have one shape, for every size of the named dimensions."""
    names = ", ".join(str(type) for type in types)
    require(
        all(same_shape(types[0].shape, type.shape) for type in types[1:]),
        f"operands must have one shape, got {names}",
    )


def shape_is(what: str, actual: Sequence[Dim], expected: Sequence[Dim]) -> None:
    """The named operand has the expected shape."""
    require(same_shape(actual, expected), f"{what} must have shape {show(expected)}, got {show(actual)}")


def shape_attribute(value: object) -> Shape:
    """A `shape` attribute: a tuple of dimensions, none of them negative."""
    require(isinstance(value, tuple), f"shape must be a tuple of dimensions, got {value!r}")
    assert isinstance(value, tuple)
    try:
        shape = shape_of(value)
    except TypeError as error:
        raise TypeRuleError(f"shape must be a tuple of dimensions: {error}") from None
    require(not any(is_negative(dim) for dim in shape), f"dimensions must not be negative, got {show(shape)}")
    return shape


def is_negative(dim: Dim) -> bool:
    """True when the dimension is below 0 for every size of the named ones."""
    return dim < 0 if isinstance(dim, int) else bool(dim.is_negative)


def axis_in(axis: object, rank: int) -> int:
    """An `axis` attribute: it lies in the rank."""
    require(
        isinstance(axis, int) and not isinstance(axis, bool) and 0 <= axis < rank,
        f"axis must lie in 0..{rank - 1} for rank {rank}, got {axis!r}",
    )
    assert isinstance(axis, int)
    return axis


def increasing_axes(axes: object, rank: int) -> tuple[int, ...]:
    """An `axes` attribute: different axes in increasing order."""
    require(isinstance(axes, tuple), f"axes must be a tuple, got {axes!r}")
    assert isinstance(axes, tuple)
    for axis in axes:
        axis_in(axis, rank)
    require(
        all(a < b for a, b in itertools.pairwise(axes)),
        f"axes must be different and in increasing order, got {axes}",
    )
    return axes


def whole_numbers(what: str, value: object, count: int, least: int) -> tuple[int, ...]:
    """An attribute of `count` known integers that are at least `least`."""
    require(
        isinstance(value, tuple)
        and len(value) == count
        and all(isinstance(v, int) and v >= least for v in value),
        f"{what} must be {count} integers of at least {least}, got {value!r}",
    )
    assert isinstance(value, tuple)
    return value


def constant(value: object, dtype: DType) -> None:
    """A constant of that element type: a Python float, int in its range, or bool."""
    expected = float if dtype.is_float else bool if dtype is DType.BOOL else int
    require(type(value) is expected, f"a constant of {dtype} takes a Python {expected.__name__}, got {value!r}")
    if dtype.is_integer:
        assert isinstance(value, int)
        bits = 8 * dtype.itemsize
        low, high = (0, 2**bits - 1) if dtype is DType.U8 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        require(low <= value <= high, f"a constant of {dtype} must lie in {low}..{high}, got {value}")


def window_count(size: Dim, window: int, stride: int, padding: int) -> Dim:
    """Number of windows along an axis: floor((size + padding - window) / stride) + 1."""
    if isinstance(size, int):
        require(
            size + padding >= window,
            f"a window of {window} must fit into the axis: it has {size} elements and {padding} of padding",
        )
    result = floor_divide(size + padding - window, stride) + 1
    return result if isinstance(result, int) else shape_of([result])[0]


DTYPE = AttributeSpec("dtype", "element type of the result")
SHAPE = AttributeSpec("shape", "shape of the result")
