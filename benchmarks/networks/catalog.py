"""What each network takes, costs and weighs, and the values of its parameters; imported in every peer's process.

Parameters are known by the names that graphc gives them. Their values depend on the name only, so that peers in
different processes hold the same network without passing it around.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Network:
    """A network at the size that is measured.

    inputs: random data for a batch, by name. multiply_adds: of all products and convolutions for one example; of
    scores that a causal mask removes, none. parameters: number of elements that one inference must read, without the
    rows of tables that no word selects. outputs: number of elements for one example. checked: the part of the outputs
    that is compared with float64. gain: variance of a weight times its fan-in; 2 where ReLU halves what passes and
    nothing normalises. fixed_gamma: batch normalisation's gamma is held at 1.
    """

    key: str
    name: str
    inputs: Callable[[np.random.Generator, int], Mapping[str, Array]]
    multiply_adds: int
    parameters: int
    outputs: int
    gain: float = 1.0
    fixed_gamma: bool = False
    checked: Callable[[Sequence[Any]], Sequence[Any]] = tuple

    def value(self, name: str, shape: tuple[int, ...]) -> Array:
        """The value of a parameter or state, f32."""
        return parameter(name, shape, self.gain, self.fixed_gamma)


def parameter(name: str, shape: tuple[int, ...], gain: float = 1.0, fixed_gamma: bool = False) -> Array:
    """Random values for a parameter of that name: scales near 1, shifts near 0, weights by their fan-in."""
    if fixed_gamma and name.endswith("_gamma"):
        return np.ones(shape, np.float32)
    drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)
    if name.endswith("_gamma"):
        return 1 + np.float32(0.1) * drawn
    if name.endswith("_moving_var"):
        return 1 + np.float32(0.2) * np.tanh(drawn)
    if len(shape) < 2:
        return np.float32(0.05) * drawn
    return np.float32(math.sqrt(gain / math.prod(shape[1:]))) * drawn


def images(generator: np.random.Generator, batch: int) -> Mapping[str, Array]:
    """Standard normal pictures of 224x224."""
    return {"data": generator.standard_normal((batch, 3, 224, 224), np.float32)}


def words(vocabulary: int, length: int) -> Callable[[np.random.Generator, int], Mapping[str, Array]]:
    """Word numbers, [batch, length]."""
    return lambda generator, batch: {"data": generator.integers(0, vocabulary, (batch, length))}


def sentences(generator: np.random.Generator, batch: int) -> Mapping[str, Array]:
    """Two segments of words for BERT, the second of random length and padded."""
    lengths = generator.integers(64, 129, (batch, 1))
    place = np.arange(128)[None]
    return {
        "data": generator.integers(0, 30522, (batch, 128)),
        "token_types": np.broadcast_to((place >= 40) & (place < lengths), (batch, 128)).astype(np.int64),
        "mask": (place < lengths).astype(np.float32),
    }


def texts(generator: np.random.Generator, batch: int) -> Mapping[str, Array]:
    """Thirty-five words each for the LSTM, [steps, batch], and the states they start from."""
    states = 0.1 * generator.standard_normal((2, 2, batch, 650), np.float32)
    return {
        "data": generator.integers(0, 10000, (35, batch)),
        "lstm_state": states[0],
        "lstm_state_cell": states[1],
    }


def last_places(outputs: Sequence[Any]) -> Sequence[Any]:
    """The scores at the last four places of each example: all of them would be files of many hundred megabytes."""
    return tuple(output[:, -4:] for output in outputs)


NETWORKS = (
    Network("alexnet", "AlexNet", images, 1_131_457_664, 62_378_345, 1000, gain=2),
    Network("vgg16", "VGG-16", images, 15_470_264_320, 138_357_545, 1000, gain=2),
    Network(
        "inception_bn", "Inception-BN", images, 2_032_600_064, 11_305_257, 1000, gain=2, fixed_gamma=True
    ),
    Network("resnet50", "ResNet-50", images, 4_089_184_256, 25_610_153, 1000),
    Network("bert", "BERT-base, 128 words", sentences, 11_174_215_680, 85_744_896, 129 * 768),
    Network(
        "gpt2",
        "GPT-2-small, 128 words",
        words(50257, 128),
        15_964_274_688,
        123_751_680,
        128 * 50257,
        checked=last_places,
    ),
    # Weights of input and state with two biases a layer, the decoder; each step has the products of two layers.
    Network(
        "lstm",
        "LSTM 2x650, 35 words",
        texts,
        35 * (2 * 8 * 650 * 650 + 650 * 10000),
        2 * (8 * 650 * 650 + 8 * 650) + 651 * 10000,
        35 * 10000 + 4 * 650,
    ),
)

BY_KEY = {network.key: network for network in NETWORKS}
