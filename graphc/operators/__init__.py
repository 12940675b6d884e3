"""The operators that users call, each declared once as a composition of primitives.

Importing this fills the registry.
"""

from graphc.operators import (
    activation,
    contraction,
    losses,
    normalization,
    random,
    shaping,
    softmax,
    spatial,
)
from graphc.operators.declare import Operator, operator, operator_names, operators

__all__ = [
    "Operator",
    "activation",
    "contraction",
    "losses",
    "normalization",
    "operator",
    "operator_names",
    "operators",
    "random",
    "shaping",
    "softmax",
    "spatial",
]
