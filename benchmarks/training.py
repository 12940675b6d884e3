"""Whole training steps (forward, backward, SGD with momentum): graphc's one native call beside torch's ways.

eager         a module, cross-entropy, backward, torch.optim.SGD(fused=True)
compile       the same with torch.compile around module and loss
compile_whole one compiled function of loss, gradients (torch.func) and in-place updates
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import models
import torch
from candidate import Candidate, relative_error
from torch.nn import functional

import graphc as mx

BATCH, RATE, MOMENTUM = 64, 0.01, 0.9
# Timed steps see one batch thousands of times: at a real rate they would learn it, and vanishing gradients turn into
# denormal numbers that slow every candidate down, each in its own way.
TIMED_RATE = 1e-6
STEPS = 3

Parameters = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Trainer:
    """One implementation: `step(data, labels)` trains once; `parameters` reads the weights, in a common order."""

    step: Callable[[torch.Tensor, torch.Tensor], object]
    parameters: Callable[[], list[torch.Tensor]]


def data_shape(kind: str) -> tuple[int, ...]:
    """The shape of one batch of images."""
    return (BATCH, 784) if kind == "mlp" else (BATCH, 1, 28, 28)


def module(kind: str) -> torch.nn.Module:
    """The torch network; parameters in the order of graphc's arguments (weight and bias of each layer)."""
    nn = torch.nn
    if kind == "mlp":
        return nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    convolutions = (
        nn.Conv2d(1, 20, 5),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.Tanh(),
        nn.MaxPool2d(2),
    )
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(800, 500), nn.Tanh(), nn.Linear(500, 10))


def names(kind: str) -> list[str]:
    """The parameter names of graphc, in the order of module(kind).parameters()."""
    layers = ("fc1", "fc2") if kind == "mlp" else ("conv1", "conv2", "fc1", "fc2")
    return [f"{layer}_{part}" for layer in layers for part in ("weight", "bias")]


def batch(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images and classes."""
    return torch.rand(data_shape(kind)), torch.randint(0, 10, (BATCH,))


def training_candidates(kind: str, peers: Sequence[str]) -> list[Candidate]:
    """Candidates for `kind` (mlp or lenet): a check trains three steps on fresh data from the same fresh weights."""
    makers: Mapping[str, Callable[[torch.nn.Module, float], Trainer]] = {
        "graphc": lambda network, rate: graphc_trainer(kind, network, rate),
        "eager": eager_trainer,
        "compile": compiled_trainer,
        "compile_whole": whole_trainer,
    }
    wanted = {*peers, "compile_whole"} if "compile" in peers else set(peers)

    def candidate(label: str, make: Callable[[torch.nn.Module, float], Trainer]) -> Candidate:
        data, labels = batch(kind)
        given = labels.float() if label == "graphc" else labels
        trainer = make(module(kind), TIMED_RATE)

        def error() -> float:
            network, batches = module(kind), [batch(kind) for _ in range(STEPS)]
            exact = module(kind).double()
            exact.load_state_dict(network.state_dict())
            checked, reference = make(network, RATE), eager_trainer(exact, RATE)
            for x, y in batches:
                checked.step(x, y.float() if label == "graphc" else y)
                reference.step(x.double(), y)
            return relative_error(checked.parameters(), reference.parameters())

        return Candidate(label, lambda: trainer.step(data, given), error)

    return [candidate(label, make) for label, make in makers.items() if label in wanted]


def graphc_trainer(kind: str, network: torch.nn.Module, rate: float = RATE) -> Trainer:
    """One training step compiled by graphc, from the weights of `network`."""
    symbol = models.mlp() if kind == "mlp" else models.lenet()
    optimizer = mx.optimizer.SGD(learning_rate=rate, momentum=MOMENTUM)
    shapes = {"data": data_shape(kind), "softmax_label": (BATCH,)}
    step = mx.training_step(symbol, optimizer, shapes=shapes)
    values = [parameter.detach() for parameter in network.parameters()]
    step.set_states(dict(zip(names(kind), values, strict=True)))
    return Trainer(
        lambda data, labels: step(data=data, softmax_label=labels),
        lambda: [step.states[name].clone() for name in names(kind)],
    )


def eager_trainer(network: torch.nn.Module, rate: float = RATE) -> Trainer:
    """Plain torch."""
    return _module_trainer(
        network, rate, lambda data, labels: functional.cross_entropy(network(data), labels)
    )


def compiled_trainer(network: torch.nn.Module, rate: float = RATE) -> Trainer:
    """torch.compile around the module and the loss."""
    return _module_trainer(
        network, rate, torch.compile(lambda data, labels: functional.cross_entropy(network(data), labels))
    )


def _module_trainer(network: torch.nn.Module, rate: float, loss: Callable[..., torch.Tensor]) -> Trainer:
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=MOMENTUM, fused=True)

    def step(data: torch.Tensor, labels: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(data, labels).backward()
        optimizer.step()

    return Trainer(step, lambda: [parameter.detach() for parameter in network.parameters()])


def whole_trainer(network: torch.nn.Module, rate: float = RATE) -> Trainer:
    """One compiled function of loss, gradients and updates."""
    parameters: Parameters = {name: value.detach() for name, value in network.named_parameters()}
    momenta = {name: torch.zeros_like(value) for name, value in parameters.items()}

    def loss(weights: Parameters, data: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(torch.func.functional_call(network, weights, (data,)), labels)

    @torch.compile
    def step(weights: Parameters, sums: Parameters, data: torch.Tensor, labels: torch.Tensor) -> None:
        gradients = torch.func.grad(loss)(weights, data, labels)
        for name, gradient in gradients.items():
            sums[name].mul_(MOMENTUM).add_(gradient)
            weights[name].sub_(sums[name], alpha=rate)

    return Trainer(
        lambda data, labels: step(parameters, momenta, data, labels), lambda: list(parameters.values())
    )
