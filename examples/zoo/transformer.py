"""A causal language model of pre-norm transformer blocks, and the parts that bert.py and gpt2.py share with it.

Vaswani et al. 2017, arXiv:1706.03762; normalisation first as in Xiong et al. 2020, arXiv:2002.04745.
"""

import math

import graphc as mx

shapes = {"data": (16, 64), "softmax_label": (16, 64)}


def dense(data: mx.Symbol, units: int, name: str) -> mx.Symbol:
    """A linear layer over the last axis."""
    return mx.sym.FullyConnected(data, num_hidden=units, flatten=False, name=name)


def normalize(data: mx.Symbol, name: str, eps: float = 1e-5) -> mx.Symbol:
    """Layer normalisation over the last axis."""
    return mx.sym.LayerNorm(data, eps=eps, name=name)


def drop(data: mx.Symbol, share: float, name: str) -> mx.Symbol:
    """Dropout, or the data as they are."""
    return mx.sym.Dropout(data, p=share, name=name) if share else data


def causal_bias(length: int) -> mx.Symbol:
    """0 where a position may look, -1e9 where it would look ahead: [1, 1, length, length]."""
    rows = mx.sym.Reshape(mx.sym.arange(length), shape=(length, 1))
    columns = mx.sym.Reshape(mx.sym.arange(length), shape=(1, length))
    allowed = mx.sym.broadcast_lesser_equal(columns, rows)
    return mx.sym.Reshape((allowed - 1) * 1e9, shape=(1, 1, length, length))


def attention(
    queries: mx.Symbol,
    keys: mx.Symbol,
    values: mx.Symbol,
    heads: int,
    units: int,
    bias: mx.Symbol,
    dropout: float,
    name: str,
) -> mx.Symbol:
    """softmax(q kᵀ / sqrt(width) + bias) v for each head, of [batch, length, units] each."""

    def split(data: mx.Symbol) -> mx.Symbol:
        wide = mx.sym.Reshape(data, shape=(0, 0, -4, heads, -1))
        return mx.sym.transpose(wide, axes=(0, 2, 1, 3))

    scores = mx.sym.batch_dot(split(queries), split(keys), transpose_b=True, name=f"{name}_scores")
    scores = mx.sym.broadcast_add(scores * (1 / math.sqrt(units // heads)), bias)
    weights = drop(mx.sym.softmax(scores, axis=-1, name=f"{name}_weights"), dropout, f"{name}_drop")
    mixed = mx.sym.batch_dot(weights, split(values), name=f"{name}_mixed")
    return mx.sym.Reshape(mx.sym.transpose(mixed, axes=(0, 2, 1, 3)), shape=(0, 0, -3))


def self_attention(
    data: mx.Symbol, heads: int, units: int, bias: mx.Symbol, dropout: float, name: str
) -> mx.Symbol:
    """Queries, keys and values in one layer, attention, and the projection of all heads."""
    joint = dense(data, 3 * units, f"{name}_qkv")
    queries, keys, values = mx.sym.SliceChannel(joint, num_outputs=3, axis=2, name=f"{name}_split")
    mixed = attention(queries, keys, values, heads, units, bias, dropout, name)
    return dense(mixed, units, f"{name}_out")


def block(
    data: mx.Symbol, heads: int, units: int, bias: mx.Symbol, activation: str, dropout: float, name: str
) -> mx.Symbol:
    """Attention, then two dense layers of four times the width; each sees normalised data and adds to them."""
    seen = normalize(data, f"{name}_ln1")
    mixed = self_attention(seen, heads, units, bias, dropout, f"{name}_attention")
    data = data + drop(mixed, dropout, f"{name}_drop1")
    wide = dense(normalize(data, f"{name}_ln2"), 4 * units, f"{name}_wide")
    wide = mx.sym.LeakyReLU(wide, act_type=activation, name=f"{name}_gelu")
    return data + drop(dense(wide, units, f"{name}_narrow"), dropout, f"{name}_drop2")


def logits(
    layers: int = 2,
    units: int = 256,
    heads: int = 4,
    length: int = 64,
    vocabulary: int = 1000,
    positions: int = 0,
    activation: str = "gelu",
    dropout: float = 0.1,
) -> mx.Symbol:
    """A score for each word at each place, [batch, length, vocabulary], of the words before; the head is the embedding.

    positions: rows of the table of positions, `length` by default.
    """
    words = mx.sym.Variable("word_weight", shape=(vocabulary, units))
    places = mx.sym.Variable("position_weight", shape=(positions or length, units))
    result = mx.sym.Embedding(
        mx.sym.Variable("data"), weight=words, input_dim=vocabulary, output_dim=units, name="word"
    )
    here = mx.sym.expand_dims(mx.sym.slice_axis(places, axis=0, begin=0, end=length), axis=0)
    result = drop(mx.sym.broadcast_add(result, here), dropout, "embedding_drop")
    bias = causal_bias(length)
    for number in range(1, layers + 1):
        result = block(result, heads, units, bias, activation, dropout, f"block{number}")
    result = normalize(result, "last_ln")
    return mx.sym.FullyConnected(
        result, weight=words, num_hidden=vocabulary, no_bias=True, flatten=False, name="logits"
    )


def with_loss(scores: mx.Symbol) -> mx.Symbol:
    """Softmax over the words of [batch, length, words], with the mean cross-entropy's gradient in training."""
    flat = mx.sym.Reshape(scores, shape=(-3, 0))
    labels = mx.sym.Reshape(mx.sym.Variable("softmax_label"), shape=(-1,))
    return mx.sym.SoftmaxOutput(flat, labels, normalization="batch", name="softmax")


def network(layers: int = 2, dropout: float = 0.1, **sizes: int) -> mx.Symbol:
    """The language model with its loss; `sizes` as in `logits`."""
    return with_loss(logits(layers, dropout=dropout, **sizes))
