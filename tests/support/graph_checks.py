"""Comparisons that tests of passes share: graphs against the float64 reference, gradients against differences."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph


def results(
    graph: Graph, inputs: Mapping[str, torch.Tensor], dtype: torch.dtype | None = torch.float64
) -> dict:
    """Outputs, and updates under `name=`, of the reference executor."""
    found = run_reference(graph, inputs, dtype=dtype)
    return found.outputs | {f"{name}=": value for name, value in found.updates.items()}


def assert_same_results(
    before: Graph, after: Graph, inputs: Mapping[str, torch.Tensor], rtol: float = 1e-9, atol: float = 1e-9
) -> None:
    """The two graphs agree in float64; the message shows both."""
    known = {item.name: inputs[item.name] for item in after.inputs}
    expected, got = results(before, inputs), results(after, known)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert got[name].dtype == value.dtype
        same = torch.allclose(got[name].double(), value.double(), rtol=rtol, atol=atol, equal_nan=True)
        assert same, f"{name} differs\n{before}\n{after}"


def directional_differences(
    graph: Graph,
    output: str,
    inputs: Mapping[str, torch.Tensor],
    direction: Mapping[str, torch.Tensor],
    step: float,
) -> float:
    """Central difference of the sum of an output along a direction, in float64."""

    def value(sign: float) -> float:
        moved = {
            name: tensor.double() + sign * step * direction[name] if name in direction else tensor
            for name, tensor in inputs.items()
        }
        return float(run_reference(graph, moved).outputs[output].sum())

    return (value(1.0) - value(-1.0)) / (2.0 * step)
