"""Optimizer updates of one large parameter: graphc, torch's fused optimizers, and a compiled in-place function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from candidate import Candidate, relative_error
from fused import graphs

import graphc as mx

RATE = 0.01
STEPS = 3
BETA1, BETA2, EPSILON = graphs.ADAM_BETA1, graphs.ADAM_BETA2, graphs.ADAM_EPSILON

State = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Updater:
    """One implementation: `step(gradient, t)` updates the weight that it holds; `weight` reads it."""

    step: Callable[[torch.Tensor, int], object]
    weight: Callable[[], torch.Tensor]


def update_candidates(kind: str, count: int, peers: Sequence[str]) -> list[Candidate]:
    """Candidates for `kind` (adam or sgd): a check runs three steps from a weight of its own with fresh gradients."""
    makers: dict[str, Callable[[torch.Tensor], Updater]] = {
        "graphc": lambda weight: _graphc(kind, weight),
        "eager": lambda weight: _fused_optimizer(kind, weight),
        "compile": lambda weight: _compiled(kind, weight),
    }

    def candidate(label: str, make: Callable[[torch.Tensor], Updater]) -> Candidate:
        gradient = torch.randn(count)
        updater = make(torch.randn(count))

        def error() -> float:
            weight, gradients = torch.randn(count), [torch.randn(count) for _ in range(STEPS)]
            checked = make(weight.clone())
            for t, fresh in enumerate(gradients, 1):
                checked.step(fresh, t)
            return relative_error([checked.weight()], [_reference(kind, weight, gradients)])

        return Candidate(label, lambda: updater.step(gradient, 10), error)

    return [candidate(label, make) for label, make in makers.items() if label in peers]


def _reference(kind: str, start: torch.Tensor, gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    weight = start.double()
    mean, variance = torch.zeros_like(weight), torch.zeros_like(weight)
    for t, gradient in enumerate(gradients, 1):
        g = gradient.double()
        if kind == "sgd":
            mean = 0.9 * mean + g
            weight = weight - RATE * mean
            continue
        mean = BETA1 * mean + (1 - BETA1) * g
        variance = BETA2 * variance + (1 - BETA2) * g * g
        corrected = (variance / (1 - BETA2**t)).sqrt() + EPSILON
        weight = weight - RATE * (mean / (1 - BETA1**t)) / corrected
    return weight


def _scalars(kind: str, t: int) -> dict[str, float]:
    if kind == "sgd":
        return {"learning_rate": RATE}
    return {"step_size": RATE / (1 - BETA1**t), "root_correction": (1 - BETA2**t) ** -0.5}


def _graphc(kind: str, weight: torch.Tensor) -> Updater:
    graph = graphs.adam(weight.numel()) if kind == "adam" else graphs.sgd_momentum(weight.numel())
    executable = mx.compile(graph, parameters={"weight": weight})
    return Updater(
        lambda gradient, t: executable(gradient=gradient, **_scalars(kind, t)),
        lambda: executable.states["weight"],
    )


def _fused_optimizer(kind: str, weight: torch.Tensor) -> Updater:
    parameter = torch.nn.Parameter(weight)
    optimizer: torch.optim.Optimizer
    if kind == "adam":
        optimizer = torch.optim.Adam([parameter], lr=RATE, betas=(BETA1, BETA2), eps=EPSILON, fused=True)
    else:
        optimizer = torch.optim.SGD([parameter], lr=RATE, momentum=0.9, fused=True)

    def step(gradient: torch.Tensor, t: int) -> None:
        parameter.grad = gradient
        optimizer.step()

    return Updater(step, lambda: parameter.detach())


def _adam_in_place(
    weight: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    gradient: torch.Tensor,
    scalars: torch.Tensor,
) -> None:
    mean.mul_(BETA1).add_(gradient, alpha=1 - BETA1)
    variance.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    weight.sub_(scalars[0] * mean / (variance.sqrt() * scalars[1] + EPSILON))


def _sgd_in_place(
    weight: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    gradient: torch.Tensor,
    scalars: torch.Tensor,
) -> None:
    mean.mul_(0.9).add_(gradient)
    weight.sub_(scalars[0] * mean)


def _compiled(kind: str, weight: torch.Tensor) -> Updater:
    function = torch.compile(_adam_in_place if kind == "adam" else _sgd_in_place)
    mean = torch.zeros_like(weight)
    variance = torch.zeros_like(weight if kind == "adam" else weight[:1])

    def step(gradient: torch.Tensor, t: int) -> None:
        function(weight, mean, variance, gradient, torch.tensor(list(_scalars(kind, t).values())))

    return Updater(step, lambda: weight)
