"""AlexNet with local response normalisation, on one device (Krizhevsky et al. 2012), as in MXNet 0.7's examples."""

import graphc as mx

shapes = {"data": (64, 3, 224, 224)}


def normalized_pool(data: mx.Symbol, number: int) -> mx.Symbol:
    """Max pooling by the ceil rule, then normalisation across channels."""
    pool = mx.sym.Pooling(
        data, kernel=(3, 3), stride=(2, 2), pool_type="max", pooling_convention="full", name=f"pool{number}"
    )
    return mx.sym.LRN(pool, nsize=5, alpha=1e-4, beta=0.75, knorm=1, name=f"lrn{number}")


def dense(data: mx.Symbol, number: int) -> mx.Symbol:
    """4096 units, ReLU, dropout."""
    dense = mx.sym.FullyConnected(data, num_hidden=4096, name=f"fc{number}")
    active = mx.sym.Activation(dense, act_type="relu", name=f"relu_fc{number}")
    return mx.sym.Dropout(active, p=0.5, name=f"dropout{number}")


def convolution(data: mx.Symbol, number: int, filters: int, kernel: int, stride: int = 1) -> mx.Symbol:
    """Convolution and ReLU; only the first, with a stride, is not padded."""
    size, pad = (kernel, kernel), 0 if stride > 1 else kernel // 2
    result = mx.sym.Convolution(
        data, num_filter=filters, kernel=size, stride=(stride, stride), pad=(pad, pad), name=f"conv{number}"
    )
    return mx.sym.Activation(result, act_type="relu", name=f"relu{number}")


def network(classes: int = 1000) -> mx.Symbol:
    """Five convolutions of 96, 256, 384, 384 and 256 filters, three dense layers, softmax."""
    data = mx.sym.Variable("data")
    stage1 = normalized_pool(convolution(data, 1, 96, kernel=11, stride=4), 1)
    stage2 = normalized_pool(convolution(stage1, 2, 256, kernel=5), 2)
    stage3 = convolution(stage2, 3, 384, kernel=3)
    stage3 = convolution(stage3, 4, 384, kernel=3)
    stage3 = convolution(stage3, 5, 256, kernel=3)
    pool3 = mx.sym.Pooling(
        stage3, kernel=(3, 3), stride=(2, 2), pool_type="max", pooling_convention="full", name="pool3"
    )
    hidden = dense(dense(mx.sym.Flatten(pool3, name="flatten"), 1), 2)
    scores = mx.sym.FullyConnected(hidden, num_hidden=classes, name="fc3")
    return mx.sym.SoftmaxOutput(scores, name="softmax")
