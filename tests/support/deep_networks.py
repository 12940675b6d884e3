"""Deep networks for tests of recomputation: chains and transformers, as whole training steps."""

from __future__ import annotations

import torch

import graphc as mx
from graphc.ir.graph import Graph
from graphc.optimizer import SGD
from graphc.symbol import Symbol
from graphc.training import training_graph
from graphc.types import DType


def chain(
    layers: int,
    width: int,
    rows: int,
    activation: str = "tanh",
    dropout: float = 0.0,
    normalized: bool = False,
) -> Graph:
    """A training step of dense layers with activations, BatchNorm and dropout where asked for."""
    result = mx.sym.Variable("data")
    for layer in range(layers):
        result = mx.sym.FullyConnected(result, num_hidden=width, name=f"fc{layer}")
        if normalized:
            result = mx.sym.BatchNorm(result, fix_gamma=False, name=f"bn{layer}")
        result = mx.sym.Activation(result, act_type=activation, name=f"act{layer}")
        if dropout:
            result = mx.sym.Dropout(result, p=dropout, name=f"drop{layer}")
    result = mx.sym.FullyConnected(result, num_hidden=3, name="head")
    net = mx.sym.SoftmaxOutput(result, name="softmax")
    shapes = {"data": (rows, width), "softmax_label": (rows,)}
    return training_graph(net, SGD(learning_rate=0.1, momentum=0.9), shapes=shapes)


def transformer(
    blocks: int, batch: int, time: int, width: int, heads: int, vocabulary: int, dropout: float = 0.0
) -> Graph:
    """A training step of a transformer without mask, with pre-normalisation, from plain operators."""
    result = mx.sym.Embedding(
        mx.sym.Variable("data"), input_dim=vocabulary, output_dim=width, name="embedding"
    )
    for block in range(blocks):
        result = _block(result, f"block{block}", batch, time, width, heads, dropout)
    result = mx.sym.Reshape(mx.sym.LayerNorm(result, name="norm"), shape=(batch * time, width))
    net = mx.sym.SoftmaxOutput(
        mx.sym.FullyConnected(result, num_hidden=vocabulary, name="head"), name="softmax"
    )
    shapes = {"data": (batch, time), "softmax_label": (batch * time,)}
    return training_graph(net, SGD(learning_rate=0.1, momentum=0.9), shapes=shapes)


def _block(data: Symbol, name: str, batch: int, time: int, width: int, heads: int, dropout: float) -> Symbol:
    def dense(value: Symbol, size: int, what: str) -> Symbol:
        return mx.sym.FullyConnected(value, num_hidden=size, flatten=False, name=f"{name}_{what}")

    def by_head(value: Symbol) -> Symbol:
        cut = mx.sym.Reshape(value, shape=(batch, time, heads, width // heads))
        return mx.sym.Reshape(mx.sym.transpose(cut, axes=(0, 2, 1, 3)), shape=(-1, time, width // heads))

    def dropped(value: Symbol, what: str) -> Symbol:
        return mx.sym.Dropout(value, p=dropout, name=f"{name}_{what}") if dropout else value

    normal = mx.sym.LayerNorm(data, name=f"{name}_norm1")
    query, key, value = (by_head(dense(normal, width, what)) for what in ("query", "key", "value"))
    scores = mx.sym.batch_dot(query, key, transpose_b=True) * (width // heads) ** -0.5
    mixed = mx.sym.batch_dot(dropped(mx.sym.softmax(scores, axis=-1), "scores"), value)
    mixed = mx.sym.transpose(
        mx.sym.Reshape(mixed, shape=(batch, heads, time, width // heads)), axes=(0, 2, 1, 3)
    )
    mixed = dense(mx.sym.Reshape(mixed, shape=(batch, time, width)), width, "mix")
    data = data + dropped(mixed, "drop1")
    wide = mx.sym.gelu(dense(mx.sym.LayerNorm(data, name=f"{name}_norm2"), 4 * width, "wide"))
    return data + dropped(dense(wide, width, "narrow"), "drop2")


def values(graph: Graph, seed: int = 0) -> dict[str, torch.Tensor]:
    """Tame values for all inputs: small weights, positive variances, labels and tokens in range."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, torch.Tensor] = {}
    for item in graph.inputs:
        type = item.value.type
        shape = type.concrete_shape({})
        if type.dtype is DType.I64:
            found[item.name] = torch.ones(shape, dtype=torch.int64)
        elif item.name in ("data", "softmax_label") and (len(shape) == 1 or "embedding_weight" in found):
            found[item.name] = torch.randint(0, 3, shape, generator=generator).to(type.dtype.torch)
        elif item.name == "learning_rate":
            found[item.name] = torch.tensor(0.05)
        else:
            found[item.name] = 0.3 * torch.randn(shape, generator=generator).to(type.dtype.torch)
            if item.name.endswith(("gamma", "var")):
                found[item.name] = found[item.name].abs() + 0.5
    return found
