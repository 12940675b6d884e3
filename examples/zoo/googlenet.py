"""GoogLeNet v1 without auxiliary heads (Szegedy et al. 2014, arXiv:1409.4842), as in MXNet 0.7's examples."""

import graphc as mx

shapes = {"data": (64, 3, 224, 224)}

BLOCKS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Filters of each inception block: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, projection of the pooling."""


def convolution(data: mx.Symbol, filters: int, kernel: int, name: str, stride: int = 1) -> mx.Symbol:
    """Convolution that keeps the size (but for its stride), and ReLU."""
    size, pad = (kernel, kernel), (kernel // 2, kernel // 2)
    result = mx.sym.Convolution(
        data, num_filter=filters, kernel=size, stride=(stride, stride), pad=pad, name=f"conv_{name}"
    )
    return mx.sym.Activation(result, act_type="relu", name=f"relu_{name}")


def pool(data: mx.Symbol, name: str, stride: int = 2, pad: int = 0) -> mx.Symbol:
    """3x3 max pooling by the ceil rule."""
    return mx.sym.Pooling(
        data,
        kernel=(3, 3),
        stride=(stride, stride),
        pad=(pad, pad),
        pool_type="max",
        pooling_convention="full",
        name=name,
    )


def inception(data: mx.Symbol, block: str) -> mx.Symbol:
    """Four ways side by side: 1x1; 3x3; 5x5; pooling."""
    one, reduce3, three, reduce5, five, projection = BLOCKS[block]
    name = f"in{block}"
    ways = [
        convolution(data, one, 1, f"{name}_1x1"),
        convolution(convolution(data, reduce3, 1, f"{name}_3x3_reduce"), three, 3, f"{name}_3x3"),
        convolution(convolution(data, reduce5, 1, f"{name}_5x5_reduce"), five, 5, f"{name}_5x5"),
        convolution(pool(data, f"{name}_pool", stride=1, pad=1), projection, 1, f"{name}_proj"),
    ]
    return mx.sym.Concat(*ways, name=f"{name}_concat")


def network(classes: int = 1000) -> mx.Symbol:
    """Stem, nine inception blocks, average pooling, one dense layer, softmax."""
    result = pool(convolution(mx.sym.Variable("data"), 64, 7, "conv1", stride=2), "pool1")
    result = convolution(convolution(result, 64, 1, "conv2"), 192, 3, "conv3")
    for block in BLOCKS:
        if block.endswith("a"):
            result = pool(result, f"pool{block[0]}")
        result = inception(result, block)
    result = mx.sym.Pooling(result, kernel=(7, 7), stride=(1, 1), pool_type="avg", name="global_pool")
    result = mx.sym.Flatten(result, name="flatten")
    result = mx.sym.FullyConnected(result, num_hidden=classes, name="fc1")
    return mx.sym.SoftmaxOutput(result, name="softmax")
