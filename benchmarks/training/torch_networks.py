"""The networks in torch, as functions of named parameters that give the mean loss of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

from training.networks import CELLS, HEADS, UNITS

Tensor = torch.Tensor
Parameters = Mapping[str, Tensor]
State = dict[str, Tensor]
Loss = Callable[[Parameters, State, Tensor, Tensor], Tensor]


def _dense(p: Parameters, name: str, x: Tensor) -> Tensor:
    return functional.linear(x, p[f"{name}_weight"], p[f"{name}_bias"])


def mlp(p: Parameters, state: State, x: Tensor, labels: Tensor) -> Tensor:
    """Dense layers with ReLU between them."""
    layers = len(p) // 2
    for number in range(1, layers):
        x = functional.relu(_dense(p, f"fc{number}", x))
    return functional.cross_entropy(_dense(p, f"fc{layers}", x), labels)


def lenet(p: Parameters, state: State, x: Tensor, labels: Tensor) -> Tensor:
    """Two convolutions with tanh and pooling, two dense layers."""
    for name in ("conv1", "conv2"):
        x = functional.conv2d(x, p[f"{name}_weight"], p[f"{name}_bias"])
        x = functional.max_pool2d(torch.tanh(x), 2)
    x = torch.tanh(_dense(p, "fc1", x.flatten(1)))
    return functional.cross_entropy(_dense(p, "fc2", x), labels)


def resnet18(p: Parameters, state: State, x: Tensor, labels: Tensor) -> Tensor:
    """Moving statistics are updated in `state`."""

    def convolution(name: str, x: Tensor, kernel: int, stride: int) -> Tensor:
        x = functional.conv2d(x, p[f"{name}_conv_weight"], stride=stride, padding=kernel // 2)
        mean, variance = state[f"{name}_mean"], state[f"{name}_variance"]
        gamma, beta = p[f"{name}_bn_gamma"], p[f"{name}_bn_beta"]
        return functional.batch_norm(x, mean, variance, gamma, beta, training=True)

    x = functional.relu(convolution("stem", x, 3, 1))
    for stage, units in enumerate(UNITS, 1):
        for unit in range(1, units + 1):
            name, stride = f"stage{stage}_unit{unit}", 2 if stage > 1 and unit == 1 else 1
            inner = functional.relu(convolution(f"{name}_1", x, 3, stride))
            inner = convolution(f"{name}_2", inner, 3, 1)
            if f"{name}_shortcut_conv_weight" in p:
                x = convolution(f"{name}_shortcut", x, 1, stride)
            x = functional.relu(inner + x)
    return functional.cross_entropy(_dense(p, "fc", x.mean((2, 3))), labels)


def _block(p: Parameters, name: str, x: Tensor) -> Tensor:
    batch, length, units = x.shape

    def normal(part: str, x: Tensor) -> Tensor:
        return functional.layer_norm(x, (units,), p[f"{name}_{part}_gamma"], p[f"{name}_{part}_beta"])

    joint = _dense(p, f"{name}_attention_qkv", normal("ln1", x))
    wide = joint.view(batch, length, 3, HEADS, units // HEADS)
    queries, keys, values = wide.permute(2, 0, 3, 1, 4).unbind(0)
    mixed = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    x = x + _dense(p, f"{name}_attention_out", mixed.transpose(1, 2).reshape(batch, length, units))
    wide = functional.gelu(_dense(p, f"{name}_wide", normal("ln2", x)))
    return x + _dense(p, f"{name}_narrow", wide)


def transformer(p: Parameters, state: State, x: Tensor, labels: Tensor) -> Tensor:
    """A causal language model of pre-norm blocks; the head shares the words' weights."""
    hidden = functional.embedding(x, p["word_weight"]) + p["position_weight"]
    for number in range(1, len([name for name in p if name.endswith("_qkv_weight")]) + 1):
        hidden = _block(p, f"block{number}", hidden)
    hidden = functional.layer_norm(hidden, hidden.shape[-1:], p["last_ln_gamma"], p["last_ln_beta"])
    scores = functional.linear(hidden, p["word_weight"])
    return functional.cross_entropy(scores.flatten(0, 1), labels.flatten())


def lstm(p: Parameters, state: State, x: Tensor, labels: Tensor) -> Tensor:
    """Two LSTM layers of torch from zero states, a dense layer over the words."""
    hidden = functional.embedding(x, p["word_weight"])
    units = hidden.shape[-1]
    weights = [
        p[f"lstm_l{layer}_{part}_{kind}"]
        for layer in range(CELLS)
        for kind in ("weight", "bias")
        for part in ("i2h", "h2h")
    ]
    zeros = hidden.new_zeros(CELLS, x.shape[1], units)
    hidden, _, _ = torch.lstm(hidden, (zeros, zeros), weights, True, CELLS, 0.0, True, False, False)
    return functional.cross_entropy(_dense(p, "fc", hidden.flatten(0, 1)), labels.flatten())


LOSSES: Mapping[str, Loss] = {
    "mlp": mlp, "lenet": lenet, "resnet18": resnet18, "transformer": transformer, "lstm": lstm,
}  # fmt: skip


def state_of(parameters: Parameters) -> State:
    """Moving statistics of every batch norm, as torch starts them."""
    state: State = {}
    for name, gamma in parameters.items():
        if name.endswith("_bn_gamma"):
            stem = name.removesuffix("_bn_gamma")
            state[f"{stem}_mean"], state[f"{stem}_variance"] = torch.zeros_like(gamma), torch.ones_like(gamma)
    return state
