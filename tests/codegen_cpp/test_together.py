"""Two passes over the same rows run chunk by chunk as one kernel, only where that is sound."""

from dataclasses import replace

import pytest
import torch

from graphc.codegen.cpp import CpuTarget, detect, generate
from graphc.codegen.cpp.together import TOGETHER
from graphc.driver.compile import lower
from graphc.driver.cpu_backend import CpuBackend
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph
from graphc.ir.program import Role
from graphc.primitives.builder import Builder
from graphc.types import TensorType

# CPUs on which nothing fits the last cache, and on which everything does.
SMALL, LARGE = replace(detect(), cores=2, llc=1 << 10), replace(detect(), cores=2, llc=1 << 40)


def layer_norm_gradient(rows: int, columns: int) -> Graph:
    b = Builder("layer_norm_gradient")
    x, dy = (b.input(name, TensorType.parse(f"f32[{rows},{columns}]")) for name in ("x", "dy"))
    gamma = b.input("gamma", TensorType.parse(f"f32[{columns}]"))
    mean, scale = (b.input(name, TensorType.parse(f"f32[{rows},1]")) for name in ("mean", "scale"))
    normal, d = b.mul(b.sub(x, mean), scale), b.mul(dy, gamma)
    middle = b.add(b.mean(d, [1], keepdims=True), b.mul(normal, b.mean(b.mul(d, normal), [1], keepdims=True)))
    return b.finish({
        "dx": b.mul(scale, b.sub(d, middle)), "dgamma": b.sum(b.mul(dy, normal), [0]), "dbeta": b.sum(dy, [0]),
    })  # fmt: skip


def activation_and_bias_gradient(rows: int, columns: int) -> Graph:
    """What the first kernel writes, the second one sums over the rows."""
    b = Builder("activation_and_bias_gradient")
    x, dy = (b.input(name, TensorType.parse(f"f32[{rows},{columns}]")) for name in ("x", "dy"))
    scaled = b.div(b.mul(dy, b.exp(x)), b.sum(b.exp(x), [1], keepdims=True))
    return b.finish({"dx": scaled, "dbias": b.sum(b.mul(scaled, x), [0])})


def run(
    graph: Graph, target: CpuTarget, inputs: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], int]:
    """The outputs by name, and how many kernels run two nests together."""
    backend = CpuBackend.build(generate(lower(graph).program, target))
    program, frame = backend.program, backend.frame({})
    tensors = {}
    for index, buffer in enumerate(program.buffers):
        if buffer.role not in (Role.INTERMEDIATE, Role.WORKSPACE):
            tensors[index] = torch.full(buffer.type.concrete_shape({}), torch.nan)
            frame.bind(index, tensors[index])
    for name, index in program.inputs:
        tensors[index].copy_(inputs[name])
    frame.run()
    joint = sum(TOGETHER in kernel.attributes for kernel in program.kernels)
    return {name: tensors[index] for name, index in program.outputs}, joint


@pytest.mark.parametrize("build", [layer_norm_gradient, activation_and_bias_gradient])
@pytest.mark.parametrize(("rows", "columns"), [(8192, 96), (4096, 257), (16384, 33)])
def test_together_computes_the_same(build: type, rows: int, columns: int) -> None:
    graph: Graph = build(rows, columns)
    inputs = {item.name: torch.randn(item.value.type.concrete_shape({})) for item in graph.inputs}
    inputs["x"][3, 5] = torch.inf
    together, joint = run(graph, SMALL, inputs)
    apart, none = run(graph, LARGE, inputs)
    assert joint == 1 and none == 0
    for name, result in apart.items():
        torch.testing.assert_close(together[name], result, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_together_agrees_with_float64() -> None:
    graph = layer_norm_gradient(8192, 96)
    inputs = {item.name: torch.randn(item.value.type.concrete_shape({})) for item in graph.inputs}
    results, _ = run(graph, SMALL, inputs)
    exact = run_reference(graph, {name: value.double() for name, value in inputs.items()}).outputs
    for result, expected in zip(results.values(), exact.values(), strict=True):
        torch.testing.assert_close(result.double(), expected, rtol=1e-4, atol=1e-3)


def test_rows_that_do_not_fill_chunks_stay_apart() -> None:
    graph = layer_norm_gradient(8191, 96)
    inputs = {item.name: torch.randn(item.value.type.concrete_shape({})) for item in graph.inputs}
    assert run(graph, SMALL, inputs)[1] == 0


def test_sums_of_other_rows_stay_apart() -> None:
    """The second kernel reads what the first one wrote in rows of other chunks: it must wait for all of them."""
    b = Builder("reversed")
    x = b.input("x", TensorType.parse("f32[8192,96]"))
    e = b.exp(x)
    y = b.div(e, b.sum(e, [1], keepdims=True))
    graph = b.finish({"y": y, "sums": b.sum(b.mul(b.reverse(y, axes=(0,)), x), [0])})
    inputs = {"x": torch.randn(8192, 96)}
    together, joint = run(graph, SMALL, inputs)
    assert joint == 0
    y = torch.softmax(inputs["x"], 1)
    torch.testing.assert_close(together["sums"], (y.flip(0) * inputs["x"]).sum(0), rtol=1e-3, atol=1e-3)
