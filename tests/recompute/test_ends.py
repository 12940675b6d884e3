"""Epilogues that end where what the backward pass reads can be made again from: less is kept, every bit the same."""

from collections.abc import Callable

import pytest
import torch

import graphc as mx
from graphc.driver.compile import Options, compile, lower
from graphc.ir.graph import Graph
from graphc.ir.kernel import Access, Compute
from graphc.ir.program import Program, Role
from graphc.optimizer import SGD
from graphc.passes.fusion import FusionOptions, fuse, fuse_lean
from graphc.passes.plan import plan
from graphc.symbol import Symbol
from graphc.training import training_graph
from support.deep_networks import transformer, values
from support.same_bits import run, same_bits

EAGER = FusionOptions(thrifty_peak=0)
ROWS, WIDTH, WIDE, BLOCKS = 37, 8, 48, 4


def gelu(data: Symbol) -> Symbol:
    return mx.sym.LeakyReLU(data, act_type="gelu")


def swish(data: Symbol) -> Symbol:
    return data * mx.sym.sigmoid(data)


def scaled_swish(data: Symbol) -> Symbol:
    """All follows from the product too, but whether a compiler rounds that depends on who reads it."""
    return swish(data * 1.7) + 0.3


def blocks(activation: Callable[[Symbol], Symbol], rows: int | str = ROWS, dtype: str = "float32") -> Graph:
    """A training step of feed-forward blocks, optimized."""
    result = mx.sym.Variable("data")
    for k in range(BLOCKS):
        wide = activation(mx.sym.FullyConnected(result, num_hidden=WIDE, name=f"wide{k}"))
        result = result + mx.sym.FullyConnected(wide, num_hidden=WIDTH, name=f"narrow{k}")
    net = mx.sym.MakeLoss(mx.sym.sum(result * result, axis=1), name="loss")
    shapes, dtypes = {"data": (rows, WIDTH)}, {"data": dtype}
    return training_graph(
        net, SGD(learning_rate=0.01, momentum=0.9, rescale_grad=1 / ROWS), shapes=shapes, dtypes=dtypes
    )


def optimized(graph: Graph) -> Graph:
    return lower(graph, Options(constants=False), "reference").optimized


def stored_together(program: Program) -> int:
    """Contractions that write more than one wide intermediate."""
    count = 0
    for step in program.steps:
        kernel = program.kernels[step.kernel]
        written = {
            index
            for parameter, index in zip(kernel.parameters, step.arguments, strict=True)
            if parameter.access is not Access.IN
            and program.buffers[index].role is Role.INTERMEDIATE
            and program.buffers[index].type.shape[-1:] == (WIDE,)
        }
        count += kernel.anchor is not None and len(written) > 1
    return count


def test_a_slope_is_made_with_the_result() -> None:
    """The epilogue that makes a GELU's operand makes its derivative too: one error function a layer."""
    program = fuse(optimized(blocks(gelu)), EAGER)
    kernels = [program.kernels[step.kernel] for step in program.steps]
    found = [
        kernel
        for kernel in kernels
        for nest in kernel.nests
        for statement in nest.body
        if isinstance(statement, Compute) and statement.operation == "erf"
    ]
    assert len(found) == BLOCKS and all(kernel.anchor is not None for kernel in found)


@pytest.mark.parametrize("activation", [gelu, swish, scaled_swish])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_value_is_kept_instead_of_two(activation: Callable[[Symbol], Symbol], dtype: str) -> None:
    graph = optimized(blocks(activation, dtype=dtype))
    plain, lean = fuse(graph, EAGER), fuse_lean(graph, EAGER, 1.0)
    assert stored_together(plain) - stored_together(lean) >= BLOCKS - 1
    wide = ROWS * WIDE * (4 if dtype == "float32" else 8)
    assert plan(plain).size - plan(lean).size >= (BLOCKS - 2) * wide
    assert lean.recomputed is not None and lean.recomputed.plain == plan(plain).size
    inputs = values(graph)
    same_bits(run(plain, inputs), run(lean, inputs))


def test_a_named_batch() -> None:
    graph = optimized(blocks(gelu, rows="N"))
    plain, lean = fuse(graph, EAGER), fuse_lean(graph, EAGER, 1.0)
    assert stored_together(plain) > stored_together(lean) == 0
    for rows in (1, 13):
        assert plan(lean, {"N": rows}).size <= plan(plain, {"N": rows}).size
        inputs = values(optimized(blocks(gelu, rows=rows)))
        same_bits(run(plain, inputs), run(lean, inputs))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_what_memory_rounds_stays_in_the_epilogue(dtype: str) -> None:
    """A kernel keeps 16-bit floats wider than memory does."""
    graph = optimized(blocks(gelu, dtype=dtype))
    plain, lean = fuse(graph, EAGER), fuse_lean(graph, EAGER, 1.0)
    assert stored_together(plain) == stored_together(lean) > 0
    inputs = values(graph)
    same_bits(run(plain, inputs), run(lean, inputs))


def test_it_counts_as_time() -> None:
    """Nothing is taken apart where the launches that this adds cost more than is allowed."""
    graph = optimized(blocks(gelu))
    assert stored_together(fuse_lean(graph, EAGER, 0.001)) == stored_together(fuse(graph, EAGER)) > 0


def test_transformer_blocks() -> None:
    graph = optimized(transformer(3, 8, 32, 32, 2, 11))
    plain, lean = fuse(graph, EAGER), fuse_lean(graph, EAGER, 0.5)
    assert plan(lean).size < 0.75 * plan(plain).size
    inputs = values(graph)
    same_bits(run(plain, inputs), run(lean, inputs))


@pytest.mark.parametrize("activation", [gelu, scaled_swish])
def test_compiled_steps_keep_every_bit(activation: Callable[[Symbol], Symbol]) -> None:
    graph = blocks(activation)
    given = values(graph)
    results, together = [], []
    for share in (0.0, 1.0):
        step = compile(graph, options=Options(fusion=EAGER, recompute=share))
        together.append(stored_together(step.program))
        step.set_states({name: given[name].clone() for name in step.states})
        data = {item.name: given[item.name] for item in step.data_inputs} | {
            "learning_rate": torch.tensor(1e-6)
        }
        losses = [step.run(**data)["loss_output"] for _ in range(3)]
        results.append([*losses, *step.states.values()])
    assert together[0] - together[1] >= BLOCKS - 1
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other) and not one.isnan().any()
