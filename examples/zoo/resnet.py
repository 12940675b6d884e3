"""Residual networks (He et al. 2015, arXiv:1512.03385), stride in the 3x3 convolution (v1b) as in torchvision."""

import graphc as mx

shapes = {"data": (16, 3, 224, 224)}

UNITS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Residual units of each stage, by number of layers."""

WIDTHS = (64, 128, 256, 512)
"""Filters of each stage; a bottleneck unit ends with four times as many."""


def convolution(
    data: mx.Symbol, filters: int, kernel: int, name: str, stride: int = 1, active: bool = True
) -> mx.Symbol:
    """Convolution that keeps the size (but for its stride), batch normalisation, and ReLU where `active`."""
    result = mx.sym.Convolution(
        data,
        num_filter=filters,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        pad=(kernel // 2, kernel // 2),
        no_bias=True,
        name=f"{name}_conv",
    )
    result = mx.sym.BatchNorm(result, fix_gamma=False, eps=1e-5, name=f"{name}_bn")
    return mx.sym.Activation(result, act_type="relu", name=f"{name}_relu") if active else result


def unit(data: mx.Symbol, filters: int, name: str, stride: int, bottleneck: bool, project: bool) -> mx.Symbol:
    """Two 3x3 convolutions, or 1x1, 3x3 and 1x1; the data are added, projected where their shape differs."""
    if bottleneck:
        result = convolution(data, filters, 1, f"{name}_1")
        result = convolution(result, filters, 3, f"{name}_2", stride)
        result = convolution(result, 4 * filters, 1, f"{name}_3", active=False)
    else:
        result = convolution(data, filters, 3, f"{name}_1", stride)
        result = convolution(result, filters, 3, f"{name}_2", active=False)
    if project:
        outer = 4 * filters if bottleneck else filters
        data = convolution(data, outer, 1, f"{name}_shortcut", stride, active=False)
    return mx.sym.Activation(result + data, act_type="relu", name=f"{name}_out")


def network(
    classes: int = 1000, layers: int = 50, small: bool = False, widths: tuple[int, ...] = WIDTHS
) -> mx.Symbol:
    """Stem, four stages of residual units, average pooling, one dense layer, softmax.

    small: the stem for pictures of 32x32, one 3x3 convolution without pooling.
    """
    data = mx.sym.Variable("data")
    result = convolution(data, widths[0], 3 if small else 7, "stem", 1 if small else 2)
    if not small:
        result = mx.sym.Pooling(
            result, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max", name="stem_pool"
        )
    bottleneck = layers >= 50
    for stage, (units, filters) in enumerate(zip(UNITS[layers], widths, strict=True), 1):
        for number in range(1, units + 1):
            stride = 2 if stage > 1 and number == 1 else 1
            project = number == 1 and (bottleneck or stage > 1)
            result = unit(result, filters, f"stage{stage}_unit{number}", stride, bottleneck, project)
    result = mx.sym.Pooling(result, kernel=(1, 1), global_pool=True, pool_type="avg", name="global_pool")
    result = mx.sym.Flatten(result, name="flatten")
    result = mx.sym.FullyConnected(result, num_hidden=classes, name="fc")
    return mx.sym.SoftmaxOutput(result, name="softmax")
