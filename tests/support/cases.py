"""One application of an operator with its oracle in torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

Tensor = torch.Tensor
Oracle = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """One application: shapes of its inputs in order, how they are drawn, and what torch gives for them.

    draw: a range (low, high) of numbers, or a count for whole numbers below it, by argument; others are normal.
    """

    operator: str
    shapes: Mapping[str, tuple[int, ...]]
    oracle: Oracle
    parameters: Mapping[str, Any] = field(default_factory=dict)
    draw: Mapping[str, Any] = field(default_factory=dict)
    gradient: bool = True
    symbolic: bool = True

    def __str__(self) -> str:
        words = ",".join(f"{key}={value}" for key, value in self.parameters.items())
        return f"{self.operator}({words})".replace(" ", "")

    def inputs(self, seed: int = 0) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        result = {}
        for name, shape in self.shapes.items():
            draw = self.draw.get(name)
            if isinstance(draw, int):
                result[name] = torch.randint(draw, shape, generator=generator).double()
            elif draw is not None:
                low, high = draw
                result[name] = (
                    torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low
                )
            else:
                result[name] = torch.randn(shape, generator=generator, dtype=torch.float64)
        return result


def one(
    operator: str,
    shape: tuple[int, ...],
    oracle: Oracle,
    /,
    *,
    draw: Any = None,
    gradient: bool = True,
    symbolic: bool = True,
    **parameters: Any,
) -> Case:
    table = {} if draw is None else {"data": draw}
    return Case(operator, {"data": shape}, oracle, parameters, table, gradient, symbolic)
