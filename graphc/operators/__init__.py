"""The operators that users call, each declared once as a composition of primitives.

Importing this fills the registry.
"""

from collections.abc import Mapping

from graphc.operators import (
    activation,
    attention,
    binary,
    broadcast,
    contraction,
    convolution,
    creation,
    indexing,
    joining,
    losses,
    normalization,
    pooling,
    random,
    recurrent,
    reduction,
    scan,
    sequence,
    shaping,
    softmax,
    unary,
)
from graphc.operators.declare import Operator, operator, operator_names, operators

BUILT_IN: Mapping[str, Operator] = {declared.name: declared for declared in operators()}
"""The operators that graphc's own sources declare; a program may declare more."""

__all__ = [
    "BUILT_IN",
    "Operator",
    "activation",
    "attention",
    "binary",
    "broadcast",
    "contraction",
    "convolution",
    "creation",
    "indexing",
    "joining",
    "losses",
    "normalization",
    "operator",
    "operator_names",
    "operators",
    "pooling",
    "random",
    "recurrent",
    "reduction",
    "scan",
    "sequence",
    "shaping",
    "softmax",
    "unary",
]
