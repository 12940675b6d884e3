"""Attention and its gradient as calls of their C++ templates: where the rows of each item of the batch lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphc.codegen.cpp.expressions import TYPES, Names, affine_text, dim_text, literal
from graphc.codegen.cpp.lane_loops import unravel
from graphc.codegen.cpp.writer import Writer
from graphc.ir.kernel import Affine, AnchorOperation, Axis, Kernel, View
from graphc.primitives.attention import drops, named
from graphc.types import Dim, DType, dimension, product

_HEADERS = ("philox.h", "attention.h")


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
    found, results = _places(kernel, anchor, buffers)
    places = [*(found.get(name) for name in ("q", "k", "v", "bias", "state")), *results]
    queries, depth = found["q"].view.shape[-2:]
    out.scratch.append(
        forward_scratch(queries, depth, found["v"].view.shape[-1], anchor.accumulator.itemsize)
    )
    _call(out, anchor, names, found, places)
    return _HEADERS


def print_attention_gradient(
    out: Writer, kernel: Kernel, anchor: AnchorOperation, buffers: dict[str, str], names: Names
) -> tuple[str, ...]:
    """Print the call of gc_attention_gradient; returns its headers."""
    found, results = _places(kernel, anchor, buffers)
    order = ("q", "k", "v", "bias", "state", "d_out", "log_sum_exp", "delta")
    places = [*map(found.get, order), *results]
    queries, depth = found["q"].view.shape[-2:]
    out.scratch.append(
        gradient_scratch(queries, depth, found["v"].view.shape[-1], anchor.accumulator.itemsize)
    )
    _call(out, anchor, names, found, places)
    return (*_HEADERS, "attention_gradient.h")


def _places(
    kernel: Kernel, anchor: AnchorOperation, buffers: dict[str, str]
) -> tuple[dict[str, _Place], list[_Place | None]]:
    """The operands by name, and the results; None for a result that nobody reads."""
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
    operands = [item for item in found[:count] if item is not None]
    return named(anchor.primitive, anchor.attributes, operands), found[count:]


def _call(
    out: Writer,
    anchor: AnchorOperation,
    names: Names,
    operands: Mapping[str, _Place],
    places: Sequence[_Place | None],
) -> None:
    c, attributes = TYPES[anchor.accumulator], anchor.attributes
    batch = operands["q"].view.axes[:-2]
    queries, depth = operands["q"].view.shape[-2:]
    keys, width = operands["v"].view.shape[-2:]
    causal = "true" if attributes["causal"] else "false"
    sizes: list[Dim] = [product(axis.extent for axis in batch), queries, keys, depth, width]
    scale = literal(attributes["scale"], DType.F64)
    numbers = [*map(dim_text, sizes), scale, causal, dim_text(attributes["offset"])]
    if drops(attributes):
        numbers += [literal(attributes["keep"], DType.F64), str(attributes["stream"])]
    is_gradient = anchor.primitive == "attention_gradient"
    struct = "gc_attention_gradients" if is_gradient else "gc_attention_item"
    item = names.new("item")
    with out.block(f"gc_{anchor.primitive}<{c}>({{{', '.join(numbers)}}}, [&](int64_t {item})", end="});"):
        indices = {axis.name: f"({text})" for axis, text in _unraveled(item, batch)}
        out.line(f"return {struct}<{c}>{{{item + ',' if is_gradient else ''}")
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
