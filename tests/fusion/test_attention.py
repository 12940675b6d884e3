"""Attention in a program: no matrix of scores in memory, heads read and written where they lie."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from graphc.diagnostics import GraphcError
from graphc.ir.graph import Graph, InputKind, Value
from graphc.ir.kernel import Affine, AnchorOperation, Load, Store
from graphc.ir.kernel_parse import parse_kernel
from graphc.ir.kernel_verify import verify_kernel
from graphc.ir.program import Program
from graphc.optimizer import SGD
from graphc.passes.attention import RecognizeAttention
from graphc.passes.fusion import FusionOptions, fuse
from graphc.passes.gradient import gradient
from graphc.passes.manager import PassManager, default_pipeline
from graphc.passes.plan import plan
from graphc.primitives.builder import Builder
from graphc.training import training_graph
from graphc.types import DType, TensorType
from support.attention_graphs import FORMS
from support.fusion_checks import check_program

LENGTH, HEADS, WIDTH = 11, 2, 3


def blocks(count: int, joint: bool = True) -> Graph:
    """Attention blocks with residuals on [2, LENGTH, HEADS * WIDTH]; `joint`: one projection makes q, k and v."""
    units = HEADS * WIDTH
    b = Builder("blocks")
    x = b.input("data", TensorType(DType.F32, (2, LENGTH, units)))

    def dense(value: Value, columns: int, name: str) -> Value:
        weight = b.input(name, TensorType(DType.F32, (columns, units)), InputKind.PARAMETER)
        flat = b.reshape(value, (2 * LENGTH, units))
        return b.reshape(
            b.emit("dot", flat, weight, transpose_a=False, transpose_b=True), (2, LENGTH, columns)
        )

    def heads(value: Value) -> Value:
        return b.transpose(b.reshape(value, (2, LENGTH, HEADS, WIDTH)), (0, 2, 1, 3))

    for k in range(count):
        if joint:
            projected = dense(x, 3 * units, f"w{k}")
            parts = [b.slice_axis(projected, 2, units * i, units * (i + 1)) for i in range(3)]
        else:
            parts = [dense(x, units, f"w{k}{name}") for name in "qkv"]
        q, key, v = map(heads, parts)
        scores = b.mul(b.emit("dot", q, key, transpose_a=False, transpose_b=True), 1 / math.sqrt(WIDTH))
        greatest = b.stop_gradient(b.reduce("reduce_max", scores, (3,), keepdims=True))
        powers = b.exp(b.sub(scores, b.broadcast_to(greatest, scores.type.shape)))
        total = b.reduce("reduce_sum", powers, (3,), keepdims=True)
        weights = b.div(powers, b.broadcast_to(total, powers.type.shape))
        mixed = b.transpose(b.emit("dot", weights, v, transpose_a=False, transpose_b=False), (0, 2, 1, 3))
        x = b.add(x, dense(b.reshape(mixed, (2, LENGTH, units)), units, f"o{k}"))
    return b.finish({"out": x})


def lowered(graph: Graph, **options: bool) -> Program:
    optimized, _ = PassManager(default_pipeline(), verify=True).run(graph)
    return fuse(optimized, FusionOptions(**options))


def squares(program: Program) -> list[str]:
    """Buffers that hold a number for each pair of places."""
    return [b.name for b in program.buffers if list(b.type.shape).count(LENGTH) > 1]


def anchors(program: Program, name: str) -> list[AnchorOperation]:
    kernels = [program.kernels[step.kernel] for step in program.steps]
    return [k.anchor for k in kernels if k.anchor is not None and k.anchor.primitive == name]


def copies(program: Program) -> list[str]:
    """Kernels with a nest that moves elements and does nothing else."""
    return [
        kernel.name
        for kernel in program.kernels
        for nest in kernel.nests
        if [type(statement) for statement in nest.body] == [Load, Store]
    ]


def test_a_training_step_of_six_blocks_never_holds_the_scores() -> None:
    graph = blocks(6)
    step = training_graph(graph, SGD(learning_rate=0.1))
    program = lowered(step)
    assert squares(program) == []
    assert len(anchors(program, "attention")) == len(anchors(program, "attention_gradient")) == 6
    check_program(step, program)
    names = [item.name for item in graph.inputs if item.kind is InputKind.PARAMETER]
    before, after = lowered(gradient(graph, names)), lowered(gradient(RecognizeAttention()(graph), names))
    assert squares(before) and not squares(after)
    assert plan(after).size < plan(before).size


def test_heads_are_read_and_written_where_they_lie() -> None:
    units = HEADS * WIDTH
    program = lowered(training_graph(blocks(1), SGD(learning_rate=0.1)))
    (forward,), (backward,) = anchors(program, "attention"), anchors(program, "attention_gradient")
    assert len(set(forward.operands)) == 1
    offsets = [view.index[-1].offset for view in forward.views[:3] if view is not None]
    assert offsets == [0, units, 2 * units]
    assert len(set(backward.operands[3:])) == 1 and len(set(backward.results)) == 1
    results = [view for view in backward.views[6:] if view is not None]
    assert [view.index[-1].offset for view in results] == [0, units, 2 * units]
    assert copies(program) == []
    viewed = [kernel for kernel in program.kernels if kernel.anchor is not None and kernel.anchor.views]
    assert len(viewed) == 2
    for kernel in viewed:
        verify_kernel(kernel)
        assert parse_kernel(str(kernel)) == kernel


def test_a_view_that_leaves_its_axes_is_an_error() -> None:
    program = lowered(training_graph(blocks(1), SGD(learning_rate=0.1)))
    kernel = next(k for k in program.kernels if k.anchor is not None and k.anchor.views)
    assert kernel.anchor is not None
    first = kernel.anchor.views[0]
    assert first is not None
    wrong = [
        (replace(first, index=first.index[:-1]), "an index for each of its dimensions"),
        (replace(first, index=(Affine.axis("other"), *first.index[1:])), "made of its own axes"),
        (replace(first, axes=(*first.axes, first.axes[0])), "different names"),
    ]
    for view, rule in wrong:
        anchor = replace(kernel.anchor, views=(view, *kernel.anchor.views[1:]))
        with pytest.raises(GraphcError, match=rf"G405.*{rule}"):
            verify_kernel(replace(kernel, anchor=anchor))
    with pytest.raises(GraphcError, match="a view for each operand and result"):
        verify_kernel(replace(kernel, anchor=replace(kernel.anchor, views=kernel.anchor.views[1:])))


def test_separate_projections_are_read_in_place_too() -> None:
    graph = blocks(2, joint=False)
    names = [item.name for item in graph.inputs if item.kind is InputKind.PARAMETER]
    joint = gradient(RecognizeAttention()(graph), names)
    program = lowered(joint)
    check_program(joint, program)
    assert copies(program) == []


@pytest.mark.parametrize("name", FORMS)
def test_forms_with_gradients_in_a_planned_arena(name: str) -> None:
    graph, _ = FORMS[name]
    joint = gradient(RecognizeAttention()(graph), ["q", "k", "v"])
    check_program(joint, lowered(joint), sizes={"N": 4})
    check_program(joint, lowered(joint, enabled=False), sizes={"N": 4})


def test_a_joint_axis_of_batch_and_heads_is_cut_where_the_operands_are() -> None:
    """Keys shared by groups of heads are broadcast, joined with the batch by a reshape, and still read in place."""
    b = Builder("groups")
    q = b.input("q", TensorType(DType.F32, (2, 5, 4, 3)))
    shared = [b.input(name, TensorType(DType.F32, (2, 5, 2, 3))) for name in "kv"]
    query = b.reshape(b.transpose(q, (0, 2, 1, 3)), (8, 5, 3))
    wide = [b.broadcast(b.transpose(x, (0, 2, 1, 3)), (2, 2, 2, 5, 3), (0, 1, 3, 4)) for x in shared]
    key, value = (b.reshape(x, (8, 5, 3)) for x in wide)
    out, _ = b.emit_all("attention", query, key, value, scale=0.5, causal=True)
    graph = b.finish({"out": b.transpose(b.reshape(out, (2, 4, 5, 3)), (0, 2, 1, 3))})
    program = lowered(graph)
    assert len(program.steps) == 1
    assert set(anchors(program, "attention")[0].operands) == {"q", "k", "v"}
    check_program(graph, program)


def test_a_result_that_is_also_an_output_is_not_moved() -> None:
    b = Builder("kept")
    q, k, v = (b.input(name, TensorType(DType.F32, (2, 5, 3))) for name in "qkv")
    out, rows = b.emit_all("attention", q, k, v, scale=0.5, causal=False)
    graph = b.finish({"out": out, "turned": b.transpose(out, (1, 0, 2)), "rows": b.neg(rows)})
    check_program(graph, lowered(graph))
