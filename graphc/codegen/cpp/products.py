"""Calls of the templates for matrix products: by packed or plain operands, in packets, a row or a column."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc.codegen.cpp.expressions import TYPES, dim_text
from graphc.codegen.cpp.lane_loops import unravel
from graphc.codegen.cpp.packing import PACKED_TYPE, uses_packets
from graphc.types import Dim, DType, product

if TYPE_CHECKING:
    from graphc.codegen.cpp.anchors import Call


def print_dot(call: Call) -> tuple[str, ...]:
    """A product of matrices, one or one for each index of the leading axes."""
    a, b = call.shapes
    attributes = call.anchor.attributes
    m, k, a_strides = _matrix(a, bool(attributes.get("transpose_a", False)))
    _, n, b_strides = _matrix(b, bool(attributes.get("transpose_b", False)))
    left_type, right_type = _operand_types(call)
    accumulator, packed = call.anchor.accumulator, call.packed == 1
    plain = left_type is right_type is accumulator
    if plain and not packed and 1 in (m, n):
        return _print_matvec(call, k, a_strides, b_strides)
    c, types = call.type, ", ".join(TYPES[type] for type in (accumulator, left_type, right_type))
    left, right = (
        f"gc_matrix<{c if type is accumulator else f'{c}, {TYPES[type]}'}>{{{data}, {strides}}}"
        for type, data, strides in zip(
            (left_type, right_type), call.data, (a_strides, b_strides), strict=True
        )
    )
    sizes = ", ".join(map(dim_text, (m, n, k)))
    packets = uses_packets(left_type, right_type, call.target)
    indices = [call.index(call.axes[-2])]
    if packed:
        if packets:
            call.out.line(f"gc_packets_packed<{types}>({sizes}, {left}, {call.data[1]},")
        else:
            right = f"gc_packed<{c}>{{{call.data[1]}, {dim_text(k)}, {dim_text(n)}}}"
            call.out.line(f"gc_contract<{c}>({sizes}, {left}, {right},")
    elif plain and len(a) == 2:
        call.out.line(f"gc_gemm<{c}>({sizes}, {left}, {right},")
    else:
        item = call.names.new("item")
        outer = {axis: f"({text})" for axis, text in unravel(item, call.axes[:-2]).items()} if a[:-2] else {}
        indices.insert(0, (item, outer))
        a_step, b_step = (dim_text(product(shape[-2:])) for shape in (a, b))
        name = "gc_packets" if packets else "gc_gemm_of"
        batch = dim_text(product(a[:-2]))
        call.out.line(f"{name}<{types}>({batch}, {sizes}, {left}, {a_step}, {right}, {b_step},")
    call.epilogue(indices, call.axes[-1:])
    return ("gemm.h", "packet.h") if packets else ("gemm.h",)


def _operand_types(call: Call) -> tuple[DType, DType]:
    """The element types of the operands, of a packed one that before."""
    types = [call.kernel.parameter(name).type.dtype for name in call.anchor.operands]
    if call.packed is not None:
        types[call.packed] = call.anchor.attributes[PACKED_TYPE]
    return types[0], types[1]


def _print_matvec(call: Call, k: Dim, a_strides: str, b_strides: str) -> tuple[str, ...]:
    """A product with a single row or column: the other operand is read once, where it lies."""
    m, n = call.anchor.result.shape[-2:]
    (x, y), (a, b), c = call.data, call.shapes, call.type
    x_step, y_step = (dim_text(product(shape[-2:])) for shape in (a, b))
    batch = dim_text(product(a[:-2]))
    if m == 1:
        name, extent = "gc_vector_matrix", n
        k_stride, n_stride = b_strides.split(", ", 1)
        vector, matrix = f"{{{x}, {x_step}}}", f"{{{y}, {y_step}, {n_stride}, {k_stride}}}"
    else:
        name, extent = "gc_matrix_vector", m
        vector, matrix = f"{{{y}, {y_step}}}", f"{{{x}, {x_step}, {a_strides}}}"
    call.out.line(f"{name}<{c}>({batch}, {dim_text(extent)}, {dim_text(k)}, {vector}, {matrix},")
    item = call.names.new("item")
    outer = {axis: f"({text})" for axis, text in unravel(item, call.axes[:-2]).items()} if len(a) > 2 else {}
    call.epilogue([(item, outer), call.index(call.axes[-2])], call.axes[-1:])
    return ("matvec.h",)


def pack_dot(call: Call) -> tuple[str, ...]:
    """Pack the second operand of a product."""
    k, n, strides = _matrix(call.shapes[0], bool(call.anchor.attributes.get("transpose_b", False)))
    left, right = call.anchor.attributes[PACKED_TYPE], call.kernel.parameters[0].type.dtype
    arguments = (
        f"{dim_text(k)}, {dim_text(n)}, {call.data[0]}, {strides}, "
        f"{call.buffers[call.kernel.parameters[1].name]}"
    )
    if uses_packets(left, right, call.target):
        types = ", ".join(TYPES[type] for type in (call.anchor.accumulator, left, right))
        call.out.line(f"gc_pack_packets<{types}>({arguments});")
        return ("gemm.h", "packet.h")
    call.out.line(f"gc_pack_right<{call.type}>({arguments});")
    return ("tile.h", "packed.h")


def _matrix(shape: tuple[Dim, ...], transposed: bool) -> tuple[Dim, Dim, str]:
    """(rows, columns, "row stride, column stride") of an operand as the product sees it."""
    rows, columns = shape[-2:]
    if transposed:
        return columns, rows, f"1, {dim_text(columns)}"
    return rows, columns, f"{dim_text(columns)}, 1"
