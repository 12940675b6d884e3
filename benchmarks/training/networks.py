"""The networks that are trained: parameters by the names that graphc gives them, data, arithmetic; needs numpy only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from harness.row import Array

Shapes = Mapping[str, tuple[int, ...]]
UNITS, WIDTHS = (2, 2, 2, 2), (64, 128, 256, 512)
CLASSES = 10
HEADS = 4
CELLS = 2


@dataclass(frozen=True, slots=True)
class Network:
    """A network at the size that is measured.

    data: one batch and its labels. products: multiply-adds of the forward pass by contraction, and whether its data
    operand needs a gradient.
    """

    key: str
    parameters: Shapes
    data: Callable[[np.random.Generator], tuple[Array, Array]]
    products: tuple[tuple[int, bool], ...]

    @property
    def flops(self) -> int:
        """Operations of all contractions of a step: forward, gradient of the weights, gradient of the data."""
        return sum(2 * count * (3 if inner else 2) for count, inner in self.products)

    def initial(self, generator: np.random.Generator) -> dict[str, Array]:
        """Random weights by their fan-in; scales 1, shifts 0."""
        return {name: _initial(generator, name, shape) for name, shape in self.parameters.items()}


def _initial(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    if len(shape) == 1:
        return np.full(shape, 1.0 if name.endswith("_gamma") else 0.0, np.float32)
    drawn = generator.standard_normal(shape, np.float32)
    return drawn * np.float32(1 / math.sqrt(math.prod(shape[1:])))


def _pictures(batch: int, *shape: int) -> Callable[[np.random.Generator], tuple[Array, Array]]:
    def data(generator: np.random.Generator) -> tuple[Array, Array]:
        return generator.random((batch, *shape), np.float32), generator.integers(0, CLASSES, batch)

    return data


def _words(vocabulary: int, *shape: int) -> Callable[[np.random.Generator], tuple[Array, Array]]:
    def data(generator: np.random.Generator) -> tuple[Array, Array]:
        return generator.integers(0, vocabulary, shape), generator.integers(0, vocabulary, shape)

    return data


def mlp(widths: tuple[int, ...], batch: int) -> Network:
    """Dense layers fc1, fc2, ... with ReLU between them."""
    layers = list(pairwise(widths))
    parameters: dict[str, tuple[int, ...]] = {}
    for number, (given, made) in enumerate(layers, 1):
        parameters |= {f"fc{number}_weight": (made, given), f"fc{number}_bias": (made,)}
    products = tuple((batch * given * made, number > 0) for number, (given, made) in enumerate(layers))
    return Network("mlp", parameters, _pictures(batch, widths[0]), products)


def lenet(batch: int) -> Network:
    """LeNet as in MXNet's examples, 28x28: two 5x5 convolutions with tanh and max pooling, two dense layers."""
    parameters = {
        "conv1_weight": (20, 1, 5, 5), "conv1_bias": (20,), "conv2_weight": (50, 20, 5, 5), "conv2_bias": (50,),
        "fc1_weight": (500, 800), "fc1_bias": (500,), "fc2_weight": (CLASSES, 500), "fc2_bias": (CLASSES,),
    }  # fmt: skip
    products = (
        (batch * 24 * 24 * 20 * 25, False), (batch * 8 * 8 * 50 * 500, True),
        (batch * 800 * 500, True), (batch * 500 * CLASSES, True),
    )  # fmt: skip
    return Network("lenet", parameters, _pictures(batch, 1, 28, 28), products)


def resnet18(batch: int) -> Network:
    """ResNet-18 for 32x32 pictures: a 3x3 stem without pooling."""
    parameters: dict[str, tuple[int, ...]] = {}
    products: list[tuple[int, bool]] = []

    def convolution(name: str, given: int, made: int, kernel: int, side: int) -> None:
        parameters[f"{name}_conv_weight"] = made, given, kernel, kernel
        parameters[f"{name}_bn_gamma"] = parameters[f"{name}_bn_beta"] = (made,)
        products.append((batch * side * side * made * given * kernel * kernel, name != "stem"))

    convolution("stem", 3, WIDTHS[0], 3, 32)
    given, side = WIDTHS[0], 32
    for stage, (units, width) in enumerate(zip(UNITS, WIDTHS, strict=True), 1):
        side //= 1 if stage == 1 else 2
        for unit in range(1, units + 1):
            name = f"stage{stage}_unit{unit}"
            convolution(f"{name}_1", given, width, 3, side)
            convolution(f"{name}_2", width, width, 3, side)
            if given != width:
                convolution(f"{name}_shortcut", given, width, 1, side)
            given = width
    parameters |= {"fc_weight": (CLASSES, given), "fc_bias": (CLASSES,)}
    products.append((batch * given * CLASSES, True))
    return Network("resnet18", parameters, _pictures(batch, 3, 32, 32), tuple(products))


def transformer(layers: int, units: int, length: int, vocabulary: int, batch: int) -> Network:
    """A causal language model of pre-norm blocks, four heads, exact GELU; the head shares the words' weights."""
    parameters: dict[str, tuple[int, ...]] = {
        "word_weight": (vocabulary, units), "position_weight": (length, units),
    }  # fmt: skip
    tokens = batch * length
    products: list[tuple[int, bool]] = []
    for number in range(1, layers + 1):
        name = f"block{number}"
        for part, made, given in (
            ("attention_qkv", 3 * units, units), ("attention_out", units, units),
            ("wide", 4 * units, units), ("narrow", units, 4 * units),
        ):  # fmt: skip
            parameters |= {f"{name}_{part}_weight": (made, given), f"{name}_{part}_bias": (made,)}
            products.append((tokens * made * given, True))
        for part in ("ln1", "ln2"):
            parameters[f"{name}_{part}_gamma"] = parameters[f"{name}_{part}_beta"] = (units,)
        # Scores and their mix with the values; half of both lies ahead of the word and is not needed.
        products += [(tokens * length * units // 2, True)] * 2
    parameters["last_ln_gamma"] = parameters["last_ln_beta"] = (units,)
    products.append((tokens * units * vocabulary, True))
    return Network("transformer", parameters, _words(vocabulary, batch, length), tuple(products))


def lstm(units: int, length: int, vocabulary: int, batch: int) -> Network:
    """A language model of two LSTM layers as in Zaremba et al. 2014 (arXiv:1409.2329), medium, without dropout.

    Data and labels are [length, batch]. Gates in the order input, forget, cell, output.
    """
    parameters: dict[str, tuple[int, ...]] = {"word_weight": (vocabulary, units)}
    for number in range(CELLS):
        for part in ("i2h", "h2h"):
            parameters |= {
                f"lstm_l{number}_{part}_weight": (4 * units, units),
                f"lstm_l{number}_{part}_bias": (4 * units,),
            }
    parameters |= {"fc_weight": (vocabulary, units), "fc_bias": (vocabulary,)}
    tokens = batch * length
    products = ((tokens * 4 * units * units, True),) * (2 * CELLS) + ((tokens * units * vocabulary, True),)
    return Network("lstm", parameters, _words(vocabulary, length, batch), products)
