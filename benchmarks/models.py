"""The networks that are trained, as graphc users write them."""

from __future__ import annotations

import graphc as mx
from graphc.symbol import Symbol


def mlp() -> Symbol:
    """784-64-10 with ReLU and a softmax loss."""
    data = mx.sym.Variable("data")
    hidden = mx.sym.FullyConnected(data, num_hidden=64, name="fc1")
    active = mx.sym.Activation(hidden, act_type="relu", name="relu1")
    output = mx.sym.FullyConnected(active, num_hidden=10, name="fc2")
    return mx.sym.SoftmaxOutput(output, name="softmax", normalization="batch")


def lenet() -> Symbol:
    """LeNet as in MXNet's examples: two 5x5 convolutions with tanh and max pooling, two dense layers."""
    data = mx.sym.Variable("data")
    conv1 = mx.sym.Convolution(data, kernel=(5, 5), num_filter=20, name="conv1")
    tanh1 = mx.sym.Activation(conv1, act_type="tanh", name="tanh1")
    pool1 = mx.sym.Pooling(tanh1, pool_type="max", kernel=(2, 2), stride=(2, 2), name="pool1")
    conv2 = mx.sym.Convolution(pool1, kernel=(5, 5), num_filter=50, name="conv2")
    tanh2 = mx.sym.Activation(conv2, act_type="tanh", name="tanh2")
    pool2 = mx.sym.Pooling(tanh2, pool_type="max", kernel=(2, 2), stride=(2, 2), name="pool2")
    flat = mx.sym.Flatten(pool2, name="flatten")
    fc1 = mx.sym.FullyConnected(flat, num_hidden=500, name="fc1")
    tanh3 = mx.sym.Activation(fc1, act_type="tanh", name="tanh3")
    fc2 = mx.sym.FullyConnected(tanh3, num_hidden=10, name="fc2")
    return mx.sym.SoftmaxOutput(fc2, name="softmax", normalization="batch")
