"""Convolutions and their gradients: which of the templates computes one, its buffers, and the call.

Winograd's algorithm where it is cheaper (winograd.py), channels by themselves (depthwise.py), direct sums for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graphc.codegen.cpp.depthwise import depthwise_scratch
from graphc.codegen.cpp.expressions import dim_text
from graphc.codegen.cpp.packing import PACKED_OPERAND, PACKED_SHAPE
from graphc.codegen.cpp.target import CpuTarget
from graphc.codegen.cpp.winograd import Winograd, WinogradGradient, winograd, winograd_gradient
from graphc.ir.kernel import Access, AnchorOperation, Kernel, Parameter
from graphc.types import Dim, TensorType

if TYPE_CHECKING:
    from graphc.codegen.cpp.anchors import Call

CONVOLUTIONS = ("convolution", "convolution_data_gradient", "convolution_weight_gradient")
PACKED_WEIGHT = "anchor_weight"  # the parameter that holds a weight which its template packs
SHARED_SUMS = "anchor_sums"  # the parameter in which a template's threads transform and sum together


def convolution_workspaces(
    kernel: Kernel, anchor: AnchorOperation, target: CpuTarget
) -> tuple[Parameter, ...]:
    """The buffers that all threads of a convolution's template share, and operands in the type of the sums."""
    wide = tuple(
        Parameter(_wide(position), TensorType(anchor.accumulator, type.shape), Access.OUT)
        for position, type in _narrow(kernel, anchor)
    )
    return wide + _shared(kernel, anchor, target)


def _narrow(kernel: Kernel, anchor: AnchorOperation) -> list[tuple[int, TensorType]]:
    """The operands that are not of the sums' type, by position: the templates read them converted."""
    types = [kernel.parameter(name).type for name in anchor.operands]
    found = [(k, type) for k, type in enumerate(types) if type.dtype is not anchor.accumulator]
    return found if anchor.primitive in CONVOLUTIONS else []


def _wide(position: int) -> str:
    """The parameter that holds a converted operand."""
    return f"anchor_operand{position}"


def _shared(kernel: Kernel, anchor: AnchorOperation, target: CpuTarget) -> tuple[Parameter, ...]:
    plan, gradient = _winograd(kernel, anchor), _winograd_gradient(kernel, anchor)
    if plan is not None and PACKED_OPERAND not in anchor.attributes and plan.packed_elements(constant=False):
        type = TensorType(anchor.accumulator, (plan.packed_elements(constant=False),))
        return (Parameter(PACKED_WEIGHT, type, Access.OUT),)
    if gradient is not None:
        lanes = target.lanes(anchor.accumulator.itemsize)
        type = TensorType(anchor.accumulator, (gradient.shared_elements(lanes),))
        return (Parameter(SHARED_SUMS, type, Access.OUT),)
    return ()


def sums_aside(kernel: Kernel, anchor: AnchorOperation, target: CpuTarget) -> bool:
    """True where the template hands finished sums to the epilogue and needs no memory for the result."""
    return _depthwise(kernel, anchor, target) is not None or _winograd(kernel, anchor) is not None


def _depthwise(kernel: Kernel, anchor: AnchorOperation, target: CpuTarget) -> int | None:
    """Scratch of the depthwise template, None where it does not compute the anchor."""
    shapes = [kernel.parameter(name).type.shape for name in anchor.operands]
    itemsize = anchor.accumulator.itemsize
    if anchor.primitive == "convolution":
        image, weight, result = *shapes, anchor.result.shape
    elif anchor.primitive == "convolution_data_gradient":
        image, weight, result = anchor.result.shape, shapes[1], shapes[0]
    elif anchor.primitive == "convolution_weight_gradient":
        image, weight, result = shapes[0], anchor.result.shape, shapes[1]
    else:
        return None
    lanes = target.lanes(itemsize)
    return depthwise_scratch(anchor.primitive, image, weight, result, anchor.attributes, lanes, itemsize)


def _winograd(kernel: Kernel, anchor: AnchorOperation) -> Winograd | None:
    """How Winograd's algorithm computes the convolution, None where direct sums do."""
    if anchor.primitive not in ("convolution", "convolution_data_gradient"):
        return None
    constant = PACKED_OPERAND in anchor.attributes
    image, weight = (kernel.parameter(name).type.shape for name in anchor.operands)
    weight = anchor.attributes.get(PACKED_SHAPE, weight)
    return winograd(image, anchor.result.shape, weight[2:], anchor.attributes, anchor.accumulator, constant)


def _winograd_gradient(kernel: Kernel, anchor: AnchorOperation) -> WinogradGradient | None:
    if anchor.primitive != "convolution_weight_gradient":
        return None
    image, gradient = (kernel.parameter(name).type.shape for name in anchor.operands)
    kernel_size = anchor.result.shape[2:]
    return winograd_gradient(image, gradient, kernel_size, anchor.attributes, anchor.accumulator)


def geometry(
    call: Call,
    x: tuple[Dim, ...],
    w: tuple[Dim, ...],
    y: tuple[Dim, ...],
    attributes: Mapping[str, Any] | None = None,
) -> str:
    """Declare the gc_conv_shape of data x, weight w and result y; one spatial axis has height 1."""
    attributes = call.anchor.attributes if attributes is None else attributes
    steps = [attributes[name] for name in ("stride", "pad", "dilate")]
    axes: list[tuple[Dim, ...]] = list(zip(x[2:], y[2:], w[2:], *steps, strict=True))
    if len(axes) == 1:
        axes.insert(0, (1, 1, 1, 1, 0, 1))
    height, width = axes[-2:]
    values: list[Dim] = [
        x[0],
        attributes.get("groups", 1),
        x[1],
        w[0],
        height[0],
        width[0],
        height[1],
        width[1],
    ]
    values += [value for pair in zip(height[2:], width[2:], strict=True) for value in pair]
    values += [value for axis in axes[:-2] for value in axis]
    name = call.names.new("shape")
    call.out.line(f"const gc_conv_shape {name} = {{{', '.join(map(dim_text, values))}}};")
    return name


def _widen(call: Call) -> None:
    """Convert operands of other types: what a convolution reads many times is converted once."""
    for position, type in _narrow(call.kernel, call.anchor):
        wide = call.buffers[_wide(position)]
        call.out.line(f"gc_widen<{call.type}>({dim_text(type.size)}, {call.data[position]}, {wide});")
        call.data[position] = wide


def _print_depthwise(call: Call, shape: str, name: str, row: int) -> tuple[str, ...] | None:
    """The call of the depthwise template, where it computes the anchor; a row begins at axis `row`."""
    scratch = _depthwise(call.kernel, call.anchor, call.target)
    if scratch is None:
        return None
    claim(call, scratch)
    call.out.line(f"gc_depthwise_{name}<{call.type}>({shape}, {', '.join(call.data)},")
    call.epilogue([call.index(axis) for axis in call.axes[:row]], call.axes[row:])
    return ("depthwise.h",)


def claim(call: Call, scratch: int) -> None:
    """Give each thread so many bytes of scratch."""
    call.out.scratch.append(scratch)
    call.out.line("const gc_scratch_scope scope(team);")


def print_forward(call: Call) -> tuple[str, ...]:
    """The convolution, with the kernel's nest over finished pixels of a channel."""
    x, w = call.shapes
    _widen(call)
    shape = geometry(call, x, w, call.anchor.result.shape)
    if (headers := _print_depthwise(call, shape, "forward", 2)) is not None:
        return headers
    arguments, c = ", ".join(call.data), call.type
    plan = _winograd(call.kernel, call.anchor)
    if plan is None:
        call.out.line(f"gc_conv_forward<{c}>({shape}, {arguments},")
        header = "conv.h"
    else:
        header = _open_winograd(call, plan)
        if call.packed == 1:
            call.out.line(f"gc_winograd<{c}>({shape}, {plan}, {arguments},")
        else:
            packed = call.buffers.get(PACKED_WEIGHT, "(float*)nullptr")
            call.out.line(f"gc_winograd_forward<{c}>({shape}, {plan}, {arguments}, {packed},")
    call.epilogue([call.index(axis) for axis in call.axes[:2]], call.axes[2:])
    return (header,)


def _open_winograd(call: Call, plan: Winograd) -> str:
    """Claim the scratch of its threads; the header."""
    claim(call, plan.scratch_bytes(call.target.lanes(call.anchor.accumulator.itemsize)))
    return "winograd.h"


def pack_convolution(call: Call) -> tuple[str, ...]:
    """The weight as Winograd's algorithm reads it."""
    (w,) = call.shapes
    values = ", ".join(map(dim_text, (1, 1, w[1], w[0], 1, 1, 1, 1, 3, 3, 1, 1, 0, 0, 1, 1)))
    name, result = call.names.new("shape"), call.buffers[call.kernel.parameters[1].name]
    call.out.line(f"const gc_conv_shape {name} = {{{values}}};")
    call.out.line(
        f"gc_winograd_pack_weight<{call.type}>({name}, false, 0, {dim_text(w[0])}, {call.data[0]}, {result});"
    )
    return ("winograd_weight.h",)


def print_data_gradient(call: Call) -> tuple[str, ...]:
    """The gradient to the data, with the nest over finished pixels of an in channel."""
    dy, w = call.shapes
    _widen(call)
    shape = geometry(call, call.anchor.result.shape, w, dy)
    if (headers := _print_depthwise(call, shape, "data_gradient", 2)) is not None:
        return headers
    arguments, c = ", ".join(call.data), call.type
    plan = _winograd(call.kernel, call.anchor)
    if plan is None:
        header = "conv.h"
        call.out.line(f"gc_conv_data_gradient<{c}>({shape}, {arguments}, {call.result()},")
    else:
        header = _open_winograd(call, plan)
        packed = call.buffers.get(PACKED_WEIGHT, "(float*)nullptr")
        call.out.line(f"gc_winograd_data_gradient<{c}>({shape}, {plan}, {arguments}, {packed},")
    call.epilogue([call.index(axis) for axis in call.axes[:2]], call.axes[2:])
    return (header,)


def print_weight_gradient(call: Call) -> tuple[str, ...]:
    """The gradient to the weight, with the nest over finished weights of an out channel."""
    x, dy = call.shapes
    _widen(call)
    shape = geometry(call, x, call.anchor.result.shape, dy)
    if (headers := _print_depthwise(call, shape, "kernel_gradient", 1)) is not None:
        return headers
    plan = _winograd_gradient(call.kernel, call.anchor)
    arguments = ", ".join(call.data)
    if plan is None:
        call.out.line(f"gc_conv_weight_gradient<{call.type}>({shape}, {arguments},")
    else:
        shared = call.buffers[SHARED_SUMS]
        call.out.line(f"gc_winograd_weight_gradient<{call.type}>({shape}, {plan}, {arguments}, {shared},")
    call.epilogue([call.index(call.axes[0])], call.axes[1:])
    return ("conv.h",) if plan is None else ("winograd_gradient.h",)
