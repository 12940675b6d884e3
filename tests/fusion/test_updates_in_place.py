"""A state is overwritten in place only after everything in the kernel has read its old content."""

import torch

from graphc.driver.compile import compile
from graphc.driver.reference import run_reference
from graphc.ir.kernel import Affine, Axis, Compute, Load, Nest, Reduce, Reduction, Statement, Store
from graphc.passes.fusion.inplace import Timeline
from graphc.types import DType
from support.deep_networks import chain, values

ROW, COLUMN = Affine.axis("i0"), Affine.axis("r0")


def scaled_rows(late: bool) -> Nest:
    """gamma[i] becomes gamma[i] plus a row's sum; x * gamma is summed, or also stored after the sum is known."""
    f32 = DType.F32
    body: list[Statement] = [
        Load("x", f32, "x", (ROW, COLUMN)),
        Load("g", f32, "gamma", (ROW,)),
        Compute("y", f32, "mul", ("x", "g")),
        Reduce("s", f32, Reduction.SUM, "y"),
        Compute("new", f32, "add", ("g", "s")),
        Store("updated", (ROW,), "new"),
    ]
    if late:
        body[-1:-1] = [Compute("z", f32, "sub", ("y", "s"))]
        body.append(Store("out", (ROW, COLUMN), "z"))
    return Nest((Axis("i0", 4), Axis("r0", 8, True)), tuple(body))


def test_a_later_loop_reads_the_old_content() -> None:
    assert Timeline(scaled_rows(late=False)).reads_only_where_it_writes("gamma", "updated", (4,), (4,))
    assert not Timeline(scaled_rows(late=True)).reads_only_where_it_writes("gamma", "updated", (4,), (4,))
    # The row itself is read only at the point that writes it, in the last loop.
    assert Timeline(scaled_rows(late=True)).reads_only_where_it_writes("x", "out", (4, 8), (4, 8))


def test_batch_norm_in_training_with_momentum() -> None:
    """Gamma's update shares a kernel with the gradient that gamma scales."""
    graph = chain(2, 16, 64, "relu", normalized=True)
    executable = compile(graph)
    given = values(graph)
    executable.set_states({name: given[name].clone() for name in executable.states})
    expected = run_reference(graph, given)
    executable.run(**{item.name: given[item.name] for item in executable.data_inputs})
    for name, value in expected.updates.items():
        torch.testing.assert_close(executable.states[name].double(), value.double(), rtol=1e-3, atol=1e-4)
