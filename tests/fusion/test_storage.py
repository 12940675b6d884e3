"""Buffers: updates in place, outputs, aliases, and the copies they need; checked against the reference."""

import pytest

from graphc.ir.graph import Graph, InputKind
from graphc.ir.kernel import Access
from graphc.ir.program import Program, Role
from graphc.passes.fusion import fuse
from graphc.primitives.builder import Builder
from graphc.types import TensorType
from support.fusion_checks import check_program

T = TensorType.parse


def checked(graph: Graph, **sizes: int) -> Program:
    program = fuse(graph)
    check_program(graph, program, sizes=sizes)
    return program


def access(program: Program, name: str) -> list[Access]:
    """How the steps access the buffer of that name, in order."""
    index = next(k for k, buffer in enumerate(program.buffers) if buffer.name == name)
    return [
        program.kernels[step.kernel].parameters[step.arguments.index(index)].access
        for step in program.steps
        if index in step.arguments
    ]


def test_an_update_read_only_where_it_is_written_happens_in_place() -> None:
    b = Builder()
    w, g = b.input("w", T("f32[4,5]"), InputKind.PARAMETER), b.input("g", T("f32[4,5]"))
    b.update(w, b.sub(w, b.mul(g, 0.1)))
    program = checked(b.finish({}))
    assert access(program, "w") == [Access.INOUT]
    assert all(buffer.role is not Role.INTERMEDIATE for buffer in program.buffers)


def test_readers_of_the_old_value_run_before_the_update() -> None:
    b = Builder()
    w = b.input("w", T("f32[5,5]"), InputKind.PARAMETER)
    x = b.input("x", T("f32[N,5]"))
    new = b.mul(w, 2.0)
    b.update(w, new)
    y = b.dot(x, w, transpose_a=False, transpose_b=False)
    program = checked(b.finish({"y": y}), N=3)
    assert access(program, "w") == [Access.IN, Access.INOUT]


def test_an_update_that_reads_other_elements_goes_through_a_copy() -> None:
    b = Builder()
    w = b.input("w", T("f32[5,5]"), InputKind.PARAMETER)
    b.update(w, b.add(b.transpose(w, (1, 0)), 1.0))
    program = checked(b.finish({}))
    assert access(program, "w") == [Access.IN, Access.OUT]


def test_an_update_that_depends_on_all_of_its_state() -> None:
    b = Builder()
    w = b.input("w", T("f32[3,40]"), InputKind.PARAMETER)
    b.update(w, b.div(w, b.sum(w, [1], keepdims=True)))
    assert access(checked(b.finish({})), "w") == [Access.INOUT]


def test_two_states_swap() -> None:
    b = Builder()
    p, q = b.input("p", T("f32[6]"), InputKind.STATE), b.input("q", T("f32[6]"), InputKind.STATE)
    b.update(p, q)
    b.update(q, p)
    checked(b.finish({}))


def test_a_state_takes_another_states_old_value() -> None:
    b = Builder()
    p, q = b.input("p", T("f32[6]"), InputKind.STATE), b.input("q", T("f32[6]"), InputKind.STATE)
    b.update(p, q)
    b.update(q, b.add(q, 1.0))
    checked(b.finish({}))


def test_a_value_that_is_output_and_update() -> None:
    b = Builder()
    s = b.input("s", T("f32[6]"), InputKind.STATE)
    new = b.add(s, 1.0)
    b.update(s, new)
    program = checked(b.finish({"y": new}))
    ((_, index),) = program.outputs
    assert program.buffers[index].role is Role.STATE


def test_the_old_value_of_a_state_as_output() -> None:
    b = Builder()
    s = b.input("s", T("f32[6]"), InputKind.STATE)
    b.update(s, b.add(s, 1.0))
    program = checked(b.finish({"y": s}))
    ((_, index),) = program.outputs
    assert program.buffers[index].role is Role.OUTPUT


def test_an_input_as_output_is_no_copy() -> None:
    b = Builder()
    x = b.input("x", T("f32[6]"))
    program = checked(b.finish({"y": x}))
    assert program.steps == ()
    assert dict(program.outputs) == {"y": 0}


def test_a_reshaped_input_as_output() -> None:
    b = Builder()
    x = b.input("x", T("f32[2,6]"))
    checked(b.finish({"y": b.reshape(x, (3, 4))}))


def test_one_value_under_two_names_has_two_buffers() -> None:
    b = Builder()
    y = b.exp(b.input("x", T("f32[6]")))
    program = checked(b.finish({"first": y, "second": y, "flat": b.reshape(y, (2, 3))}))
    assert len({index for _, index in program.outputs}) == 3


def test_one_value_updates_two_states() -> None:
    b = Builder()
    p, q = b.input("p", T("f32[6]"), InputKind.STATE), b.input("q", T("f32[6]"), InputKind.STATE)
    new = b.add(p, q)
    b.update(p, new)
    b.update(q, new)
    checked(b.finish({}))


def test_an_update_of_another_shape_with_as_many_elements_is_a_view() -> None:
    b = Builder()
    s = b.input("s", T("f32[2,3]"), InputKind.STATE)
    b.update(s, b.reshape(b.add(b.reshape(s, (6,)), 1.0), (2, 3)))
    assert access(checked(b.finish({})), "s") == [Access.INOUT]


@pytest.mark.parametrize("shape", ["f32[0,5]", "f32[3,0]", "f32[]", "f32[1,1,1]"])
def test_empty_and_scalar_tensors(shape: str) -> None:
    b = Builder()
    x = b.input("x", T(shape))
    y = b.exp(b.mul(x, 2.0))
    outputs = {"y": y}
    if x.type.rank:
        outputs |= {
            "total": b.sum(y),
            "last": b.reduce("reduce_max", y, [-1]),
            "flat": b.reshape(y, (x.type.size,)),
        }
    checked(b.finish(outputs))


def test_results_take_over_dying_operands() -> None:
    b = Builder()
    x = b.input("x", T("f32[64,64]"))
    y = b.dot(x, x, transpose_a=False, transpose_b=False)
    y = b.sub(y, b.reduce("reduce_max", y, [1], keepdims=True))
    z = b.dot(b.exp(y), x, transpose_a=False, transpose_b=False)
    program = checked(b.finish({"z": z}))
    assert sum(buffer.role is Role.INTERMEDIATE for buffer in program.buffers) == 1


def test_an_operand_still_needed_keeps_its_memory() -> None:
    b = Builder()
    x = b.input("x", T("f32[16,16]"))
    y = b.dot(x, x, transpose_a=False, transpose_b=False)
    shifted = b.exp(b.sub(y, b.reduce("reduce_max", y, [1], keepdims=True)))
    z = b.dot(shifted, y, transpose_a=False, transpose_b=False)
    program = checked(b.finish({"z": z}))
    assert sum(buffer.role is Role.INTERMEDIATE for buffer in program.buffers) == 2
