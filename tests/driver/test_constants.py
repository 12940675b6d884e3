"""What follows from parameters alone is computed once, and again when a parameter changes, however it was written."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import graphc as mx
from graphc.driver.compile import Options, compile, lower
from graphc.driver.executable import Executable
from graphc.ir.graph import Graph, InputKind
from graphc.passes.constants import constants, hoist
from graphc.primitives.builder import Builder
from graphc.training import training_graph
from graphc.types import DType, TensorType

ROWS = 5


def scaled_layer(update: bool = False) -> Graph:
    """relu(((x wᵀ) + c) * rsqrt(v + eps) * g), with state v; with `update`, w changes on every run."""
    b = Builder("scaled")
    x = b.input("x", TensorType.parse("f32[N,24]"))
    w = b.input("w", TensorType.parse("f32[33,24]"), InputKind.PARAMETER)
    c, g = (b.input(name, TensorType.parse("f32[33]"), InputKind.PARAMETER) for name in "cg")
    v = b.input("v", TensorType.parse("f32[33]"), InputKind.STATE)
    y = b.add(b.emit("dot", x, w, transpose_b=True), c)
    y = b.maximum(b.mul(b.mul(y, b.rsqrt(b.add(v, 1e-3))), g), 0.0)
    if update:
        b.update(w, b.mul(w, 0.5))
    return b.finish({"y": y})


def values(seed: int = 0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    shapes = {"w": (33, 24), "c": (33,), "g": (33,), "v": (33,)}
    return {name: torch.rand(shape, generator=random) + 0.1 for name, shape in shapes.items()}


def expected(x: torch.Tensor, given: dict[str, torch.Tensor]) -> torch.Tensor:
    x, w, c, g, v = (t.double() for t in (x, given["w"], given["c"], given["g"], given["v"]))
    return (((x @ w.T + c) * (v + 1e-3).rsqrt() * g).relu()).float()


def check(executable: Executable, given: dict[str, torch.Tensor]) -> None:
    x = torch.randn(ROWS, 24)
    torch.testing.assert_close(executable(x=x), expected(x, given), rtol=1e-5, atol=1e-5)


def test_nothing_but_the_shift_is_left_in_the_main_program() -> None:
    stages = lower(scaled_layer())
    assert [node.primitive for node in stages.program.graph.nodes].count("mul") == 0
    prologue = stages.program.prologue
    assert prologue is not None and prologue.symbols == ()
    assert {name for name, _ in prologue.inputs} == {"w", "c", "g", "v"}
    made = {item.name for item in stages.program.graph.inputs if item.kind is InputKind.CONSTANT}
    assert made == {name for name, _ in prologue.outputs}


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_every_way_of_writing_is_noticed(target: str) -> None:
    executable = compile(scaled_layer(), target=target)
    given = values()
    executable.set_states(given)
    check(executable, given)
    executable.set_states({"w": given["w"] * 2})
    check(executable, given | {"w": given["w"] * 2})
    executable.states["g"].mul_(3)
    executable.states["v"][4] = 9.0
    given = {name: value.clone() for name, value in executable.states.items()}
    check(executable, given)
    mine = torch.rand(33, 24)
    executable.share_state("w", mine)
    check(executable, given | {"w": mine})
    mine.add_(1)
    check(executable, given | {"w": mine})
    # A write that torch does not see has to be told.
    mine.numpy()[:] = 0.25
    check(executable.refresh_constants(), given | {"w": mine})
    executable.initialize(mx.init.Uniform(0.5))
    check(executable, dict(executable.states))


def test_a_parameter_in_a_call_counts_for_that_call_only() -> None:
    executable = compile(scaled_layer())
    given = values()
    executable.set_states(given)
    x, other = torch.randn(ROWS, 24), torch.rand(33, 24)
    torch.testing.assert_close(
        executable(x=x, w=other), expected(x, given | {"w": other}), rtol=1e-5, atol=1e-5
    )
    check(executable, given)


def test_inference_tensors_have_no_counter_and_are_read_on_each_call() -> None:
    executable = compile(scaled_layer())
    given = values()
    executable.set_states(given)
    with torch.inference_mode():
        mine = torch.ones(33, 24)
        executable.share_state("w", mine)
        check(executable, given | {"w": mine})
        mine.mul_(0.5)
        check(executable, given | {"w": mine})


def test_an_update_by_another_executable_is_noticed() -> None:
    reader, writer = compile(scaled_layer()), compile(scaled_layer(update=True))
    given = values()
    reader.set_states(given)
    writer.set_states(given)
    reader.share_state("w", writer.states["w"])
    check(reader, given)
    writer(x=torch.ones(1, 24))
    check(reader, given | {"w": given["w"] * 0.5})


def test_updated_parameters_are_no_constants() -> None:
    graph = scaled_layer(update=True)
    assert "w" not in constants(graph) and "c" in constants(graph)
    executable = compile(graph)
    given = values()
    executable.set_states(given)
    for factor in (1.0, 0.5, 0.25):
        check(executable, given | {"w": given["w"] * factor})


def test_constants_can_be_turned_off() -> None:
    executable = compile(scaled_layer(), options=Options(constants=False))
    assert executable.program.prologue is None and executable.memory(N=3)["bytes"]["constant"] == 0
    given = values()
    executable.set_states(given)
    check(executable, given)


def test_memory_counts_what_is_held() -> None:
    executable = compile(scaled_layer())
    # The scaled weight is held packed only: 24 rows of 48 columns, and the shift.
    assert executable.memory(N=ROWS)["bytes"]["constant"] == 4 * (24 * 48 + 33)


def test_only_what_saves_more_than_it_holds_is_hoisted() -> None:
    b = Builder("choice")
    x = b.input("x", TensorType.parse("f32[64,512]"))
    scale = b.input("scale", TensorType.parse("f32[512]"), InputKind.PARAMETER)
    table = b.input("table", TensorType.parse("bf16[1000,512]"), InputKind.PARAMETER)
    index = b.input("index", TensorType.parse("i64[64]"))
    wide = b.broadcast(b.exp(scale), (64, 512), [1])
    rows = b.emit("gather", b.cast(table, DType.F32), index, axis=0)
    graph = b.finish({"y": b.add(b.mul(x, wide), rows)})
    prologue, main = hoist(graph)
    # The exponentials are held; neither their broadcast nor the widened table is.
    assert prologue is not None
    assert [node.primitive for node in prologue.nodes] == ["exp"]
    assert [node.primitive for node in main.nodes].count("cast") == 1
    assert hoist(main) == (None, main)


def test_a_constant_that_is_an_output() -> None:
    b = Builder("given")
    x = b.input("x", TensorType.parse("f32[4]"))
    w = b.input("w", TensorType.parse("f32[4]"), InputKind.PARAMETER)
    half = b.mul(w, 0.5)
    executable = compile(b.finish({"half": half, "sum": b.add(x, half), "same": b.reshape(half, (2, 2))}))
    w_value = torch.tensor([1.0, float("nan"), float("inf"), -2.0])
    executable.set_states({"w": w_value})
    for _ in range(2):
        half_found, total, same = executable(x=torch.ones(4))
        torch.testing.assert_close(half_found, w_value * 0.5, equal_nan=True)
        torch.testing.assert_close(total, w_value * 0.5 + 1, equal_nan=True)
        half_found.zero_()
        torch.testing.assert_close(same.reshape(4), w_value * 0.5, equal_nan=True)


@pytest.mark.parametrize("kind", ["convolution", "pooled", "dense", "deconvolution"])
def test_normalization_at_inference_is_one_addition(kind: str) -> None:
    data = mx.sym.Variable("data")
    if kind == "dense":
        net, shape = mx.sym.FullyConnected(data, num_hidden=7, name="fc"), (3, 5)
    elif kind == "deconvolution":
        net, shape = mx.sym.Deconvolution(data, kernel=(3, 3), num_filter=6, name="conv"), (2, 4, 5, 5)
    else:
        # A bias before the sum over windows would not commute with it: there is none, as before any BatchNorm.
        net = mx.sym.Convolution(data, kernel=(1, 1), num_filter=6, name="conv", no_bias=kind == "pooled")
        shape = (2, 8, 9, 9)
    if kind == "pooled":
        net = mx.sym.Pooling(net, kernel=(3, 3), stride=(1, 1), pad=(1, 1), pool_type="avg")
    net = mx.sym.Activation(mx.sym.BatchNorm(net, name="bn", fix_gamma=False), act_type="relu")
    executable, plain = (
        compile(net, shapes={"data": shape}, options=Options(level=level)) for level in (2, 0)
    )
    counts = [node.primitive for node in executable.program.graph.nodes]
    assert counts.count("mul") == counts.count("sub") == counts.count("rsqrt") == 0
    assert counts.count("add") == 1
    random = np.random.default_rng(3)
    states = {name: random.uniform(0.2, 1.5, tuple(t.shape)) for name, t in plain.states.items()}
    for made in (executable, plain):
        made.set_states({name: torch.from_numpy(value).float() for name, value in states.items()})
    x = torch.from_numpy(random.standard_normal(shape)).float()
    torch.testing.assert_close(executable(data=x), plain(data=x), rtol=2e-5, atol=2e-5)


def test_a_training_step_keeps_its_normalization() -> None:
    data = mx.sym.Variable("data")
    net = mx.sym.BatchNorm(mx.sym.FullyConnected(data, num_hidden=7, name="fc"), name="bn")
    net = mx.sym.SoftmaxOutput(net, name="softmax")
    graph = training_graph(net, mx.optimizer.SGD(0.1), shapes={"data": (4, 5), "softmax_label": (4,)})
    assert lower(graph).program.prologue is None


def test_a_label_of_a_named_batch_is_no_constant() -> None:
    """A network with its loss, for inference: nothing reads the label, whose shape follows from the batch."""
    data = mx.sym.Variable("data")
    net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(data, num_hidden=3, name="fc"), name="softmax")
    program = mx.compile(net, shapes={"data": ("N", 4)}, target="cpu")
    given = {"fc_weight": torch.randn(3, 4), "fc_bias": torch.randn(3)}
    program.set_states(given)
    x = torch.randn(5, 4)
    expected = torch.softmax(x @ given["fc_weight"].T + given["fc_bias"], 1)
    torch.testing.assert_close(program(data=x), expected)
