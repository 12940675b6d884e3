"""Inception with batch normalisation (Ioffe and Szegedy 2015, arXiv:1502.03167), as in MXNet 0.7's memory example."""

import graphc as mx

shapes = {"data": (32, 3, 224, 224)}

BLOCKS = {
    "3a": (64, 64, 64, 64, 96, 32),
    "3b": (64, 64, 96, 64, 96, 64),
    "3c": (0, 128, 160, 64, 96, 0),
    "4a": (224, 64, 96, 96, 128, 128),
    "4b": (192, 96, 128, 96, 128, 128),
    "4c": (160, 128, 160, 128, 160, 128),
    "4d": (96, 128, 192, 160, 192, 128),
    "4e": (0, 128, 192, 192, 256, 0),
    "5a": (352, 192, 320, 160, 224, 128),
    "5b": (352, 192, 320, 192, 224, 128),
}
"""Filters of each block: 1x1, 3x3 reduce, 3x3, double 3x3 reduce, double 3x3, projection of the pooling.

A block without 1x1 and projection halves the picture.
"""


def convolution(data: mx.Symbol, filters: int, kernel: int, name: str, stride: int = 1) -> mx.Symbol:
    """Convolution that keeps the size (but for its stride), batch normalisation, ReLU."""
    size, pad = (kernel, kernel), (kernel // 2, kernel // 2)
    result = mx.sym.Convolution(
        data, num_filter=filters, kernel=size, stride=(stride, stride), pad=pad, name=f"conv_{name}"
    )
    result = mx.sym.BatchNorm(result, name=f"bn_{name}")
    return mx.sym.Activation(result, act_type="relu", name=f"relu_{name}")


def pool(data: mx.Symbol, kind: str, name: str, stride: int = 2, pad: int = 0) -> mx.Symbol:
    """3x3 pooling by the ceil rule."""
    return mx.sym.Pooling(
        data,
        kernel=(3, 3),
        stride=(stride, stride),
        pad=(pad, pad),
        pool_type=kind,
        pooling_convention="full",
        name=name,
    )


def inception(data: mx.Symbol, block: str) -> mx.Symbol:
    """Up to four ways side by side: 1x1; 3x3; double 3x3; pooling."""
    one, reduce3, three, reduce_double, double, projection = BLOCKS[block]
    stride = 1 if one else 2
    ways = [convolution(data, one, 1, f"{block}_1x1")] if one else []
    narrow = convolution(data, reduce3, 1, f"{block}_3x3_reduce")
    ways.append(convolution(narrow, three, 3, f"{block}_3x3", stride))
    narrow = convolution(data, reduce_double, 1, f"{block}_double_3x3_reduce")
    first = convolution(narrow, double, 3, f"{block}_double_3x3_0")
    ways.append(convolution(first, double, 3, f"{block}_double_3x3_1", stride))
    if one:
        pooled = pool(data, "max" if block == "5b" else "avg", f"{block}_pool", stride=1, pad=1)
        ways.append(convolution(pooled, projection, 1, f"{block}_proj"))
    else:
        ways.append(pool(data, "max", f"{block}_pool"))
    return mx.sym.Concat(*ways, name=f"{block}_concat")


def network(classes: int = 1000) -> mx.Symbol:
    """Stem, ten inception blocks, average pooling, one dense layer, softmax."""
    result = pool(convolution(mx.sym.Variable("data"), 64, 7, "conv1", stride=2), "max", "pool1")
    result = convolution(convolution(result, 64, 1, "conv2_reduce"), 192, 3, "conv2")
    result = pool(result, "max", "pool2")
    for block in BLOCKS:
        result = inception(result, block)
    result = mx.sym.Pooling(result, kernel=(7, 7), stride=(1, 1), pool_type="avg", name="global_pool")
    result = mx.sym.Flatten(result, name="flatten")
    result = mx.sym.FullyConnected(result, num_hidden=classes, name="fc1")
    return mx.sym.SoftmaxOutput(result, name="softmax")
