"""Whole training steps: how many kernels, agreement with the reference, memory beside unfused; 16-bit types."""

import pytest
import torch

import graphc as mx
from graphc.driver.kernel_interpreter import run_program
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph
from graphc.ir.kernel import Compute, Load
from graphc.ir.program import Role
from graphc.optimizer import SGD, Adam, Optimizer
from graphc.passes.fusion import fuse, unfused
from graphc.passes.manager import PassManager, default_pipeline
from graphc.passes.plan import plan
from graphc.training import training_graph
from graphc.types import DType, TensorType
from support.fusion_cases import Maker
from support.fusion_checks import check_program
from support.graphs import random_inputs


def mlp() -> mx.Symbol:
    net = mx.sym.Variable("data")
    for k, width in enumerate((32, 16)):
        net = mx.sym.FullyConnected(net, name=f"fc{k}", num_hidden=width)
        net = mx.sym.Activation(net, name=f"relu{k}", act_type="relu")
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, name="out", num_hidden=10), name="softmax")


def convolutional() -> mx.Symbol:
    net = mx.sym.Convolution(mx.sym.Variable("data"), name="conv", kernel=(3, 3), pad=(1, 1), num_filter=8)
    net = mx.sym.BatchNorm(net, name="bn", fix_gamma=False)
    net = mx.sym.Activation(net, name="tanh", act_type="tanh")
    net = mx.sym.Pooling(net, name="pool", kernel=(2, 2), stride=(2, 2), pool_type="max")
    net = mx.sym.Dropout(mx.sym.Flatten(net, name="flat"), name="drop", p=0.5)
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, name="fc", num_hidden=10), name="softmax")


def step(symbol: mx.Symbol, shape: tuple, optimizer: Optimizer) -> Graph:
    graph = training_graph(symbol, optimizer, shapes={"data": shape, "softmax_label": ("N",)})
    return PassManager(default_pipeline(2)).run(graph)[0]


@pytest.mark.parametrize(
    ("symbol", "shape", "optimizer", "most"),
    [
        pytest.param(mlp(), ("N", 64), SGD(learning_rate=0.1, momentum=0.9), 13, id="mlp sgd"),
        pytest.param(mlp(), ("N", 64), Adam(), 14, id="mlp adam"),
        pytest.param(convolutional(), ("N", 1, 8, 8), SGD(learning_rate=0.1), 14, id="convolutional sgd"),
    ],
)
def test_a_training_step_becomes_few_kernels(
    symbol: mx.Symbol, shape: tuple, optimizer: Optimizer, most: int
) -> None:
    graph = step(symbol, shape, optimizer)
    program = fuse(graph)
    assert len(program.steps) <= most < len(graph.nodes) / 4
    check_program(graph, program, sizes={"N": 3})
    for size in (1, 64):
        assert plan(program, {"N": size}).size <= plan(unfused(graph), {"N": size}).size


def test_parameters_are_updated_in_place() -> None:
    graph = step(mlp(), ("N", 64), SGD(learning_rate=0.1, momentum=0.9))
    program = fuse(graph)
    values = {name for buffer in program.buffers if buffer.role is Role.STATE for name in buffer.values}
    assert {update.value.name for update in graph.updates} <= values


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_16_bit_values_are_widened_for_arithmetic_and_rounded_once(dtype: str) -> None:
    b = Maker()
    x, w = b.data("x", f"{dtype}[6,8]"), b.parameter("w", f"{dtype}[4,8]")
    y = b.softmax(b.maximum(b.product(x, w, tb=True), 0.0))
    graph = b.finish({"y": y, "wide": b.cast(y, DType.F32)})
    program = fuse(graph)
    check_program(graph, program)
    statements = [s for kernel in program.kernels for nest in kernel.nests for s in nest.body]
    narrow = {s.name for s in statements if isinstance(s, Load) and s.dtype is DType.of(dtype)}
    used = {
        name for s in statements if isinstance(s, Compute) and s.operation != "cast" for name in s.arguments
    }
    assert narrow and not narrow & used
    inputs = random_inputs(graph, 0)
    got = run_program(program, inputs, dtype=None).outputs["y"]
    assert got.dtype is DType.of(dtype).torch
    torch.testing.assert_close(got.double(), run_reference(graph, inputs).outputs["y"], rtol=0.02, atol=0.02)


def test_declared_types_agree_with_the_reference_in_them() -> None:
    b = Maker()
    x, k = b.data("x", "f32[5,7]"), b.data("k", "i32[5,7]")
    graph = b.finish(
        {
            "wrapped": b.mul(k, 2_000_000_011),
            "mean": b.mean(b.exp(x), [1]),
            "position": b.emit("argmax", x, axes=(1,)),
            "counted": b.sum(b.cast(b.gt(x, 0.0), DType.I64)),
            "index": b.iota(1, TensorType(DType.I32, (5, 7))),
        }
    )
    inputs = random_inputs(graph, 1)
    got = run_program(fuse(graph), inputs, dtype=None)
    expected = run_reference(graph, inputs, dtype=None)
    for name, value in expected.outputs.items():
        assert got.outputs[name].dtype is value.dtype
        torch.testing.assert_close(got.outputs[name], value)


def test_layers_of_one_width_do_not_wait_for_each_other() -> None:
    """Updates share the learning rate, broadcast to one shape: no reason to keep all gradients for one kernel."""
    net = mx.sym.Variable("data")
    for k in range(4):
        net = mx.sym.Activation(
            mx.sym.FullyConnected(net, name=f"fc{k}", num_hidden=64), name=f"relu{k}", act_type="relu"
        )
    net = mx.sym.SoftmaxOutput(net, name="softmax")
    shapes = {"data": (64, 64), "softmax_label": (64,)}
    graph = training_graph(net, SGD(learning_rate=0.1, momentum=0.9), shapes=shapes)
    graph = PassManager(default_pipeline(2)).run(graph)[0]
    program = fuse(graph)
    weights = {
        program.buffers[index].name: index for name, index in program.inputs if name.endswith("_weight")
    }
    writers = {
        name: [
            number
            for number, launch in enumerate(program.steps)
            for parameter, argument in zip(
                program.kernels[launch.kernel].parameters, launch.arguments, strict=True
            )
            if argument == index and parameter.access.value != "in"
        ]
        for name, index in weights.items()
    }
    updates = [numbers[0] for numbers in writers.values()]
    assert len(weights) == 4 and len(set(updates)) == 4
    # Each is the epilogue of its own gradient, and the last layer's comes first.
    assert all(program.kernels[program.steps[number].kernel].anchor is not None for number in updates)
    assert updates == sorted(updates, reverse=True)
    check_program(graph, program)
