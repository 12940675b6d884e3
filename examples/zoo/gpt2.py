"""GPT-2 (Radford et al. 2019): pre-norm transformer blocks, the tanh form of GELU, 1024 positions, a tied head."""

import transformer

import graphc as mx

shapes = {"data": (1, 128), "softmax_label": (1, 128)}

VOCABULARY = 50257
POSITIONS = 1024
SIZES = {"small": (12, 768, 12), "medium": (24, 1024, 16), "large": (36, 1280, 20), "xl": (48, 1600, 25)}
"""Layers, units and heads."""


def logits(size: str = "small", length: int = 128, dropout: float = 0.1) -> mx.Symbol:
    """A score for each word that may come next, [batch, length, 50257]."""
    layers, units, heads = SIZES[size]
    return transformer.logits(
        layers, units, heads, length, VOCABULARY, POSITIONS, activation="gelu_tanh", dropout=dropout
    )


def network(size: str = "small", length: int = 128, dropout: float = 0.1) -> mx.Symbol:
    """The same with its loss, for training."""
    return transformer.with_loss(logits(size, length, dropout))
