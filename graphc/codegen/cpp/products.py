"""Calls of the templates for matrix products: by packed or plain operands, in packets, a row or a column."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from graphc.codegen.cpp.expressions import TYPES, dim_text
from graphc.codegen.cpp.lane_loops import unravel
from graphc.codegen.cpp.packing import PACKED_OPERAND, PACKED_TYPE, uses_packets
from graphc.codegen.cpp.target import CpuTarget
from graphc.codegen.cpp.unroll import guess_int
from graphc.ir.graph import Attributes
from graphc.ir.kernel import Access, Kernel
from graphc.ir.program import Program, Role
from graphc.types import Dim, DType, product

if TYPE_CHECKING:
    from graphc.codegen.cpp.anchors import Call

# Products for small_gemm.h: the least rows and columns; the most terms, and elements of the operand that streams by,
# for lanes along columns, and for lanes along terms (DOT_ROWS is GC_DOT_MOST_ROWS).
SMALL_ROWS = 8
SMALL_DEPTH, SMALL_RIGHT = 256, 1 << 17
DOT_ROWS, DOT_DEPTH, DOT_LEFT = 256, 1024, 1 << 16
DOT_GEMM = "gc_dot_gemm"
DOTS = "dots"  # the attribute of kernels that may use it


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
    indices, header = [call.index(call.axes[-2])], "gemm.h"
    if packed:
        if packets:
            call.out.line(f"gc_packets_packed<{types}>({sizes}, {left}, {call.data[1]},")
        else:
            right = f"gc_packed<{c}>{{{call.data[1]}, {dim_text(k)}, {dim_text(n)}}}"
            call.out.line(f"gc_contract<{c}>({sizes}, {left}, {right},")
    elif plain and len(a) == 2:
        name = small_product(call.kernel, call.target)
        if name is None or (name == DOT_GEMM and DOTS not in call.kernel.attributes):
            name = "gc_gemm"
        else:
            header = "small_gemm.h"
        call.out.line(f"{name}<{c}>({sizes}, {left}, {right},")
    else:
        item = call.names.new("item")
        outer = {axis: f"({text})" for axis, text in unravel(item, call.axes[:-2]).items()} if a[:-2] else {}
        indices.insert(0, (item, outer))
        a_step, b_step = (dim_text(product(shape[-2:])) for shape in (a, b))
        name = "gc_packets" if packets else "gc_gemm_of"
        batch = dim_text(product(a[:-2]))
        call.out.line(f"{name}<{types}>({batch}, {sizes}, {left}, {a_step}, {right}, {b_step},")
    call.epilogue(indices, call.axes[-1:])
    return ("gemm.h", "packet.h") if packets else (header,)


def small_product(kernel: Kernel, target: CpuTarget) -> str | None:
    """The template that reads both operands where they lie in the caches, where it computes a kernel's product."""
    anchor = kernel.anchor
    if anchor is None or anchor.primitive != "dot" or PACKED_OPERAND in anchor.attributes:
        return None
    types = [kernel.parameter(name).type for name in anchor.operands]
    dims = [*anchor.result.shape, *types[0].shape]
    if len(dims) != 4 or not all(isinstance(dim, int) for dim in dims):
        return None
    if any(type.dtype is not anchor.accumulator or not type.dtype.is_float for type in types):
        return None
    across, transposed = (bool(anchor.attributes.get(f"transpose_{side}", False)) for side in "ab")
    m, n = (guess_int(dim) for dim in anchor.result.shape)
    k, lanes = guess_int(types[0].shape[0 if across else 1]), target.lanes(anchor.accumulator.itemsize)
    if m < SMALL_ROWS or n < SMALL_ROWS:
        return None
    if not transposed:
        return "gc_small_gemm" if n >= lanes and k <= SMALL_DEPTH and k * n <= SMALL_RIGHT else None
    fits = m <= DOT_ROWS and m * k <= DOT_LEFT and 8 * lanes <= k <= DOT_DEPTH
    return DOT_GEMM if fits and not across else None


def mark_dots(program: Program, target: CpuTarget) -> Program:
    """Let products sum by lanes whose second operand no setting packs, so that none changes the bits of a result."""
    fixed: dict[
        int, bool
    ] = {}  # by kernel: whether some step's second operand is a state that no step writes
    written = {
        index
        for step in program.steps
        for index, parameter in zip(step.arguments, program.kernels[step.kernel].parameters, strict=True)
        if parameter.access is not Access.IN
    }
    for step in program.steps:
        kernel = program.kernels[step.kernel]
        if small_product(kernel, target) == DOT_GEMM and kernel.anchor is not None:
            names = [parameter.name for parameter in kernel.parameters]
            index = step.arguments[names.index(kernel.anchor.operands[1])]
            constant = program.buffers[index].role is Role.STATE and index not in written
            fixed[step.kernel] = fixed.get(step.kernel, False) or constant
    if all(fixed.values()):
        return program
    kernels = tuple(
        kernel
        if fixed.get(number, True)
        else replace(kernel, attributes=Attributes({**kernel.attributes, DOTS: True}))
        for number, kernel in enumerate(program.kernels)
    )
    return replace(program, kernels=kernels)


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
