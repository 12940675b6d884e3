"""The training suite. Inputs: `data` and `labels` of STEPS batches along a first axis, and every parameter.

A check trains STEPS steps at the row's rate, one fresh batch each, and compares how far every parameter moved. Timed
steps see the first batch again and again: at a real rate they would learn it, and vanishing gradients turn into
denormal numbers that slow every candidate down, each in its own way. So their rate is TIMED_RATE.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from harness.row import Array, Arrays, Row

from training import networks
from training.networks import Network

STEPS = 3
TIMED_RATE = 1e-6
MOMENTUM = 0.9
BETA1, BETA2, EPSILON, DECAY = 0.9, 0.999, 1e-8, 0.01


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is trained and how; kind: sgd, momentum, adam or adamw."""

    network: Network
    kind: str
    rate: float

    @property
    def decay(self) -> float:
        """The share of every parameter that a step at rate 1 takes off."""
        return DECAY if self.kind == "adamw" else 0.0


def batches(inputs: Arrays) -> list[tuple[Array, Array]]:
    """The batches of a check; the first is the timed one."""
    return list(zip(inputs["data"], inputs["labels"], strict=True))


def parameters(recipe: Recipe, inputs: Arrays) -> dict[str, Array]:
    """The initial values by name."""
    return {name: inputs[name] for name in recipe.network.parameters}


def moved(recipe: Recipe, inputs: Arrays, trained: Arrays) -> list[Array]:
    """How far each parameter went from its initial value."""
    return [np.asarray(trained[name]) - inputs[name] for name in recipe.network.parameters]


def row(key: str, name: str, recipe: Recipe) -> Row:
    """A row of the suite."""

    def inputs(generator: np.random.Generator) -> Arrays:
        data, labels = zip(*(recipe.network.data(generator) for _ in range(STEPS)), strict=True)
        return {"data": np.stack(data), "labels": np.stack(labels), **recipe.network.initial(generator)}

    # Where a gradient is nearly zero, Adam moves by the rate whatever its rounding errors say. Where what enters a
    # ReLU is nearly zero, the whole gradient passes in one precision and nothing in the other: a share s of such
    # places is an error of sqrt(s), and there are millions of them in a residual net.
    steep = recipe.kind.startswith("adam") or recipe.network.key == "resnet18"
    tolerance = 2e-2 if steep else 2e-3
    flops = recipe.network.flops
    return Row("training", key, name, inputs, 0, flops, tolerance, norm="whole", options={"recipe": recipe})


ROWS: tuple[Row, ...] = (
    row("mlp", "MLP 784-64-10, batch 64, SGD", Recipe(networks.mlp((784, 64, 10), 64), "sgd", 0.05)),
    row(
        "wide_mlp", "MLP 784-1024-1024-10, batch 256, Adam",
        Recipe(networks.mlp((784, 1024, 1024, 10), 256), "adam", 1e-3),
    ),
    row("lenet", "LeNet 28x28, batch 64, SGD momentum", Recipe(networks.lenet(64), "momentum", 0.05)),
    row(
        "resnet18", "ResNet-18 32x32, batch 32, SGD momentum",
        Recipe(networks.resnet18(32), "momentum", 1e-3),
    ),
    row(
        "transformer", "transformer 2 x 256, 64 words, batch 16, AdamW",
        Recipe(networks.transformer(2, 256, 64, 1000, 16), "adamw", 1e-3),
    ),
    row("lstm", "LSTM 2 x 650, 35 words, batch 20, SGD", Recipe(networks.lstm(650, 35, 10000, 20), "sgd", 1.0)),
)  # fmt: skip
