"""Results beside those of the float64 reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphc.cli.arrays import Tensors

if TYPE_CHECKING:
    import torch

    from graphc.driver.executable import Executable

# Largest difference that counts as equal, over the largest magnitude of the output, by element type.
TOLERANCES = {"f64": 1e-10, "f32": 1e-4, "f16": 2e-2, "bf16": 1e-1}
# Sums that cancel to zero leave rounding errors; where all of an output is smaller, this counts as its largest.
LEAST_SCALE = 1e-2


@dataclass(frozen=True, slots=True)
class Comparison:
    """The largest relative difference from float64, and where it is."""

    equal: bool
    error: float
    where: str
    got: float
    expected: float


def compare(executable: Executable, inputs: Tensors, before: Tensors, results: Tensors) -> Comparison:
    """Outputs and updated states beside those of the float64 reference on the declared graph."""
    import torch

    from graphc.driver.reference import run_reference
    from graphc.ir.graph import InputKind

    held = {item.name for item in executable.graph.inputs}
    states = {name: value for name, value in before.items() if name in held}
    given = {name: tensor.cpu() for name, tensor in (inputs | states).items() if name in held}
    # Parameters on which no result depends, such as a fixed gamma, have no value in an executable: any will do.
    unread = {
        item.name: torch.zeros(item.value.type.concrete_shape({}), dtype=item.value.type.dtype.torch)
        for item in executable.graph.inputs
        if item.kind is not InputKind.DATA and item.name not in given
    }
    reference = run_reference(executable.graph, given | unread)
    updated = {f"state {name}": executable.states[name] for name in reference.updates}
    expected = reference.outputs | {f"state {name}": value for name, value in reference.updates.items()}
    worst: Comparison | None = None
    for name, tensor in (results | updated).items():
        found = compare_one(name, tensor, expected[name])
        if worst is None or (worst.equal, -worst.error) > (found.equal, -found.error):
            worst = found
    return worst or Comparison(True, 0.0, "", 0.0, 0.0)


def compare_one(name: str, result: torch.Tensor, expected: torch.Tensor) -> Comparison:
    """One result beside its float64 value, by the tolerance of its element type; NaN equals NaN."""
    import torch

    from graphc.types import DType

    got, want = result.cpu().double(), expected.double()
    if not got.numel():
        return Comparison(True, 0.0, name, 0.0, 0.0)
    scale = max(float(torch.nan_to_num(want, posinf=0.0, neginf=0.0).abs().max()), LEAST_SCALE)
    same = (got == want) | (got.isnan() & want.isnan())
    difference = torch.where(same, 0.0, (got - want).abs() / scale).nan_to_num(nan=float("inf"))
    position = int(difference.argmax())
    error = float(difference.flatten()[position])
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(position), got.shape))
    tolerance = TOLERANCES.get(str(DType.of(result.dtype)), 0.0)
    return Comparison(
        error <= tolerance,
        error,
        f"{name}[{', '.join(map(str, index))}]" if index else name,
        float(got.flatten()[position]),
        float(want.flatten()[position]),
    )
