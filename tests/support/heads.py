"""Heads of language models: a product with a large vocabulary and a loss over it, for tests of cutting by rows."""

from __future__ import annotations

import random

import graphc as mx
from graphc.driver.compile import as_graph
from graphc.ir.graph import Graph
from graphc.training import training_graph

LOSSES = ("cross_entropy", "picked_total", "picked_rows", "softmax_output")


def head(
    loss: str, rows: int, vocabulary: int, width: int, train: bool = True, dropout: float = 0.0
) -> Graph:
    """Hidden layer, head and loss; as a training step (SGD with momentum), or the loss alone."""
    hidden = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=width, name="hidden")
    logits = mx.sym.FullyConnected(hidden, num_hidden=vocabulary, name="head")
    if dropout:
        logits = mx.sym.Dropout(logits, p=dropout, name="dropout")
    label = mx.sym.Variable("label")
    if loss == "softmax_output":
        model = mx.sym.SoftmaxOutput(logits, label, name="softmax")
    elif loss == "cross_entropy":
        model = mx.sym.MakeLoss(mx.sym.softmax_cross_entropy(logits, label), name="loss")
    else:
        picked = mx.sym.pick(mx.sym.log_softmax(logits, axis=-1), label, axis=1)
        model = mx.sym.MakeLoss(0 - (mx.sym.sum(picked) if loss == "picked_total" else picked), name="loss")
    shapes = {"data": (rows, width), "label": (rows,)}
    if train:
        return training_graph(model, mx.optimizer.SGD(0.1, momentum=0.9), shapes=shapes)
    return as_graph(model, shapes, is_train=dropout > 0)


def random_rows(seed: int) -> Graph:
    """A training step of a random net in which rows meet only in sums, of 6 to 12 rows, and now and then elsewhere."""
    rng = random.Random(seed)
    rows, width = rng.choice((6, 8, 9, 12)), rng.choice((3, 4))
    x = mx.sym.Variable("data")
    made = [x]
    for number in range(rng.randint(2, 6)):
        x = rng.choice(made[-2:])
        kind = rng.choice(("dense", "dense", "tanh", "softmax", "norm", "scale", "join", "center"))
        if kind == "dense":
            x = mx.sym.FullyConnected(x, num_hidden=rng.choice((width, 7)), name=f"dense{number}")
        elif kind == "tanh":
            x = mx.sym.Activation(x, act_type="tanh", name=f"tanh{number}")
        elif kind == "softmax":
            x = mx.sym.softmax(x, axis=-1 if rng.random() < 0.9 else 0, name=f"softmax{number}")
        elif kind == "norm":
            x = mx.sym.LayerNorm(x, name=f"norm{number}")
        elif kind == "scale":
            x = mx.sym.broadcast_mul(x, mx.sym.sum(x, axis=1, keepdims=True), name=f"scale{number}")
        elif kind == "join":
            x = mx.sym.Concat(x, mx.sym.exp(-mx.sym.abs(made[-1])), dim=1, name=f"join{number}")
        else:
            x = mx.sym.broadcast_sub(x, mx.sym.max(x, axis=1, keepdims=True), name=f"center{number}")
        made.append(x)
    x = mx.sym.FullyConnected(x, num_hidden=11, name="head")
    picked = mx.sym.pick(mx.sym.log_softmax(x), mx.sym.Variable("label"), axis=1)
    loss = mx.sym.sum(picked) if rng.random() < 0.5 else picked
    outputs = mx.sym.MakeLoss(loss, name="loss")
    if rng.random() < 0.3:
        outputs = mx.sym.Group([outputs, mx.sym.BlockGrad(made[-1], name="shown")])
    return training_graph(outputs, mx.optimizer.SGD(0.1), shapes={"data": (rows, width), "label": (rows,)})
