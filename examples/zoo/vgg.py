"""VGG (Simonyan and Zisserman 2014, arXiv:1409.1556), as in MXNet 0.7's examples; configuration A has 11 layers."""

import graphc as mx

shapes = {"data": (64, 3, 224, 224)}

CONFIGURATIONS = {
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    13: ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
}
"""Filters of each 3x3 convolution, by number of layers; a pooling ends each group."""


def network(classes: int = 1000, layers: int = 11) -> mx.Symbol:
    """Groups of 3x3 convolutions with ReLU, three dense layers, softmax."""
    result = mx.sym.Variable("data")
    for group, filters in enumerate(CONFIGURATIONS[layers], 1):
        for number, count in enumerate(filters, 1):
            place = f"{group}_{number}"
            result = mx.sym.Convolution(
                result, num_filter=count, kernel=(3, 3), pad=(1, 1), name=f"conv{place}"
            )
            result = mx.sym.Activation(result, act_type="relu", name=f"relu{place}")
        result = mx.sym.Pooling(
            result,
            kernel=(2, 2),
            stride=(2, 2),
            pool_type="max",
            pooling_convention="full",
            name=f"pool{group}",
        )
    result = mx.sym.Flatten(result, name="flatten")
    for number in (6, 7):
        result = mx.sym.FullyConnected(result, num_hidden=4096, name=f"fc{number}")
        result = mx.sym.Activation(result, act_type="relu", name=f"relu{number}")
        result = mx.sym.Dropout(result, p=0.5, name=f"drop{number}")
    result = mx.sym.FullyConnected(result, num_hidden=classes, name="fc8")
    return mx.sym.SoftmaxOutput(result, name="softmax")
