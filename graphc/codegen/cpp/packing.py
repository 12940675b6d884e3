"""Constant operands in the layout of the template that reads them, packed once by the program's prologue.

A template that packs an operand on each call may offer a second form of it: a function that packs, and a main function
that reads what was packed. `PACKED` says for each anchor when that pays and how large the packed operand is; printing
both calls is in `anchors.py`. Only here and in the headers is the layout known: to everything else a packed operand is
a buffer of so many elements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from graphc.codegen.cpp.equal import structure
from graphc.codegen.cpp.pixels import pixel_form
from graphc.codegen.cpp.target import CpuTarget, detect
from graphc.codegen.cpp.winograd import winograd
from graphc.ir.graph import Attributes, Graph
from graphc.ir.kernel import Access, AnchorOperation, Kernel, Parameter
from graphc.ir.program import Buffer, Program, Role, Step
from graphc.primitives.recurrence import GATES
from graphc.types import DType, TensorType

PACK = "pack"  # the anchor of a kernel that packs; attribute `of` names the anchor that reads the result
PACKED_OPERAND = "packed"  # attribute of an anchor: position of its packed operand
PACKED_SHAPE = "packed_shape"  # the shape of the operand before
PACKED_FORM = "packed_form"  # which of several forms it has, on both kernels; absent where there is one
PACKED_TYPE = "packed_type"  # and its element type; on a kernel that packs, that of the other operand
_SUMS = (DType.F32, DType.F64, DType.I32)
_LINE = 64  # bytes; whole registers of any CPU


@dataclass(frozen=True, slots=True)
class Packing:
    """An operand worth packing: its position, and the elements of its packed form (at least, for any vector width)."""

    operand: int
    elements: int
    form: str = ""


def uses_packets(left: DType, right: DType, target: CpuTarget) -> bool:
    """True where a product of these types runs on packets of 32 bits (packet.h)."""
    pairs = left is DType.BF16 and right is DType.BF16
    return target.packets and (pairs or (left in (DType.I8, DType.U8) and right is DType.I8))


def _dot(kernel: Kernel, anchor: AnchorOperation, target: CpuTarget) -> Packing | None:
    """The second operand of a product of two matrices; a single row of floats reads it once, in place."""
    rows, columns = anchor.result.shape[-2:]
    left, right = (kernel.parameter(name).type for name in anchor.operands)
    shape = right.shape
    inner = shape[-1] if anchor.attributes.get("transpose_b", False) else shape[-2]
    if len(shape) != 2 or not isinstance(columns, int) or not isinstance(inner, int):
        return None
    if uses_packets(left.dtype, right.dtype, target):
        inner = -(-inner // (4 // right.dtype.itemsize))
    elif right.dtype is not anchor.accumulator or rows == 1 or columns == 1:
        return None
    lanes = _LINE // anchor.accumulator.itemsize
    return Packing(1, inner * (-(-columns // lanes) * lanes)) if rows != 0 and columns and inner else None


def _convolution(kernel: Kernel, anchor: AnchorOperation, target: CpuTarget) -> Packing | None:
    """The weight, where Winograd's algorithm pays."""
    if any(kernel.parameter(name).type.dtype is not anchor.accumulator for name in anchor.operands):
        return None
    image, weight = (kernel.parameter(name).type.shape for name in anchor.operands)
    plan = winograd(
        image, anchor.result.shape, weight[2:], anchor.attributes, anchor.accumulator, constant=True
    )
    return Packing(1, plan.packed_elements(constant=True)) if plan is not None else None


def _channels_last(kernel: Kernel, anchor: AnchorOperation, target: CpuTarget) -> Packing | None:
    """The weight, in the form that its template reads."""
    if any(kernel.parameter(name).type.dtype is not anchor.accumulator for name in anchor.operands):
        return None
    image, weight = (kernel.parameter(name).type.shape for name in anchor.operands)
    form = pixel_form(image, anchor.result.shape, weight, anchor.attributes, anchor.accumulator, True)
    elements = form.packed_elements(weight, True)
    # The templates have two spatial axes at most.
    return (
        Packing(1, elements, form.name)
        if isinstance(elements, int) and elements and len(image) <= 4
        else None
    )


def recurrent_elements(mode: str, units: int, itemsize: int) -> int:
    """Elements of a packed hidden weight: whole blocks of units, of two registers for a single gate."""
    block = 2 * _LINE // itemsize
    return -(-units // block) * block * units * GATES[mode]


def _recurrence(kernel: Kernel, anchor: AnchorOperation, target: CpuTarget) -> Packing | None:
    """The hidden weight; a gradient's is packed on each call, as the step that follows changes it."""
    units = kernel.parameter(anchor.operands[1]).type.shape[1]
    assert isinstance(units, int)
    return Packing(1, recurrent_elements(anchor.attributes["mode"], units, anchor.accumulator.itemsize))


PACKED: Mapping[str, Callable[[Kernel, AnchorOperation, CpuTarget], Packing | None]] = {
    "dot": _dot,
    "convolution": _convolution,
    "channels_last_convolution": _channels_last,
    "recurrence": _recurrence,
}


def packing_of(kernel: Kernel, target: CpuTarget) -> Packing | None:
    """How a kernel's constant operand would be packed; None where its template reads it as it is."""
    anchor = kernel.anchor
    if anchor is None or anchor.primitive not in PACKED or anchor.accumulator not in _SUMS:
        return None
    if PACKED_OPERAND in anchor.attributes:
        return None
    return PACKED[anchor.primitive](kernel, anchor, target)


def pack_constants(program: Program, target: CpuTarget | None = None) -> Program:
    """The program with constant operands packed by its prologue, which is made where there is none."""
    return _Packer(program, target or detect()).run()


class _Packer:
    def __init__(self, program: Program, target: CpuTarget) -> None:
        self.program, self.target = program, target
        self.buffers, self.kernels = list(program.buffers), list(program.kernels)
        self.inputs = list(program.inputs)
        self.prologue = program.prologue or Program(
            f"{program.name}_constants",
            Graph(f"{program.name}_constants", (), (), ()),
            (),
            (),
            (),
            (),
            (),
            (),
        )
        self.places = dict((*self.prologue.outputs, *self.prologue.inputs))
        self.written = {
            index
            for step in program.steps
            for index, parameter in zip(step.arguments, program.kernels[step.kernel].parameters, strict=True)
            if parameter.access is not Access.IN
        }
        self.main_kernels: dict[int, int] = {}
        self.packed: dict[tuple[int, str], int] = {}

    def run(self) -> Program:
        steps = tuple(map(self.step, self.program.steps))
        if not self.packed:
            return self.program
        # A kernel whose every launch now reads a packed operand is gone.
        run = sorted({step.kernel for step in steps})
        program = replace(
            self.program,
            buffers=tuple(self.buffers),
            kernels=tuple(self.kernels[number] for number in run),
            steps=tuple(replace(step, kernel=run.index(step.kernel)) for step in steps),
            inputs=tuple(self.inputs),
        )
        return _without_unread(replace(program, prologue=self.prologue))

    def step(self, step: Step) -> Step:
        kernel = self.program.kernels[step.kernel]
        packing = packing_of(kernel, self.target)
        if packing is None or kernel.anchor is None:
            return step
        name = kernel.anchor.operands[packing.operand]
        position = next(k for k, parameter in enumerate(kernel.parameters) if parameter.name == name)
        source = step.arguments[position]
        buffer = self.program.buffers[source]
        once = kernel.anchor.operands.count(name) == 1 and not _reads_besides(kernel, name)
        fixed = buffer.role in (Role.STATE, Role.CONSTANT) and not step.offset(source)
        if not fixed or source in self.written or not once:
            return step
        if step.kernel not in self.main_kernels:
            self.main_kernels[step.kernel] = len(self.kernels)
            self.kernels.append(_reading_packed(kernel, packing))
        arguments = list(step.arguments)
        arguments[position] = self.pack(kernel, packing, source)
        return replace(step, kernel=self.main_kernels[step.kernel], arguments=tuple(arguments))

    def pack(self, kernel: Kernel, packing: Packing, source: int) -> int:
        """The constant buffer that holds a buffer packed for a kernel."""
        made = _packing_kernel(kernel, packing, self.program.buffers[source].name)
        key = (source, structure(made))
        if key not in self.packed:
            self.packed[key] = self.add(made, source)
        return self.packed[key]

    def add(self, made: Kernel, source: int) -> int:
        """Append a packing kernel to the prologue; the new constant buffer of the main program."""
        buffer = self.program.buffers[source]
        taken = {name for name, _ in self.inputs}
        stem = f"{buffer.name}.packed"
        name = next(n for k in count() if (n := f"{stem}{k or ''}") not in taken)
        prologue = self.prologue
        buffers, inputs = list(prologue.buffers), list(prologue.inputs)
        if buffer.name not in self.places:
            self.places[buffer.name] = len(buffers)
            inputs.append((buffer.name, len(buffers)))
            buffers.append(replace(buffer, role=Role.STATE))
        result = made.parameters[1].type
        kernels = [kernel for kernel in prologue.kernels if structure(kernel) == structure(made)]
        number = prologue.kernels.index(kernels[0]) if kernels else len(prologue.kernels)
        self.prologue = replace(
            prologue,
            buffers=(*buffers, Buffer(name, result, Role.OUTPUT, origins=buffer.origins)),
            kernels=prologue.kernels if kernels else (*prologue.kernels, made),
            steps=(*prologue.steps, Step(number, (self.places[buffer.name], len(buffers)))),
            inputs=tuple(inputs),
            outputs=(*prologue.outputs, (name, len(buffers))),
        )
        self.inputs.append((name, len(self.buffers)))
        self.buffers.append(Buffer(name, result, Role.CONSTANT, origins=buffer.origins))
        return len(self.buffers) - 1


def _reads_besides(kernel: Kernel, name: str) -> bool:
    """True when the epilogue reads the operand too."""
    return any(getattr(s, "buffer", None) == name for nest in kernel.nests for s in nest.body)


def _reading_packed(kernel: Kernel, packing: Packing) -> Kernel:
    """The kernel with its operand packed."""
    anchor = kernel.anchor
    assert anchor is not None
    name = anchor.operands[packing.operand]
    shape = kernel.parameter(name).type.shape
    flat = TensorType(anchor.accumulator, (packing.elements,))
    attributes = {**anchor.attributes, PACKED_OPERAND: packing.operand, PACKED_SHAPE: shape}
    attributes[PACKED_TYPE] = kernel.parameter(name).type.dtype
    if packing.form:
        attributes[PACKED_FORM] = packing.form
    return replace(
        kernel,
        parameters=tuple(replace(p, type=flat) if p.name == name else p for p in kernel.parameters),
        anchor=replace(anchor, attributes=Attributes(attributes)),
    )


def _packing_kernel(kernel: Kernel, packing: Packing, name: str) -> Kernel:
    """The kernel that packs an operand."""
    anchor = kernel.anchor
    assert anchor is not None
    operand = kernel.parameter(anchor.operands[packing.operand])
    result = TensorType(anchor.accumulator, (packing.elements,))
    other = kernel.parameter(anchor.operands[1 - packing.operand]).type.dtype
    more: dict[str, Any] = {"of": anchor.primitive, PACKED_OPERAND: packing.operand, PACKED_TYPE: other}
    if packing.form:
        more[PACKED_FORM] = packing.form
    attributes = Attributes({**anchor.attributes, **more})
    return Kernel(
        f"{PACK}_{name}".replace(".", "_"),
        (replace(operand, name="data"), Parameter("packed", result, Access.OUT)),
        (),
        AnchorOperation(PACK, ("data",), attributes, result, anchor.accumulator, anchor.origins),
        anchor.origins,
    )


def _without_unread(program: Program) -> Program:
    """Constants that only packing reads are the prologue's own: its intermediates, not the main program's buffers."""
    prologue = program.prologue
    assert prologue is not None
    read = {index for step in program.steps for index in step.arguments}
    read |= {index for _, index in program.outputs}
    unread = {
        name
        for name, index in program.inputs
        if program.buffers[index].role is Role.CONSTANT and index not in read
    }
    if not unread:
        return program
    own = {index for name, index in prologue.outputs if name in unread}
    own -= {index for name, index in prologue.outputs if name not in unread}
    buffers = tuple(
        replace(buffer, role=Role.INTERMEDIATE) if index in own and buffer.role is Role.OUTPUT else buffer
        for index, buffer in enumerate(prologue.buffers)
    )
    outputs = tuple((name, index) for name, index in prologue.outputs if name not in unread)
    return _without(replace(program, prologue=replace(prologue, buffers=buffers, outputs=outputs)), unread)


def _without(program: Program, inputs: set[str]) -> Program:
    """The program without these inputs, which nothing reads, and their buffers."""
    gone = {index for name, index in program.inputs if name in inputs}
    left = [index for index in range(len(program.buffers)) if index not in gone]
    number = {old: new for new, old in enumerate(left)}

    def renumbered(step: Step) -> Step:
        offsets = tuple((number[index], start) for index, start in step.offsets if index in number)
        return replace(step, arguments=tuple(number[i] for i in step.arguments), offsets=offsets)

    return replace(
        program,
        buffers=tuple(program.buffers[index] for index in left),
        steps=tuple(map(renumbered, program.steps)),
        inputs=tuple((name, number[index]) for name, index in program.inputs if name not in inputs),
        outputs=tuple((name, number[index]) for name, index in program.outputs),
    )
