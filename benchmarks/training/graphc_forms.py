"""graphc's way: one native call a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from harness.row import Array, Arrays, Job, Row

import graphc as mx
from graphc.operators.recurrent import Piece, layout, pack_weights, unpack_weights
from graphc.optimizer import Optimizer
from graphc.symbol import Symbol
from training import symbols
from training.networks import CELLS
from training.rows import (
    BETA1,
    BETA2,
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
        return symbols.lstm(units, vocabulary, data.shape[1])
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
    # MXNet's Adam adds epsilon before the bias correction, everybody else's after it, as AdamW does.
    every = dict.fromkeys(recipe.network.parameters, 1.0)
    return mx.optimizer.AdamW(wd=recipe.decay, wd_mult=every, **options)


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
    step.set_states(packed(recipe, parameters(recipe, inputs)))

    def results() -> Sequence[Array]:
        for x, y in given:
            step(data=x, softmax_label=y, learning_rate=recipe.rate)
        trained = unpacked(recipe, {name: state.numpy().copy() for name, state in step.states.items()})
        step.set_defaults(learning_rate=TIMED_RATE)
        return moved(recipe, inputs, trained)

    return {"step": Job(lambda: step(data=data, softmax_label=labels), results)}


def packed(recipe: Recipe, values: Arrays) -> dict[str, Array]:
    """Values by the names of the step's states: those of an LSTM are one vector, `lstm_parameters`."""
    if recipe.network.key != "lstm":
        return dict(values)
    pieces = _pieces(recipe)
    cells = {piece.name: values[f"lstm_{piece.name}"] for piece in pieces}
    vector = pack_weights(cells, pieces, np.empty(pieces[-1].stop, np.float32))
    rest = {name: value for name, value in values.items() if not name.startswith("lstm_")}
    return {**rest, "lstm_parameters": vector}


def unpacked(recipe: Recipe, values: Arrays) -> dict[str, Array]:
    """Values by the names of the network."""
    if recipe.network.key != "lstm":
        return dict(values)
    cells = unpack_weights(values["lstm_parameters"], _pieces(recipe))
    return {**values, **{f"lstm_{name}": value for name, value in cells.items()}}


def _pieces(recipe: Recipe) -> tuple[Piece, ...]:
    units = recipe.network.parameters["word_weight"][1]
    return layout("lstm", units, units, CELLS)


def _tensor(data: Array) -> torch.Tensor:
    """Word numbers are floats for an Embedding, as in MXNet."""
    return torch.from_numpy(data).float()
