"""Anchored kernels: a contraction from a template header, called with the kernel's nest as its epilogue.

The templates hand finished rows of the result to the epilogue as (outer indices, start, count, sums); the nest is
printed over such a row. What a template lacks (element types, four spatial axes) becomes an ordinary reduction nest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from graphc.codegen.cpp.anchor_nests import anchor_nest
from graphc.codegen.cpp.attention import print_attention, print_attention_gradient
from graphc.codegen.cpp.channels_last import (
    channels_last_workspaces,
    pack_channels_last,
    print_channels_last,
)
from graphc.codegen.cpp.convolutions import (
    convolution_workspaces,
    pack_convolution,
    print_data_gradient,
    print_forward,
    print_weight_gradient,
    sums_aside,
)
from graphc.codegen.cpp.expressions import TYPES, Names, dim_factor, dim_text
from graphc.codegen.cpp.nests import flatten, lower, merge_axes
from graphc.codegen.cpp.packing import PACK, PACKED_OPERAND, PACKED_SHAPE
from graphc.codegen.cpp.pixels import CHANNELS_LAST
from graphc.codegen.cpp.printer import NestPrinter
from graphc.codegen.cpp.products import pack_dot, print_dot
from graphc.codegen.cpp.recurrence import pack_recurrence, print_recurrence, print_recurrence_gradient
from graphc.codegen.cpp.recurrence import workspace as recurrence_workspace
from graphc.codegen.cpp.schedule import Mode, Schedule, decide, shape_nest
from graphc.codegen.cpp.target import CpuTarget
from graphc.codegen.cpp.writer import Writer
from graphc.ir.kernel import (
    Access,
    Affine,
    Anchor,
    AnchorOperation,
    Axis,
    Kernel,
    Load,
    Nest,
    Parameter,
    Store,
)
from graphc.types import DType, TensorType, product, same_shape

_TEMPLATED = (DType.F32, DType.F64)
_RECURRENCES = ("recurrence", "recurrence_gradient")
_SUMS_IN_MEMORY = ("convolution_data_gradient", "scatter_add")
WORKSPACE = "anchor_result"  # the parameter that holds a result which its template sums in memory


def has_template(kernel: Kernel) -> bool:
    """True when a template computes the kernel's anchor."""
    anchor = kernel.anchor
    if anchor is None or anchor.primitive not in _TEMPLATES:
        return False
    if anchor.primitive in ("dot", PACK):
        # Operands of other types are converted on the way, or multiplied in packets.
        return True
    if anchor.accumulator not in _TEMPLATED:
        return False
    operands = [kernel.parameter(name).type for name in anchor.operands]
    if anchor.primitive == "scatter_add":
        return operands[1].dtype is anchor.accumulator
    if anchor.primitive == CHANNELS_LAST:
        return anchor.result.rank <= 4 and all(type.dtype is anchor.accumulator for type in operands)
    # Operands of other floating types are converted before.
    return anchor.result.rank <= 5 and all(type.dtype.is_float for type in operands)


def workspaces(kernel: Kernel, target: CpuTarget) -> tuple[Parameter, ...]:
    """Buffers of the kernel's own: a result that its template sums in memory, what it packs, what threads share."""
    anchor = kernel.anchor
    if anchor is not None and anchor.primitive in _RECURRENCES:
        own = recurrence_workspace(kernel, anchor)
        return (own,) if own is not None else ()
    if anchor is None or not has_template(kernel):
        return ()
    found = [*convolution_workspaces(kernel, anchor, target), *channels_last_workspaces(kernel, anchor)]
    in_memory = anchor.primitive in _SUMS_IN_MEMORY and not sums_aside(kernel, anchor, target)
    if in_memory and not plain_output(kernel):
        result = TensorType(anchor.accumulator, anchor.result.shape)
        found.append(Parameter(WORKSPACE, result, Access.OUT))
    return tuple(found)


def plain_output(kernel: Kernel) -> str | None:
    """An output of the result's type that every point of the nest writes at its own place."""
    anchor = kernel.anchor
    assert anchor is not None
    (nest,) = kernel.nests
    place = tuple(Affine.axis(axis.name) for axis in nest.axes)
    for statement in nest.body:
        if isinstance(statement, Store) and not statement.guards:
            parameter = kernel.parameter(statement.buffer)
            same = parameter.type.dtype is anchor.accumulator and same_shape(
                parameter.type.shape, anchor.result.shape
            )
            index = (
                tuple(
                    Affine.axis(axis.name) if axis.extent == 1 else expression
                    for axis, expression in zip(nest.axes, statement.index, strict=True)
                )
                if len(statement.index) == len(nest.axes)
                else ()
            )
            if same and parameter.access is Access.OUT and index == place:
                return parameter.name
    return None


def print_anchor(
    out: Writer, kernel: Kernel, buffers: dict[str, str], names: Names, target: CpuTarget
) -> tuple[str, ...]:
    """Print the kernel of an anchor; returns the headers that it needs."""
    anchor = kernel.anchor
    assert anchor is not None
    if anchor.results:
        return _WHOLE[anchor.primitive](out, kernel, anchor, buffers, names)
    if has_template(kernel):
        return _TEMPLATES[anchor.primitive](Call(out, kernel, anchor, buffers, names, target))
    nest = shape_nest(lower(anchor_nest(kernel, anchor), kernel), target)
    NestPrinter(out, nest, decide(nest, kernel, target), buffers, names).print()
    return ()


class Call:
    """What printing a template's call needs."""

    def __init__(
        self,
        out: Writer,
        kernel: Kernel,
        anchor: AnchorOperation,
        buffers: dict[str, str],
        names: Names,
        target: CpuTarget,
    ) -> None:
        self.out, self.kernel, self.anchor, self.buffers, self.names = out, kernel, anchor, buffers, names
        self.target = target
        self.type = TYPES[anchor.accumulator]
        self.shapes = [kernel.parameter(name).type.shape for name in anchor.operands]
        self.packed: int | None = anchor.attributes.get(PACKED_OPERAND)
        if PACKED_SHAPE in anchor.attributes:
            self.shapes[anchor.attributes[PACKED_OPERAND]] = anchor.attributes[PACKED_SHAPE]
        self.data = [buffers[name] for name in anchor.operands]
        self.axes = kernel.nests[0].axes if kernel.nests else ()

    def epilogue(
        self,
        indices: Sequence[tuple[str, Mapping[str, str]]],
        row: Sequence[Axis],
        nest: Nest | None = None,
    ) -> None:
        """The lambda: `indices` are its leading parameters and the axes that each gives, `row` the axes of a row.

        `nest`: the kernel's nest, flat, where the caller has changed its axes.
        """
        stem = row[-1].name if len(row) == 1 else "element"
        start, count, sums = (self.names.new(name) for name in (f"{stem}_start", "count", "sums"))
        outer = {axis: text for _, texts in indices for axis, text in texts.items()}
        leading = "".join(f"int64_t {name}, " for name, _ in indices)
        parameters = f"{leading}int64_t {start}, int64_t {count}, const {self.type}* {sums}"
        with self.out.block(f"    [&]({parameters})", end="});"):
            flat = nest or flatten(self.kernel.nests[0], self.kernel)
            names = frozenset(axis.name for axis in row)
            merged = merge_axes(flat, names)
            rest = tuple(axis for axis in merged.axes if axis.name in names)
            schedule = Schedule(Mode.MAP, rest[-1].name, 0, frozenset(), frozenset(), 0, False)
            printer = NestPrinter(self.out, merged, schedule, self.buffers, self.names)
            printer.print_row(outer, rest, start, count, sums)

    def result(self) -> str:
        """The buffer in which the template sums."""
        return self.buffers[plain_output(self.kernel) or WORKSPACE]

    def index(self, axis: Axis) -> tuple[str, dict[str, str]]:
        """A lambda parameter that is one axis."""
        name = self.names.new(axis.name)
        return name, {axis.name: name}


def _print_pack(call: Call) -> tuple[str, ...]:
    """Pack an operand: what `packing.PACKED` says it is worth for, a header a kind of anchor."""
    return _PACKS[call.anchor.attributes["of"]](call)


def _print_scatter(call: Call) -> tuple[str, ...]:
    """Zeros, the rows added to them, then the nest over the finished result."""
    (indices, updates), (index, source) = call.shapes, call.data
    axis, size = call.anchor.attributes["axis"], call.anchor.attributes["size"]
    name = plain_output(call.kernel) or WORKSPACE
    result = call.buffers[name]
    count, width = product(indices), product(updates[axis + len(indices) :])
    outer = product(updates[:axis])
    call.out.line(
        f"__builtin_memset({result}, 0, {dim_factor(call.anchor.result.size)} * sizeof({call.type}));"
    )
    last = f"({dim_text(size)}) - 1"
    clip = f"gc_max_of<int64_t>(0, gc_min_of<int64_t>((int64_t){index}[i], {last}))"
    arguments = f"{dim_text(count)}, {dim_text(width)}, {dim_text(size)}, [&](int64_t i) {{ return {clip}; }}"
    add = f"gc_scatter_add_rows<{call.type}>({arguments}"
    if outer == 1:
        call.out.line(f"{add}, {source}, {result});")
    else:
        part = call.names.new("part")
        steps = (
            f" + {part} * {dim_factor(product((count, width)))}",
            f" + {part} * {dim_factor(product((size, width)))}",
        )
        with call.out.block(f"for (int64_t {part} = 0; {part} < {dim_text(outer)}; ++{part})"):
            call.out.line(f"{add}, {source}{steps[0]}, {result}{steps[1]});")
    nest = _over_result(call.kernel, name)
    if not _is_copy(nest, name):
        lowered = shape_nest(lower(nest, call.kernel), call.target)
        NestPrinter(
            call.out, lowered, decide(lowered, call.kernel, call.target), call.buffers, call.names
        ).print()
    return ("gemm.h", "scatter.h")


def _over_result(kernel: Kernel, name: str) -> Nest:
    """The kernel's nest reading the anchor's result from a buffer."""
    (nest,) = kernel.nests
    index = tuple(Affine.axis(axis.name) for axis in nest.axes)
    body = tuple(
        Load(s.name, s.dtype, name, index, origins=s.origins) if isinstance(s, Anchor) else s
        for s in nest.body
    )
    return replace(nest, body=body)


def _is_copy(nest: Nest, name: str) -> bool:
    """True when the nest only stores each element where it lies."""
    loads = {s.name for s in nest.body if isinstance(s, Load) and s.buffer == name}
    rest = [s for s in nest.body if not (isinstance(s, Load) and s.buffer == name)]
    return all(isinstance(s, Store) and s.buffer == name and s.value in loads for s in rest)


_WHOLE: Mapping[str, Callable[[Writer, Kernel, AnchorOperation, dict[str, str], Names], tuple[str, ...]]] = {
    "attention": print_attention,
    "attention_gradient": print_attention_gradient,
    "recurrence": print_recurrence,
    "recurrence_gradient": print_recurrence_gradient,
}
_TEMPLATES: Mapping[str, Callable[[Call], tuple[str, ...]]] = {
    "scatter_add": _print_scatter,
    "dot": print_dot,
    "convolution": print_forward,
    "channels_last_convolution": print_channels_last,
    "convolution_data_gradient": print_data_gradient,
    "convolution_weight_gradient": print_weight_gradient,
    PACK: _print_pack,
}
_PACKS: Mapping[str, Callable[[Call], tuple[str, ...]]] = {
    "dot": pack_dot,
    "convolution": pack_convolution,
    "channels_last_convolution": pack_channels_last,
    "recurrence": lambda call: pack_recurrence(call.out, call.kernel, call.anchor, call.buffers),
}
