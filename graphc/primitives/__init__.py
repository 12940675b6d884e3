"""The primitives of the Graph IR: about 80 declarations, and the Builder that applies them."""

from graphc.primitives import (  # noqa: F401 - importing them fills the registry
    attention,
    channels_last,
    constant,
    contraction,
    elementwise,
    identity,
    indexing,
    random,
    recurrence,
    reduction,
    shape,
    window,
)
from graphc.primitives.declare import Kind, Primitive, TypeRuleError, primitive, primitives

__all__ = ["Kind", "Primitive", "TypeRuleError", "primitive", "primitives"]
