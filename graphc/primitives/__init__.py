"""The primitives of the Graph IR: about 70 declarations, and the Builder that applies them."""

from graphc.primitives.declare import Kind, Primitive, TypeRuleError, primitive, primitives

__all__ = ["Kind", "Primitive", "TypeRuleError", "primitive", "primitives"]
