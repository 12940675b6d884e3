"""What Symbol.infer_shape and Symbol.infer_type answer, and what tracing and binding need to know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphc.diagnostics import Operand, closest, fail, user_location
from graphc.operators.inference import format_shape, is_complete
from graphc.symbol.hints import read_dtype, read_shape
from graphc.symbol.infer import ShapeTable, infer_dtypes, infer_shapes
from graphc.symbol.node import check_names, topological, variables
from graphc.types import DType, numpy_dtype

if TYPE_CHECKING:
    from graphc.symbol.symbol import Symbol


def _by_name(symbol: Symbol, args: Sequence[Any], kwargs: Mapping[str, Any], what: str) -> dict[str, Any]:
    """What is given for each variable: positional values follow list_arguments()."""
    names = symbol.list_arguments()
    if len(args) > len(names):
        message = f"{len(args)} {what} are given for {len(names)} arguments"
        raise fail("G209", message, operator="Symbol", name=symbol.name or "group", location=user_location())
    given = {name: value for name, value in zip(names, args, strict=False) if value is not None}
    given |= {name: value for name, value in kwargs.items() if value is not None}
    check_known(symbol, given, what)
    return given


def check_known(symbol: Symbol, names: Iterable[str], what: str) -> None:
    """Error G209 when something is given for a variable that the symbol does not have."""
    inputs = symbol.list_inputs()
    for name in names:
        if name not in inputs:
            raise fail(
                "G209",
                f"{what} are given for {name!r}, and there is no such argument",
                operator="Symbol",
                name=symbol.name or "group",
                location=user_location(),
                help=closest(name, inputs) or f"it has {', '.join(inputs[:8])}",
            )


def infer_shape(
    symbol: Symbol, args: Sequence[Any], kwargs: Mapping[str, Any], partial: bool
) -> tuple[Any, Any, Any]:
    """Symbol.infer_shape and infer_shape_partial."""
    nodes = topological(symbol.entries)
    check_names(nodes)
    # The empty tuple is MXNet's word for a shape that is not known at all.
    known = {
        name: read_shape(value, "shape", name) or None
        for name, value in _by_name(symbol, args, kwargs, "shapes").items()
    }
    shapes = infer_shapes(nodes, known)
    arguments, auxiliaries = variables(symbol.entries)
    found = (
        [shapes[node][0] for node in arguments],
        [shapes[entry.node][entry.output] for entry in symbol.entries],
        [shapes[node][0] for node in auxiliaries],
    )
    if not partial and not all(is_complete(shape) for group in found for shape in group):
        return None, None, None
    return tuple([shape or () for shape in group] for group in found)  # type: ignore[return-value]


def require_complete(symbol: Symbol, shapes: ShapeTable) -> None:
    """Error G205 that names the first variable whose shape is not known, and all the others."""
    arguments, auxiliaries = variables(symbol.entries)
    missing = [node for node in (*arguments, *auxiliaries) if not is_complete(shapes[node][0])]
    if missing:
        rows = [
            Operand(node.name, format_shape(shapes[node][0]), str(node.location or ""))
            for node in missing[:8]
        ]
        message = "its shape is not given and cannot be inferred"
        raise missing[0].blame("G205", message, rows, f"give its shape, {missing[0].name}=(...)")


def complete_shapes(symbol: Symbol, shapes: Mapping[str, Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """As Symbol.infer_shape, for callers that cannot go on without: error G205 names what is missing."""
    found = infer_shape(symbol, (), shapes, partial=False)
    if found[0] is None:
        nodes = topological(symbol.entries)
        known = {name: read_shape(value, "shape", name) or None for name, value in shapes.items()}
        require_complete(symbol, infer_shapes(nodes, known))
    return found


def infer_type(
    symbol: Symbol, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], list[Any], list[Any]]:
    """Symbol.infer_type: numpy types, and torch's for bfloat16, which numpy lacks."""
    nodes = topological(symbol.entries)
    check_names(nodes)
    known = {name: read_dtype(value, name) for name, value in _by_name(symbol, args, kwargs, "types").items()}
    dtypes = infer_dtypes(nodes, known)
    arguments, auxiliaries = variables(symbol.entries)

    def public(dtype: DType | None) -> Any:
        dtype = dtype or DType.F32
        return dtype.torch if dtype is DType.BF16 else numpy_dtype(dtype).type

    return (
        [public(dtypes[node][0]) for node in arguments],
        [public(dtypes[entry.node][entry.output]) for entry in symbol.entries],
        [public(dtypes[node][0]) for node in auxiliaries],
    )
