"""A small reverse sweep over gradient rules, and the numeric derivative it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph, Value
from graphc.primitives import primitive
from graphc.primitives.builder import Builder

Tensors = Mapping[str, torch.Tensor]


def differentiate(graph: Graph, wrt: Sequence[str]) -> Graph:
    """The graph with outputs `d<name>`: gradients of the sum of its floating-point outputs for these inputs."""
    builder = Builder.extend(graph)
    gradients: dict[str, Value] = {}

    def collect(value: Value, gradient: Value) -> None:
        known = gradients.get(value.name)
        gradients[value.name] = gradient if known is None else builder.add(known, gradient)

    for output in graph.outputs:
        if output.type.dtype.is_float:
            collect(output, builder.full_like(1.0, output))
    for node in reversed(graph.nodes):
        declared = primitive(node.primitive)
        heads = tuple(gradients.get(value.name) for value in node.outputs)
        if declared.gradient is None or (not any(heads) and not declared.ignores_head(node)):
            continue
        results = declared.gradient(builder, node, heads)
        for value, result in zip(node.inputs, results, strict=True):
            if result is not None:
                assert result.type == value.type, f"{node}: the gradient of {value.type} is {result.type}"
                collect(value, result)
    inputs = {item.name: item.value for item in graph.inputs}
    return builder.finish(
        {f"d{name}": gradients.get(name) or builder.full_like(0.0, inputs[name]) for name in wrt}
    )


def weighted(graph: Graph, seed: int) -> Graph:
    """The graph whose outputs are multiplied by fixed pseudo-random weights, so that no two cancel in their sum."""
    builder = Builder.extend(graph)
    outputs = {}
    for name, value in zip(graph.output_names, graph.outputs, strict=True):
        if value.type.dtype.is_float:
            weight = builder.full_like(1.0 + 0.37 * seed, value)
            for axis in range(value.type.rank):
                phase = builder.mul(builder.iota(axis, value.type), 1.3 + axis + seed)
                weight = builder.add(weight, builder.sin(phase))
            outputs[f"weighted {name}"] = builder.mul(value, weight)
    return builder.finish(outputs)


def total(graph: Graph, inputs: Tensors) -> float:
    """The sum of all elements of all outputs, in float64."""
    return float(sum(value.sum() for value in run_reference(graph, inputs).outputs.values()))


def directional(
    function: Callable[[Tensors], float], inputs: Tensors, name: str, direction: torch.Tensor
) -> float:
    """Central difference of a function of the inputs when `name` moves along `direction`."""
    step = 1e-5
    ahead = function({**inputs, name: inputs[name] + step * direction})
    behind = function({**inputs, name: inputs[name] - step * direction})
    return (ahead - behind) / (2 * step)


def check_gradient(graph: Graph, inputs: Tensors, wrt: Sequence[str], tolerance: float = 2e-6) -> Graph:
    """Assert that gradients agree with central differences along two directions each; returns the gradient graph."""
    derived = differentiate(graph, wrt)
    gradients = run_reference(derived, inputs).outputs
    generator = torch.Generator().manual_seed(3)
    for name in wrt:
        for _ in range(2):
            direction = torch.randn(inputs[name].shape, generator=generator, dtype=torch.float64)
            numeric = directional(lambda changed: total(graph, changed), inputs, name, direction)
            exact = float((gradients[f"d{name}"] * direction).sum())
            scale = max(1.0, abs(numeric), float(gradients[f"d{name}"].abs().sum()))
            assert abs(exact - numeric) <= tolerance * scale, (
                f"d{name}: {exact} by rule, {numeric} numerically"
            )
    return derived
