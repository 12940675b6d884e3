"""Shapes and element types as users write them: on variables, for inference, for tracing."""

from __future__ import annotations

import ast
import math
from typing import Any

from graphc.diagnostics import GraphcError, Location, fail, user_location
from graphc.operators.inference import PartialShape
from graphc.symbol.node import SymbolNode
from graphc.types import Dim, DType, dimension, format_dim, parse_dim


def read_shape(value: Any, what: str, name: str, location: Location | None = None) -> tuple[Dim, ...]:
    """A shape from integers, words and symbolic dimensions; 0 is an unknown one.

    Error G207 for anything else: NaN, fractions, negative numbers.
    """

    def broken(problem: str) -> GraphcError:
        help = "write a tuple of integers, with 0 for an unknown and a word for a symbolic dimension"
        return fail(
            "G207",
            f"{what} {value!r} {problem}",
            operator="Variable",
            name=name,
            location=location or user_location(),
            help=help,
        )

    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise broken("is no tuple")
    dims: list[Dim] = []
    for item in value:
        if isinstance(item, float) and math.isnan(item):
            raise broken("holds NaN")
        try:
            dim = parse_dim(item) if isinstance(item, str) else dimension(0 if item is None else item)
        except (TypeError, ValueError):
            raise broken(f"holds {item!r}, which is no integer") from None
        if isinstance(dim, int) and dim < 0:
            raise broken(f"holds {dim}, and no dimension is negative")
        dims.append(dim)
    return tuple(dims)


def read_dtype(value: Any, name: str, location: Location | None = None) -> DType:
    """An element type from any of its names; error G208 when graphc has none such."""
    try:
        return DType.of(value)
    except TypeError as error:
        line = location or user_location()
        raise fail("G208", str(error), operator="Variable", name=name, location=line) from None


def format_shape_hint(shape: tuple[Dim, ...]) -> str:
    """A shape as text: (64, 'N', 784) with words for symbolic dimensions."""
    return str(tuple(dim if isinstance(dim, int) else format_dim(dim) for dim in shape))


def format_dtype_hint(dtype: DType) -> str:
    """An element type as MXNet's model files hold it: its number, or its name where MXNet has none."""
    return next((number for number, name in _NUMBERS.items() if name == dtype.value), dtype.value)


def shape_hint(node: SymbolNode) -> PartialShape:
    """The shape that a variable was declared with."""
    text = (node.attributes or {}).get("__shape__")
    if text is None:
        return None
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        value = text
    shape = read_shape(
        value if isinstance(value, (tuple, list)) else (value,), "shape", node.name, node.location
    )
    return shape or None


def dtype_hint(node: SymbolNode) -> DType | None:
    """The element type that a variable was declared with; model files may hold MXNet's number for it."""
    text = (node.attributes or {}).get("__dtype__")
    if text is None:
        return None
    return DType.of(_NUMBERS[text]) if text in _NUMBERS else read_dtype(text, node.name, node.location)


_NUMBERS = {
    "0": "f32",
    "1": "f64",
    "2": "f16",
    "3": "u8",
    "4": "i32",
    "5": "i8",
    "6": "i64",
    "7": "bool",
    "12": "bf16",
}
