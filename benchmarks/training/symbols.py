"""The networks as graphc users write them; residual nets and transformers come from examples/zoo."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import graphc as mx
from graphc.symbol import Symbol
from training.networks import CELLS, HEADS

sys.path.append(str(Path(__file__).parents[2] / "examples"))


def mlp(widths: Sequence[int]) -> Symbol:
    """Dense layers of these widths, ReLU between them, and a softmax loss."""
    result = mx.sym.Variable("data")
    for number, width in enumerate(widths, 1):
        result = mx.sym.FullyConnected(result, num_hidden=width, name=f"fc{number}")
        if number < len(widths):
            result = mx.sym.Activation(result, act_type="relu", name=f"relu{number}")
    return mx.sym.SoftmaxOutput(result, name="softmax", normalization="batch")


def lenet() -> Symbol:
    """LeNet as in MXNet's examples."""
    result = mx.sym.Variable("data")
    for number, filters in ((1, 20), (2, 50)):
        result = mx.sym.Convolution(result, kernel=(5, 5), num_filter=filters, name=f"conv{number}")
        result = mx.sym.Activation(result, act_type="tanh", name=f"tanh{number}")
        result = mx.sym.Pooling(result, pool_type="max", kernel=(2, 2), stride=(2, 2), name=f"pool{number}")
    result = mx.sym.FullyConnected(mx.sym.Flatten(result), num_hidden=500, name="fc1")
    result = mx.sym.Activation(result, act_type="tanh", name="tanh3")
    result = mx.sym.FullyConnected(result, num_hidden=10, name="fc2")
    return mx.sym.SoftmaxOutput(result, name="softmax", normalization="batch")


def resnet18() -> Symbol:
    """ResNet-18 for 32x32 pictures; its loss sums over the batch."""
    from zoo import resnet

    return resnet.network(classes=10, layers=18, small=True)


def transformer(layers: int, units: int, length: int, vocabulary: int) -> Symbol:
    """The zoo's language model without dropout."""
    from zoo import transformer as zoo_transformer

    return zoo_transformer.network(
        layers=layers, dropout=0.0, units=units, heads=HEADS, length=length, vocabulary=vocabulary
    )


def lstm(units: int, vocabulary: int, batch: int) -> Symbol:
    """Embedding, two LSTM layers from zero states, a dense layer over the words; data are [length, batch]."""
    word_weight, weights = (mx.sym.Variable(name) for name in ("word_weight", "lstm_parameters"))
    words = mx.sym.Embedding(
        mx.sym.Variable("data"), weight=word_weight, input_dim=vocabulary, output_dim=units, name="word"
    )
    zeros = mx.sym.zeros(shape=(CELLS, batch, units))
    hidden = mx.sym.RNN(
        words, weights, zeros, zeros, mode="lstm", state_size=units, num_layers=CELLS, name="lstm"
    )
    scores = mx.sym.FullyConnected(mx.sym.Reshape(hidden, shape=(-3, 0)), num_hidden=vocabulary, name="fc")
    labels = mx.sym.Reshape(mx.sym.Variable("softmax_label"), shape=(-1,))
    return mx.sym.SoftmaxOutput(scores, labels, name="softmax", normalization="batch")
