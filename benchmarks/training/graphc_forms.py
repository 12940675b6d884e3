"""graphc's way: one native call a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from harness.row import Array, Arrays, Job, Row

import graphc as mx
from graphc.optimizer import Optimizer
from graphc.symbol import Symbol
from training import symbols
from training.rows import (
    BETA1,
    BETA2,
    DECAY,
    EPSILON,
    MOMENTUM,
    TIMED_RATE,
    Recipe,
    batches,
    moved,
    parameters,
)  # fmt: skip


def symbol_of(recipe: Recipe, data: Array) -> Symbol:
    """The network's Symbol at the recipe's sizes."""
    network = recipe.network
    if network.key == "mlp":
        return symbols.mlp([shape[0] for name, shape in network.parameters.items() if name.endswith("_bias")])
    if network.key == "lstm":
        vocabulary, units = network.parameters["word_weight"]
        return symbols.lstm(units, data.shape[0], vocabulary, data.shape[1])
    if network.key == "transformer":
        (vocabulary, units), (length, _) = (
            network.parameters[f"{name}_weight"] for name in ("word", "position")
        )
        layers = sum(name.endswith("_qkv_weight") for name in network.parameters)
        return symbols.transformer(layers, units, length, vocabulary)
    return symbols.lenet() if network.key == "lenet" else symbols.resnet18()


def optimizer_of(recipe: Recipe, batch: int) -> Optimizer:
    """The recipe's optimizer; a loss that sums over the batch is scaled here."""
    scale = {"rescale_grad": 1 / batch if recipe.network.key == "resnet18" else 1.0}
    if recipe.kind in ("sgd", "momentum"):
        momentum = MOMENTUM if recipe.kind == "momentum" else 0.0
        return mx.optimizer.SGD(learning_rate=recipe.rate, momentum=momentum, **scale)
    options = {"learning_rate": recipe.rate, "beta1": BETA1, "beta2": BETA2, "epsilon": EPSILON, **scale}
    if recipe.kind == "adam":
        return mx.optimizer.Adam(**options)
    every = dict.fromkeys(recipe.network.parameters, 1.0)
    return mx.optimizer.AdamW(wd=DECAY, wd_mult=every, **options)


def graphc(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """The compiled training step."""
    recipe: Recipe = row.options["recipe"]
    given = [(_tensor(data), torch.from_numpy(labels).float()) for data, labels in batches(inputs)]
    data, labels = given[0]
    step = mx.training_step(
        symbol_of(recipe, inputs["data"][0]),
        optimizer_of(recipe, data.shape[0]),
        shapes={"data": tuple(data.shape), "softmax_label": tuple(labels.shape)},
    )
    step.initialize(mx.init.Zero())
    step.set_states({name: torch.from_numpy(value) for name, value in parameters(recipe, inputs).items()})

    def results() -> Sequence[Array]:
        for x, y in given:
            step(data=x, softmax_label=y, learning_rate=recipe.rate)
        trained = {name: step.states[name].numpy().copy() for name in recipe.network.parameters}
        step.set_defaults(learning_rate=TIMED_RATE)
        return moved(recipe, inputs, trained)

    return {"step": Job(lambda: step(data=data, softmax_label=labels), results)}


def _tensor(data: Array) -> torch.Tensor:
    """Word numbers are floats for an Embedding, as in MXNet."""
    return torch.from_numpy(data).float()
