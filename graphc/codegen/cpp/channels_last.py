"""Convolutions of images whose channels lie together: the calls of their templates, and of what packs their weights.

The weight is always packed: by the program's prologue where it is constant, else in the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc.codegen.cpp.convolutions import PACKED_WEIGHT, claim, geometry
from graphc.codegen.cpp.expressions import dim_text
from graphc.codegen.cpp.lane_loops import unravel
from graphc.codegen.cpp.nests import flatten, merge_axes
from graphc.codegen.cpp.packing import PACKED_FORM, PACKED_OPERAND
from graphc.codegen.cpp.pixels import CHANNELS_LAST, LINES, channels_first, pixel_form
from graphc.codegen.cpp.winograd import WINOGRAD
from graphc.ir.kernel import Access, AnchorOperation, Kernel, Parameter
from graphc.types import Dim, TensorType

if TYPE_CHECKING:
    from graphc.codegen.cpp.anchors import Call


def channels_last_workspaces(kernel: Kernel, anchor: AnchorOperation) -> tuple[Parameter, ...]:
    """Memory for the weight where it is packed in the call."""
    if anchor.primitive != CHANNELS_LAST or PACKED_OPERAND in anchor.attributes:
        return ()
    image, weight = (kernel.parameter(name).type.shape for name in anchor.operands)
    form = pixel_form(image, anchor.result.shape, weight, anchor.attributes, anchor.accumulator, False)
    type = TensorType(anchor.accumulator, (form.packed_elements(weight, False),))
    return (Parameter(PACKED_WEIGHT, type, Access.OUT),)


def print_channels_last(call: Call) -> tuple[str, ...]:
    """The convolution, with the kernel's nest over finished channels of a pixel."""
    anchor, constant, (x, w) = call.anchor, call.packed == 1, call.shapes
    form = pixel_form(x, anchor.result.shape, w, anchor.attributes, anchor.accumulator, constant)
    shape = geometry(call, channels_first(x), w, channels_first(anchor.result.shape))
    image, weight = call.data
    packed = weight if constant else call.buffers[PACKED_WEIGHT]
    if form.plan is not None:
        claim(call, form.plan.scratch_bytes(call.target.lanes(anchor.accumulator.itemsize)))
        name = "gc_pixels_winograd" if constant else "gc_pixels_winograd_packing"
        operands = packed if constant else f"{weight}, {packed}"
        call.out.line(f"{name}<{_of(call, form.plan.taps)}>({shape}, {form.plan}, {image}, {operands},")
    else:
        if not constant:
            call.out.line(f"{_packs(form.name)}<{call.type}>({shape}, {weight}, {packed});")
        name = "gc_pixels_lines" if form.name == LINES else "gc_pixels_forward"
        call.out.line(f"{name}<{call.type}>({shape}, {image}, {packed},")
    _pixel_epilogue(call)
    return ("winograd_last.h" if form.plan is not None else "channels_last.h",)


def _of(call: Call, taps: Dim) -> str:
    """Template arguments: the type, and the kernel's side where it is not 3."""
    return call.type if taps == 3 else f"{call.type}, {dim_text(taps)}"


def _packs(form: str) -> str:
    return "gc_pixels_pack_lines" if form == LINES else "gc_pixels_pack_weight"


def _pixel_epilogue(call: Call) -> None:
    """The nest with its leading axes as one number, a pixel of all images."""
    *leading, row = call.axes
    names = frozenset(axis.name for axis in leading)
    merged = merge_axes(flatten(call.kernel.nests[0], call.kernel), names)
    pixel = call.names.new("pixel")
    axes = [axis for axis in merged.axes if axis.name in names]
    outer = {axis: f"({text})" for axis, text in unravel(pixel, axes).items()}
    call.epilogue([(pixel, outer)], [row], merged)


def pack_channels_last(call: Call) -> tuple[str, ...]:
    """The weight as the template reads it."""
    (w,) = call.shapes
    steps = {name: (1,) * len(w[2:]) for name in ("stride", "dilate")}
    pad = {"pad": (0,) * len(w[2:])}
    shape = geometry(call, (1, *w[1:]), w, (1, w[0], *steps["stride"]), {**steps, **pad})
    form, weight = call.anchor.attributes[PACKED_FORM], call.data[0]
    packed = call.buffers[call.kernel.parameters[1].name]
    if form == WINOGRAD:
        outputs = f"0, {dim_text(w[0])}"
        arguments = f"{shape}, false, {outputs}, {weight}, {packed}"
        call.out.line(f"gc_winograd_pack_weight<{_of(call, w[2])}>({arguments});")
        return ("winograd_weight.h",)
    call.out.line(f"{_packs(form)}<{call.type}>({shape}, {weight}, {packed});")
    return ("channels_last.h",)
