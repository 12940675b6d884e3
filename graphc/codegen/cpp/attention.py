"""Attention and its gradient as calls of their C++ templates: where the rows of each item of the batch lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.codegen.cpp.expressions import TYPES, Names, affine_text, dim_text, literal
from graphc.codegen.cpp.lane_loops import unravel
from graphc.codegen.cpp.writer import Writer
from graphc.ir.kernel import Affine, AnchorOperation, Axis, Kernel, View
from graphc.types import Dim, DType, dimension, product


@dataclass(frozen=True, slots=True)
class _Place:
    """An operand or a result: the C++ name of its parameter, and its address there."""

    buffer: str
    view: View
    address: Affine


_TILE = 14  # most rows of a register tile, on any target (GC_TILE_ROWS)
_COLUMNS = 32  # most columns of one (GC_TILE_VECTORS registers)


def forward_scratch(queries: Dim, depth: Dim, width: Dim, itemsize: int) -> Dim:
    """At least the bytes of gc_attention_block (attention.h) on any target; 0 where a width is not known."""
    if not isinstance(depth, int) or not isinstance(width, int):
        return 0
    rows = 36 * _TILE
    if isinstance(queries, int):
        rows = min(rows, -(-max(1, queries) // _TILE) * _TILE)
    keys = max(2 * _COLUMNS, min(512, (1 << 18) // (max(1, depth + width) * itemsize)))
    wide = _rounded(width)
    return itemsize * (_TILE * (depth + keys) + rows * (wide + 2) + keys * (depth + wide)) + 7 * 64


def gradient_scratch(queries: Dim, depth: Dim, width: Dim, itemsize: int) -> Dim:
    """The same of gc_gradient_block (attention_gradient.h)."""
    if not isinstance(depth, int) or not isinstance(width, int):
        return 0
    keys, rows = 512 // itemsize, 8 * _TILE
    deep, wide = _rounded(depth), _rounded(width)
    fixed = _TILE * depth + 2 * rows * keys + keys * (2 * deep + wide + depth + width) + rows * (deep + wide)
    sums = max(queries, rows) if isinstance(queries, int) else queries + rows
    return dimension(itemsize * (fixed + sums * deep) + 11 * 64)


def _rounded(columns: int) -> int:
    return -(-columns // _COLUMNS) * _COLUMNS


def print_attention(
    out: Writer, kernel: Kernel, anchor: AnchorOperation, buffers: dict[str, str], names: Names
) -> tuple[str, ...]:
    """Print the call of gc_attention; returns its headers."""
    operands, results = _places(kernel, anchor, buffers)
    query, key, value, *bias = operands
    places = [query, key, value, bias[0] if bias else None, *results]
    queries, depth = query.view.shape[-2:]
    out.scratch.append(forward_scratch(queries, depth, value.view.shape[-1], anchor.accumulator.itemsize))
    _call(out, anchor, names, "gc_attention", "gc_attention_item", (query, key, value), places)
    return ("attention.h",)


def print_attention_gradient(
    out: Writer, kernel: Kernel, anchor: AnchorOperation, buffers: dict[str, str], names: Names
) -> tuple[str, ...]:
    """Print the call of gc_attention_gradient; returns its headers."""
    operands, results = _places(kernel, anchor, buffers)
    log_sum_exp, delta, d_out, query, key, value, *bias = operands
    places = [query, key, value, bias[0] if bias else None, d_out, log_sum_exp, delta, *results]
    queries, depth = query.view.shape[-2:]
    out.scratch.append(gradient_scratch(queries, depth, value.view.shape[-1], anchor.accumulator.itemsize))
    _call(out, anchor, names, "gc_attention_gradient", "gc_attention_gradients", (query, key, value), places)
    return ("attention.h", "attention_gradient.h")


def _places(
    kernel: Kernel, anchor: AnchorOperation, buffers: dict[str, str]
) -> tuple[list[_Place], list[_Place | None]]:
    """The operands and the results; None for a result that nobody reads."""
    parameters = [*anchor.operands, *anchor.results]
    views = anchor.views or (None,) * len(parameters)

    def place(name: str, view: View | None) -> _Place | None:
        if not name:
            return None
        type = kernel.parameter(name).type
        seen = view or View.whole(type.shape)
        return _Place(buffers[name], seen, seen.address(type))

    found = [place(name, view) for name, view in zip(parameters, views, strict=True)]
    count = len(anchor.operands)
    return [item for item in found[:count] if item is not None], found[count:]


def _call(
    out: Writer,
    anchor: AnchorOperation,
    names: Names,
    function: str,
    struct: str,
    matrices: tuple[_Place, _Place, _Place],
    places: Sequence[_Place | None],
) -> None:
    c = TYPES[anchor.accumulator]
    batch = matrices[0].view.axes[:-2]
    queries, depth = matrices[0].view.shape[-2:]
    keys, width = matrices[2].view.shape[-2:]
    attributes = anchor.attributes
    causal = "true" if attributes["causal"] else "false"
    sizes: list[Dim] = [product(axis.extent for axis in batch), queries, keys, depth, width]
    scale = literal(attributes["scale"], DType.F64)
    shape = ", ".join([*map(dim_text, sizes), scale, causal, dim_text(attributes["offset"])])
    item = names.new("item")
    with out.block(f"{function}<{c}>({{{shape}}}, [&](int64_t {item})", end="});"):
        indices = {axis.name: f"({text})" for axis, text in _unraveled(item, batch)}
        out.line(f"return {struct}<{c}>{{")
        for place in places:
            out.line(f"    {_strided(place, list(indices.values()))},")
        out.line("};")


def _unraveled(item: str, batch: Sequence[Axis]) -> list[tuple[Axis, str]]:
    texts = unravel(item, batch)
    return [(axis, texts[axis.name]) for axis in batch]


def _strided(place: _Place | None, indices: Sequence[str]) -> str:
    """{where the item begins, row stride, column stride}; a vector of rows has no columns."""
    if place is None:
        return "{nullptr, 0, 0}"
    axes, count = place.view.axes, len(indices)
    names = {axis.name: text for axis, text in zip(axes[:count], indices, strict=True)}
    start = Affine(
        place.address.offset, tuple((name, by) for name, by in place.address.terms if name in names)
    )
    strides = [dim_text(place.address.stride(axis.name)) for axis in axes[count:]]
    return f"{{{place.buffer} + {affine_text(start, names)}, {', '.join([*strides, '0'][:2])}}}"
