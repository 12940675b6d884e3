"""Anchored kernels: a contraction from a template header, called with the kernel's nest as its epilogue.

The templates hand finished rows of the result to the epilogue as (outer indices, first column, count, sums); the nest
is printed over such a row. Element types that a template lacks go through an ordinary reduction nest instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from graphc.codegen.cpp.expressions import TYPES, Names, dim_factor, dim_text
from graphc.codegen.cpp.nests import flatten, lower
from graphc.codegen.cpp.printer import NestPrinter, Writer
from graphc.codegen.cpp.schedule import Mode, Schedule, decide
from graphc.codegen.cpp.target import CpuTarget
from graphc.ir.kernel import (
    Affine,
    Anchor,
    AnchorOperation,
    Axis,
    Compute,
    Definition,
    Kernel,
    Load,
    Nest,
    Reduce,
    Reduction,
)
from graphc.types import Dim, DType, product

_TEMPLATED = (DType.F32, DType.F64)
Print = Callable[[Writer, Kernel, AnchorOperation, Mapping[str, str], Names], tuple[str, ...]]


def print_anchor(
    out: Writer, kernel: Kernel, buffers: dict[str, str], names: Names, target: CpuTarget
) -> tuple[str, ...]:
    """Print the call of the anchor's template; returns the headers that it needs."""
    anchor = kernel.anchor
    assert anchor is not None
    operands = [kernel.parameter(name).type.dtype for name in anchor.operands]
    if anchor.accumulator in _TEMPLATED and all(dtype is anchor.accumulator for dtype in operands):
        return _TEMPLATES[anchor.primitive](out, kernel, anchor, buffers, names)
    nest = lower(_NESTS[anchor.primitive](kernel, anchor), kernel)
    NestPrinter(out, nest, decide(nest, kernel, target), buffers, names).print()
    return ()


def _print_epilogue(
    out: Writer, kernel: Kernel, buffers: Mapping[str, str], names: Names, outer: Mapping[str, str], row: tuple[str, str, str]
) -> None:
    """The nest over one row of results; `outer` gives the text of all axes but the last, `row` (start, count, sums)."""
    (nest,) = kernel.nests
    flat = flatten(nest, kernel)
    vector = flat.axes[-1].name
    schedule = Schedule(Mode.MAP, vector, 0, frozenset(), frozenset(), 0, False)
    printer = NestPrinter(out, flat, schedule, dict(buffers), names)
    start, count, sums = row
    printer.print_row(outer, start, count, sums)


def _print_dot(
    out: Writer, kernel: Kernel, anchor: AnchorOperation, buffers: Mapping[str, str], names: Names
) -> tuple[str, ...]:
    a, b = (kernel.parameter(name).type.shape for name in anchor.operands)
    m, k, a_strides = _matrix(a, bool(anchor.attributes.get("transpose_a", False)))
    _, n, b_strides = _matrix(b, bool(anchor.attributes.get("transpose_b", False)))
    c = TYPES[anchor.accumulator]
    left, right = (buffers[name] for name in anchor.operands)
    axes = kernel.nests[0].axes
    batch = product(a[:-2])
    row, start, count, sums = (names.new(name) for name in (axes[-2].name, f"{axes[-1].name}_start", "count", "sums"))
    outer = {axes[-2].name: row}
    matrices = [f"gc_matrix<{c}>{{{data}, {strides}}}" for data, strides in ((left, a_strides), (right, b_strides))]
    sizes = ", ".join(map(dim_text, (m, n, k)))
    if len(a) == 2:
        call = f"gc_gemm<{c}>({sizes}, {matrices[0]}, {matrices[1]},"
        arguments = ""
    else:
        item = names.new("item")
        a_batch, b_batch = (dim_text(product(shape[-2:])) for shape in (a, b))
        call = f"gc_gemm_batched<{c}>({dim_text(batch)}, {sizes}, {matrices[0]}, {a_batch}, {matrices[1]}, {b_batch},"
        arguments = f"int64_t {item}, "
        outer |= _unravel(item, axes[:-2])
    out.line(call)
    with out.block(f"    [&]({arguments}int64_t {row}, int64_t {start}, int64_t {count}, const {c}* {sums})", end="});"):
        _print_epilogue(out, kernel, buffers, names, outer, (start, count, sums))
    return ("gemm.h",)


def _matrix(shape: tuple[Dim, ...], transposed: bool) -> tuple[Dim, Dim, str]:
    """(rows, columns, "row stride, column stride") of an operand as the product sees it."""
    rows, columns = shape[-2:]
    if transposed:
        return columns, rows, f"1, {dim_text(columns)}"
    return rows, columns, f"{dim_text(columns)}, 1"


def _unravel(item: str, axes: tuple[Axis, ...]) -> dict[str, str]:
    """The axes' values at row-major number `item`."""
    texts: dict[str, str] = {}
    stride: Dim = 1
    for position, axis in reversed(list(enumerate(axes))):
        text = item if stride == 1 else f"{item} / {dim_factor(stride)}"
        texts[axis.name] = text if position == 0 else f"({text} % {dim_factor(axis.extent)})"
        if position == 0 and stride != 1:
            texts[axis.name] = f"({text})"
        stride = product((stride, axis.extent))
    return texts


def _dot_nest(kernel: Kernel, anchor: AnchorOperation) -> Nest:
    """The product as a reduction nest: for element types that the template lacks."""
    (nest,) = kernel.nests
    a, b = (kernel.parameter(name).type.shape for name in anchor.operands)
    transpose_a, transpose_b = (bool(anchor.attributes.get(f"transpose_{side}", False)) for side in "ab")
    k = Axis("k", a[-2] if transpose_a else a[-1], reduction=True)
    batch = tuple(Affine.axis(axis.name) for axis in nest.axes[:-2])
    m, n, depth = (Affine.axis(name) for name in (nest.axes[-2].name, nest.axes[-1].name, "k"))
    left = (*batch, depth, m) if transpose_a else (*batch, m, depth)
    right = (*batch, n, depth) if transpose_b else (*batch, depth, n)
    return _reduction_nest(kernel, anchor, (k,), (left, right))


def _reduction_nest(
    kernel: Kernel, anchor: AnchorOperation, axes: tuple[Axis, ...], indices: tuple[tuple[Affine, ...], ...]
) -> Nest:
    """sum over `axes` of left[...] * right[...], in the accumulation type, in place of the Anchor statement."""
    (nest,) = kernel.nests
    accumulator = anchor.accumulator
    body: list[Definition] = []
    factors = []
    for side, operand, index in zip(("left", "right"), anchor.operands, indices, strict=True):
        dtype = kernel.parameter(operand).type.dtype
        body.append(Load(f"anchor_{side}", dtype, operand, index, origins=anchor.origins))
        factors.append(f"anchor_{side}")
        if dtype is not accumulator:
            body.append(Compute(f"anchor_{side}_wide", accumulator, "cast", (f"anchor_{side}",)))
            factors[-1] += "_wide"
    body.append(Compute("anchor_term", accumulator, "mul", tuple(factors)))
    rest = [
        Reduce(s.name, accumulator, Reduction.SUM, "anchor_term", s.origins) if isinstance(s, Anchor) else s
        for s in nest.body
    ]
    return replace(nest, axes=(*nest.axes, *axes), body=(*body, *rest))


_TEMPLATES: Mapping[str, Print] = {"dot": _print_dot}
_NESTS: Mapping[str, Callable[[Kernel, AnchorOperation], Nest]] = {"dot": _dot_nest}
