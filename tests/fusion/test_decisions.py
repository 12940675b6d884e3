"""What fusion joins and what it does not, with the reason it gives."""

from graphc.ir.program import Program
from graphc.passes.fusion import FusionOptions, fuse
from graphc.passes.plan import plan
from graphc.types import TensorType
from support.fusion_cases import Maker, bias_gelu_residual, mlp_layer
from support.fusion_checks import check_program

T = TensorType.parse


def refusals(program: Program) -> str:
    return "\n".join(d.reason for d in program.decisions if not d.accepted)


def test_decisions_name_the_users_operators() -> None:
    decisions = fuse(mlp_layer()).decisions
    assert any(
        d.accepted
        and d.producer == "fc1 (dot)"
        and d.consumer == "relu1 (maximum)"
        and "epilogue" in d.reason
        and d.bytes_saved == 2 * 4 * 256 * 128
        for d in decisions
    )


def test_kernels_are_named_after_the_users_operators() -> None:
    assert [kernel.name for kernel in fuse(bias_gelu_residual()).kernels] == ["gelu_out"]


def test_two_contractions_do_not_share_a_kernel() -> None:
    b = Maker()
    x = b.data("x", "f32[8,8]")
    graph = b.finish({"y": b.add(b.product(x, x), b.product(x, x, tb=True))})
    program = fuse(graph)
    assert len(program.steps) == 2
    assert "already has the contraction" in refusals(program)
    check_program(graph, program)


def test_a_cycle_is_refused() -> None:
    # exp(x) is read by the product and by what the product feeds: the reader may not compute it.
    b = Maker()
    x = b.data("x", "f32[8,8]")
    y = b.exp(x)
    graph = b.finish({"z": b.tanh(b.add(y, b.sum(b.product(y, x))))})
    program = fuse(graph)
    check_program(graph, program)
    assert "would make a cycle" in refusals(program)


def test_long_rows_are_not_held() -> None:
    graph_rows = FusionOptions(max_row_elements=1024)
    b = Maker()
    graph = b.finish({"y": b.softmax(b.data("x", "f32[64,4096]"))})
    assert len(fuse(graph).steps) == 1
    split = fuse(graph, graph_rows)
    assert len(split.steps) > 1
    assert "row is too long" in refusals(split)


def test_expensive_work_is_not_repeated_by_a_broadcast() -> None:
    b = Maker()
    x, scale = b.data("x", "f32[512,512]"), b.data("scale", "f32[512]")
    graph = b.finish({"y": b.mul(x, b.exp(scale))})
    program = fuse(graph)
    assert len(program.steps) == 2
    assert "again for every element" in refusals(program)


def test_cheap_work_is_repeated_by_a_broadcast() -> None:
    b = Maker()
    x, scale = b.data("x", "f32[512,512]"), b.data("scale", "f32[512]")
    assert len(fuse(b.finish({"y": b.mul(x, b.mul(scale, 2.0))})).steps) == 1


def test_reductions_side_by_side_share_a_pass() -> None:
    b = Maker()
    x = b.data("x", "f32[256,256]")
    graph = b.finish(
        {
            "sum": b.sum(x, [0]),
            "mean": b.mean(x, [0]),
            "max": b.reduce("reduce_max", x, [0]),
        }
    )
    program = fuse(graph)
    assert len(program.steps) == 1
    check_program(graph, program)


def test_reductions_along_other_axes_do_not() -> None:
    b = Maker()
    x = b.data("x", "f32[512,512]")
    assert len(fuse(b.finish({"rows": b.sum(x, [1]), "columns": b.sum(x, [0])})).steps) == 2


def test_small_independent_reductions_share_a_launch() -> None:
    """The gradients of two biases."""
    b = Maker()
    x, y = b.data("x", "f32[64,128]"), b.data("y", "f32[64,10]")
    graph = b.finish({"x": b.sum(x, [0]), "y": b.sum(y, [0])})
    program = fuse(graph)
    assert [len(kernel.nests) for kernel in program.kernels] == [2]
    check_program(graph, program)


def test_slices_of_one_projection_are_read_in_one_kernel() -> None:
    """The gates of an LSTM cell: a projection, four slices, elementwise work and two results."""
    b = Maker("lstm")
    x, w, c = b.data("x", "f32[20,650]"), b.parameter("w", "f32[2600,650]"), b.data("c", "f32[20,650]")
    gates = b.product(x, w, tb=True)
    i, f, g, o = (b.slice_axis(gates, 1, 650 * k, 650 * (k + 1)) for k in range(4))
    state = b.add(b.mul(b.sigmoid(f), c), b.mul(b.sigmoid(i), b.tanh(g)))
    graph = b.finish({"c": state, "h": b.mul(b.sigmoid(o), b.tanh(state))})
    program = fuse(graph)
    assert len(program.steps) == 2
    check_program(graph, program)


def test_equal_kernels_are_generated_once() -> None:
    b = Maker()
    x = b.data("x", "f32[32,64]")
    for k in range(4):
        x = b.maximum(
            b.add(b.product(x, b.parameter(f"w{k}", "f32[64,64]")), b.parameter(f"b{k}", "f32[64]")), 0.0
        )
    program = fuse(b.finish({"y": x}))
    assert len(program.steps) == 4
    assert len({step.kernel for step in program.steps}) <= 2


def test_fusion_can_be_turned_off() -> None:
    program = fuse(mlp_layer(), FusionOptions(enabled=False))
    assert len(program.steps) == len(mlp_layer().nodes)


def test_long_chains_are_cut() -> None:
    b = Maker()
    x = y = b.data("x", "f32[8]")
    for _ in range(500):
        y = b.sin(b.add(y, x))
    program = fuse(b.finish({"y": y}), FusionOptions(max_nodes=100))
    assert len(program.steps) == 10
    assert "already has 100 nodes" in refusals(program)


def test_a_weights_gradient_is_summed_in_place() -> None:
    """An unrolled network: each product adds to the sum so far, in one buffer."""
    b = Maker()
    pairs = [(b.data(f"x{k}", "f32[20,64]"), b.data(f"dy{k}", "f32[20,32]")) for k in range(4)]
    total = None
    for x, dy in pairs:
        part = b.product(dy, x, ta=True)
        total = part if total is None else b.add(total, part)
    assert total is not None
    graph = b.finish({"gradient": total})
    program = fuse(graph)
    assert len(program.steps) == 4
    assert plan(program).size == 0
    check_program(graph, program)


def test_fusion_that_would_hold_large_operands_is_done_more_carefully() -> None:
    # In one kernel the four sums would need all four products at once.
    b = Maker()
    total = None
    for k in range(4):
        x = b.data(f"x{k}", "f32[64,64]")
        part = b.sum(b.product(x, x))
        total = part if total is None else b.add(total, part)
    assert total is not None
    graph = b.finish({"total": total})
    program = fuse(graph)
    check_program(graph, program)
    assert plan(program).size < 2 * 64 * 64 * 4
    assert "would have to be kept for longer" in refusals(program)


def test_statistics_stored_for_the_backward_pass_stay_in_the_rows_kernel() -> None:
    b = Maker()
    x, dy = b.data("x", "f32[64,96]"), b.data("dy", "f32[96,8]")
    y, scale = b.normalized(x)
    graph = b.finish({"y": b.product(y, dy), "scale": scale})
    program = fuse(graph)
    assert len(program.steps) == 2
    check_program(graph, program)


def test_what_lies_in_memory_anyway_is_not_stored_twice() -> None:
    # z and tanh(z) are kept for the second product's reader; z * z is cheaper to do again.
    b = Maker()
    x, w = b.data("x", "f32[32,32]"), b.parameter("w", "f32[32,32]")
    z = b.product(x, w)
    square = b.mul(z, z)
    h = b.product(b.tanh(square), w)
    graph = b.finish({"y": b.mul(b.mul(h, square), z)})
    program = fuse(graph)
    check_program(graph, program)
    assert [len(kernel.writes) for kernel in program.kernels] == [2, 1]
