"""`graphc bench` measures each kernel and the whole program; `graphc explain MODEL` says why they are what they are."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import graphc as mx
from graphc.cli.kernel_bench import contraction_flops, kernel_case, torch_program
from graphc.cli.options import Request
from graphc.driver.compile import compile, lower
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph
from graphc.ir.parse import parse_graph

Command = Callable[..., Any]


def training_graph() -> Graph:
    return Request("net.py", {}, {}, False, "sgd,momentum=0.9", {}, 0, "cpu").graph()


def test_bench_measures_kernels_and_programs(graphc: Command) -> None:
    data = graphc("bench", "double.graph", "--rounds", "1", "--peers", "eager", "--json").json
    assert data["limits"]["bandwidth"] > 0
    (kernel,) = data["kernels"]
    assert kernel["nbytes"] == 32
    assert kernel["median_seconds"] > 0
    assert kernel["bound"] == "memory"
    assert set(data["programs"]) == {"graphc", "eager"}


def test_bench_prints_tables(graphc: Command) -> None:
    result = graphc("bench", "double.graph", "--rounds", "1", "--peers", "none")
    assert result.code == 0
    assert "GB/s" in result.out
    assert "limits probed in the same rounds" in result.out


def test_bench_times_the_steps_of_the_running_program(graphc: Command) -> None:
    command = (
        "bench",
        "net.py",
        "--optimizer",
        "sgd",
        "--rounds",
        "1",
        "--peers",
        "none",
        "--steps",
        "--json",
    )
    data = graphc(*command).json
    program = lower(Request("net.py", {}, {}, False, "sgd", {}, 0, "cpu").graph()).program
    assert {kernel["kernel"] for kernel in data["kernels"]} == {kernel.name for kernel in program.kernels}
    assert sum(kernel["launches"] for kernel in data["kernels"]) == len(program.steps)
    seconds = [kernel["median_seconds"] for kernel in data["kernels"]]
    assert seconds == sorted(seconds, reverse=True) and seconds[-1] > 0


def test_kernel_alone_computes_its_part(folder: object) -> None:
    program = lower(parse_graph("graph g(%x: f32[8]) -> (%y) {\n  %y: f32[8] = add(%x, %x)\n}\n")).program
    case = kernel_case(program, program.kernels[0], {}, "cpu")
    case.call()
    x, y = case.tensors
    torch.testing.assert_close(y, x + x)
    assert (case.nbytes, case.flops) == (64, 0)


def test_contraction_counts_its_operations(folder: object) -> None:
    text = "graph g(%a: f32[4,8], %b: f32[8,16]) -> (%c) {\n"
    text += "  %c: f32[4,16] = dot(%a, %b) {transpose_a=false, transpose_b=false}\n}\n"
    (kernel,) = lower(parse_graph(text)).program.kernels
    assert contraction_flops(kernel, {}) == 2 * 4 * 8 * 16


@pytest.mark.parametrize(
    ("primitive", "flops"),
    [
        ("dot", 2 * 64 * 96 * 128),
        ("convolution", 2 * 8 * 32 * 16 * 16 * 16 * 9),
        ("attention", 4 * 6 * 40 * 40 * 8),
    ],
)
def test_operations_of_packed_and_viewed_operands_count(folder: object, primitive: str, flops: int) -> None:
    symbols = {
        "dot": mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=96, name="fc"),
        "convolution": mx.sym.Convolution(
            mx.sym.Variable("data"), num_filter=32, kernel=(3, 3), pad=(1, 1), name="conv"
        ),
        "attention": _attention(mx.sym.Variable("data")),
    }
    shapes = {"dot": (64, 128), "convolution": (8, 16, 16, 16), "attention": (2, 40, 24)}
    executable = compile(symbols[primitive], shapes={"data": shapes[primitive]}, target="cpu")
    counts = [contraction_flops(kernel, {}) for kernel in executable.kernels if kernel.anchor is not None]
    assert flops in counts


def _attention(data: mx.Symbol) -> mx.Symbol:
    """Three heads of width 8 look at each other."""
    heads = mx.sym.transpose(mx.sym.Reshape(data, shape=(0, 0, 3, 8)), axes=(0, 2, 1, 3))
    weights = mx.sym.softmax(mx.sym.batch_dot(heads, heads, transpose_b=True), axis=-1)
    mixed = mx.sym.transpose(mx.sym.batch_dot(weights, heads), axes=(0, 2, 1, 3))
    return mx.sym.Reshape(mixed, shape=(0, 0, -3))


def test_torch_program_is_the_graph(folder: object) -> None:
    graph = lower(training_graph()).optimized
    generator = torch.Generator().manual_seed(1)
    inputs = {
        item.name: torch.rand(item.value.type.concrete_shape({}), generator=generator)
        for item in graph.inputs
    }
    reference = run_reference(graph, inputs)
    module = torch_program(graph, {}, inputs)
    tensors = [inputs[item.name].clone() for item in graph.inputs]
    outputs = module(*tensors)
    for name, output in zip(graph.output_names, outputs, strict=True):
        torch.testing.assert_close(output.double(), reference.outputs[name], rtol=1e-5, atol=1e-6)
    # States are updated in place, as the compiled program does.
    after = dict(zip((item.name for item in graph.inputs), tensors, strict=True))
    for name, update in reference.updates.items():
        torch.testing.assert_close(after[name].double(), update, rtol=1e-5, atol=1e-6)


def test_explain_gives_a_reason_and_a_line_for_every_decision(graphc: Command) -> None:
    data = graphc("explain", "net.py", "--train", "--json").json
    assert data["kernels"] < data["operators"]
    assert any(decision["accepted"] for decision in data["decisions"])
    assert any(not decision["accepted"] for decision in data["decisions"])
    assert all(decision["reason"] for decision in data["decisions"])
    assert any(decision["producer_line"].startswith("net.py:") for decision in data["decisions"])
    refused = graphc("explain", "net.py", "--train", "--refused", "--json").json["decisions"]
    assert refused == [decision for decision in data["decisions"] if not decision["accepted"]]


def test_explain_prints_a_table(graphc: Command) -> None:
    result = graphc("explain", "net.py")
    assert result.code == 0
    assert "reason" in result.out
    assert "net.py:4" in result.out


@pytest.mark.parametrize(
    "arguments", [["bench", "net.py", "--peers", "jax"], ["bench", "nte.py"], ["explain"]]
)
def test_wrong_requests(graphc: Command, arguments: list[str]) -> None:
    result = graphc(*arguments)
    assert (result.code, result.out) == (2, "")
