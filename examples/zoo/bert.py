"""BERT (Devlin et al. 2018, arXiv:1810.04805): post-norm encoder blocks over word, position and segment embeddings.

Inputs: data [batch, length] word numbers, token_types [batch, length] 0 or 1, mask [batch, length] 1 for a word and 0
for padding, which nobody looks at. Outputs: the sequence [batch, length, units], and its first place after a dense
layer with tanh, [batch, units].
"""

from transformer import attention, dense, drop, normalize

import graphc as mx

shapes = {"data": (1, 128), "token_types": (1, 128), "mask": (1, 128)}

EPSILON = 1e-12
POSITIONS = 512


def embedding(units: int, length: int, vocabulary: int, dropout: float) -> mx.Symbol:
    """Words, positions and segments, added and normalised."""
    words = mx.sym.Embedding(mx.sym.Variable("data"), input_dim=vocabulary, output_dim=units, name="word")
    segments = mx.sym.Embedding(mx.sym.Variable("token_types"), input_dim=2, output_dim=units, name="segment")
    places = mx.sym.Variable("position_weight", shape=(POSITIONS, units))
    here = mx.sym.expand_dims(mx.sym.slice_axis(places, axis=0, begin=0, end=length), axis=0)
    result = mx.sym.broadcast_add(words + segments, here)
    return drop(normalize(result, "embedding_ln", EPSILON), dropout, "embedding_drop")


def block(data: mx.Symbol, heads: int, units: int, bias: mx.Symbol, dropout: float, name: str) -> mx.Symbol:
    """Attention, then two dense layers of four times the width; what each adds to is normalised after it."""
    queries, keys, values = (dense(data, units, f"{name}_{part}") for part in ("query", "key", "value"))
    mixed = attention(queries, keys, values, heads, units, bias, dropout, f"{name}_attention")
    mixed = drop(dense(mixed, units, f"{name}_out"), dropout, f"{name}_drop1")
    data = normalize(data + mixed, f"{name}_ln1", EPSILON)
    wide = mx.sym.LeakyReLU(dense(data, 4 * units, f"{name}_wide"), act_type="gelu", name=f"{name}_gelu")
    narrow = drop(dense(wide, units, f"{name}_narrow"), dropout, f"{name}_drop2")
    return normalize(data + narrow, f"{name}_ln2", EPSILON)


def network(
    layers: int = 12,
    units: int = 768,
    heads: int = 12,
    length: int = 128,
    vocabulary: int = 30522,
    dropout: float = 0.1,
) -> mx.Symbol:
    """BERT-base by default; BERT-large has 24 layers, 1024 units and 16 heads."""
    mask = mx.sym.Reshape(mx.sym.Variable("mask"), shape=(-1, 1, 1, length))
    bias = (mask - 1) * 1e9
    result = embedding(units, length, vocabulary, dropout)
    for number in range(1, layers + 1):
        result = block(result, heads, units, bias, dropout, f"layer{number}")
    first = mx.sym.Reshape(mx.sym.slice_axis(result, axis=1, begin=0, end=1), shape=(0, -1))
    pooled = mx.sym.Activation(dense(first, units, "pooler"), act_type="tanh", name="pooled")
    return mx.sym.Group([result, pooled])
