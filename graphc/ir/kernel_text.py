"""Text of the Kernel IR: print_kernel, and its inverse parse_kernel; the grammar stands in ir/kernel.py.

    kernel fc1_relu1(
        in data: f32[N,784],
        in fc1_weight: f32[128,784],
        out relu1: f32[N,128],
    ) anchor dot(data, fc1_weight) {transpose_b=true} -> f32[N,128] in f32 {
      nest(i0: N, i1: 128) {
        fc1: f32 = anchor
        zero: f32 = constant 0.0
        relu: f32 = maximum(fc1, zero)
        store relu1[i0, i1] = relu
      }
    }

    kernel attn(
        in qkv: f32[8,16,192],
        out out: f32[8,16,64],
    ) anchor attention(qkv, qkv, qkv) {causal=true, scale=0.25} -> f32[8,4,16,16] in f32 into (out, _) {
      view(b0: 8, b1: 4, x0: 16, x1: 16) = [b0, x0, 16*b1 + x1]
      ...
    }

Origins are written as in the text of a graph; a table at the end maps files. Strides stand before their variable,
symbolic dimensions in parentheses: `(N)*i0 + 3*i1 + -5`.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.graph import Origins
from graphc.ir.kernel import (
    Affine,
    Anchor,
    AnchorOperation,
    Axis,
    Compute,
    Constant,
    Guard,
    IndexValue,
    Kernel,
    Literal,
    Load,
    Random,
    Reduce,
    Statement,
    Store,
    View,
)
from graphc.ir.kernel_parse import parse_kernel
from graphc.ir.program import Program
from graphc.ir.text import FileTable, print_attributes, print_name, print_origins
from graphc.types import Dim, format_dim

__all__ = ["parse_kernel", "print_affine", "print_kernel", "print_program"]


def print_kernel(kernel: Kernel, *, origins: bool = True) -> str:
    """The text of a kernel, which parse_kernel reads back; without origins the source lines are left out."""
    files = FileTable()

    def comment(text: str, found: Origins) -> str:
        return f"{text}  // {print_origins(found, files)}" if origins and found else text

    lines = [comment(f"kernel {print_name(kernel.name)}(", kernel.origins)]
    lines += [f"    {p.access.value} {print_name(p.name)}: {p.type}," for p in kernel.parameters]
    head = ")"
    if kernel.attributes:
        head += f" {print_attributes(kernel.attributes)}"
    if kernel.anchor is not None:
        head += f" anchor {_anchor(kernel.anchor)}"
    lines.append(comment(f"{head} {{", kernel.anchor.origins if kernel.anchor else ()))
    lines += [f"  view{_view(view)}" for view in (kernel.anchor.views if kernel.anchor else ())]
    for nest in kernel.nests:
        lines.append(f"  nest({', '.join(map(_axis, nest.axes))}) {{")
        lines += [comment(f"    {_statement(statement)}", statement.origins) for statement in nest.body]
        lines.append("  }")
    lines.append("}")
    return "\n".join([*lines, *files.lines()]) + "\n"


def print_program(program: Program) -> str:
    """The buffers, steps and kernels of a program, for people and golden files."""
    lines = [f"program {print_name(program.name)}({', '.join(program.symbols)}) {{"]
    for index, buffer in enumerate(program.buffers):
        lines.append(f"  buffer {index} {buffer.role.value} {print_name(buffer.name)}: {buffer.type}")
    for step in program.steps:
        arguments = ", ".join(
            f"{index} from {step.offset(index)}" if step.offset(index) else str(index)
            for index in step.arguments
        )
        lines.append(f"  run {print_name(program.kernels[step.kernel].name)}({arguments})")
    for name, index in program.outputs:
        lines.append(f"  return {print_name(name)} = {index}")
    lines.append("}")
    return "\n".join(lines) + "\n\n" + "\n".join(print_kernel(kernel) for kernel in program.kernels)


def _anchor(anchor: AnchorOperation) -> str:
    operands = ", ".join(map(print_name, anchor.operands))
    attributes = print_attributes(anchor.attributes) or "{}"
    text = f"{anchor.primitive}({operands}) {attributes} -> {anchor.result} in {anchor.accumulator}"
    if not anchor.results:
        return text
    return f"{text} into ({', '.join(print_name(name) if name else '_' for name in anchor.results)})"


def _view(view: View | None) -> str:
    return f"({', '.join(map(_axis, view.axes))}) = {_index(view.index)}" if view else ""


def _axis(axis: Axis) -> str:
    return f"{axis.name}: {format_dim(axis.extent)}{' reduce' if axis.reduction else ''}"


def _statement(statement: Statement) -> str:
    if isinstance(statement, Store):
        place = f"{print_name(statement.buffer)}{_index(statement.index)}"
        return f"store {place} = {statement.value}{_guards(statement.guards)}"
    return f"{statement.name}: {statement.dtype} = {_right_side(statement)}"


def _right_side(statement: Statement) -> str:
    match statement:
        case Load():
            text = f"load {print_name(statement.buffer)}{_index(statement.index)}{_guards(statement.guards)}"
            return f"{text} else {_literal(statement.other)}" if statement.guards or statement.other else text
        case Constant():
            return f"constant {_literal(statement.value)}"
        case IndexValue():
            return f"index {print_affine(statement.expression)}"
        case Compute():
            return f"{statement.operation}({', '.join(statement.arguments)})"
        case Random():
            place = print_affine(statement.index)
            return f"random({print_name(statement.buffer)}, {statement.stream}, {place})"
        case Reduce():
            return f"reduce {statement.operation.value} {statement.argument}"
        case Anchor():
            return "anchor"
        case Store():
            raise AssertionError("a store has no result")


def _literal(value: Literal) -> str:
    return repr(value).lower() if isinstance(value, bool) else repr(value)


def _index(index: Sequence[Affine]) -> str:
    return f"[{', '.join(map(print_affine, index))}]"


def _guards(guards: Sequence[Guard]) -> str:
    return "".join(
        f" if {_dim(guard.low)} <= {print_affine(guard.expression)} < {_dim(guard.high)}" for guard in guards
    )


def print_affine(affine: Affine) -> str:
    """`3*i0 + i1 + 5`: terms in their order, then the offset unless it is 0."""
    parts = [name if stride == 1 else f"{_dim(stride)}*{name}" for name, stride in affine.terms]
    if affine.offset != 0 or not parts:
        parts.append(_dim(affine.offset))
    return " + ".join(parts)


def _dim(dim: Dim) -> str:
    return str(dim) if isinstance(dim, int) else f"({format_dim(dim)})"
