"""The operators that users call, each declared once as a composition of primitives.

Importing this fills the registry.
"""

from graphc.operators import (
    activation,
    contraction,
    convolution,
    losses,
    normalization,
    pooling,
    random,
    shaping,
    softmax,
)
from graphc.operators.declare import Operator, operator, operator_names, operators

__all__ = [
    "Operator",
    "activation",
    "contraction",
    "convolution",
    "losses",
    "normalization",
    "operator",
    "operator_names",
    "operators",
    "random",
    "shaping",
    "softmax",
    "pooling",
]
