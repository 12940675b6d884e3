"""The two networks of the examples, declared as Symbols."""

import graphc as mx


def mlp(hidden: int = 128, classes: int = 10) -> mx.Symbol:
    """A multilayer perceptron: two hidden layers with ReLU."""
    data = mx.sym.Variable("data")
    fc1 = mx.sym.FullyConnected(data, name="fc1", num_hidden=hidden)
    relu1 = mx.sym.Activation(fc1, name="relu1", act_type="relu")
    fc2 = mx.sym.FullyConnected(relu1, name="fc2", num_hidden=hidden // 2)
    relu2 = mx.sym.Activation(fc2, name="relu2", act_type="relu")
    fc3 = mx.sym.FullyConnected(relu2, name="fc3", num_hidden=classes)
    return mx.sym.SoftmaxOutput(fc3, name="softmax", normalization="batch")


def lenet(classes: int = 10) -> mx.Symbol:
    """A LeNet for 8x8 images: two convolutions with batch normalisation and pooling, dropout, two dense layers."""
    net = mx.sym.Variable("data")
    for stage, filters in (("1", 16), ("2", 32)):
        net = mx.sym.Convolution(net, name=f"conv{stage}", kernel=(3, 3), pad=(1, 1), num_filter=filters)
        net = mx.sym.BatchNorm(net, name=f"bn{stage}", fix_gamma=False)
        net = mx.sym.Activation(net, name=f"tanh{stage}", act_type="tanh")
        net = mx.sym.Pooling(net, name=f"pool{stage}", kernel=(2, 2), stride=(2, 2), pool_type="max")
    net = mx.sym.Flatten(net, name="flatten")
    net = mx.sym.FullyConnected(net, name="fc1", num_hidden=64)
    net = mx.sym.Activation(net, name="tanh3", act_type="tanh")
    net = mx.sym.Dropout(net, name="dropout", p=0.25)
    net = mx.sym.FullyConnected(net, name="fc2", num_hidden=classes)
    return mx.sym.SoftmaxOutput(net, name="softmax", normalization="batch")
