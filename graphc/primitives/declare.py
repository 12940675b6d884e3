"""How a primitive is declared: one record with its type rule, gradient, oracle, cost and traits, and the registry.

A primitive's gradient is written in primitives through the Builder, so a gradient is an ordinary graph and can be
differentiated again. Passes ask for `kind` and the other traits, never for names.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from graphc.diagnostics import closest, fail
from graphc.ir.graph import Attributes, Node, Value
from graphc.ir.kernel import Affine, Guard, Literal
from graphc.types import Dim, TensorType, product

if TYPE_CHECKING:
    import torch

    from graphc.primitives.builder import Builder


class Kind(enum.Enum):
    """What a primitive does to its elements; decides how passes and lowering treat it."""

    ELEMENTWISE = "elementwise"  # output[i] = f(inputs[i]); operands of one shape
    CONSTANT = "constant"  # full, iota: no tensor operand, recomputed wherever it is read
    VIEW = (
        "view"  # output[i] = operand_k[affine(i)], with guards: broadcast, transpose, slice, pad, concat ...
    )
    RESHAPE = "reshape"  # the same elements in row-major order under another shape
    GATHER = "gather"  # output[i] = operand[..., indices[...], ...]
    RANDOM = "random"  # counter-based random numbers
    REDUCTION = "reduction"  # over the axes of attribute "axes"
    WINDOW = "window"  # reductions over sliding windows and their transposes
    CONTRACTION = "contraction"  # dot, convolution and its gradients: from a template, with an epilogue
    SCATTER = "scatter"  # scatter_add: from a template
    TEMPLATE = "template"  # results written whole by a template, without an epilogue: attention, recurrence
    IDENTITY = (
        "identity"  # output = first operand; stands for a gradient rule and goes when gradients are built
    )


class TypeRuleError(Exception):
    """A type rule is broken; the message states it. The Builder turns it into a diagnostic with the user's line."""


@dataclass(frozen=True, slots=True)
class ViewAccess:
    """Where one element of a VIEW's output comes from: the operand, its index, and guards that must hold."""

    operand: int
    index: tuple[Affine, ...]
    guards: tuple[Guard, ...] = ()


TypeRule: TypeAlias = Callable[[tuple[TensorType, ...], Attributes], tuple[TensorType, ...]]
"""Operand types and attributes to output types; raises TypeRuleError."""

GradientRule: TypeAlias = "Callable[[Builder, Node, tuple[Value | None, ...]], Sequence[Value | None]]"
"""(builder, forward node, gradient of each output or None) to the gradient of each input, None where it is zero."""

Oracle: TypeAlias = (
    "Callable[[tuple[torch.Tensor, ...], Node, tuple[tuple[int, ...], ...]], tuple[torch.Tensor, ...]]"
)
"""(operands, node, concrete output shapes) to outputs, computed with torch in the operands' types."""

ExpansionRule: TypeAlias = "Callable[[Builder, Node], tuple[Value, ...]]"
"""(builder, node) to the node's outputs, made of other primitives; TypeRuleError where sizes must be known for it."""

ViewRule: TypeAlias = "Callable[[Node, tuple[Affine, ...]], tuple[ViewAccess, ...]]"
"""(node, index of the output element) to the possible sources; the guards of one hold, or of none (then `fill`)."""


@dataclass(frozen=True, slots=True)
class AttributeSpec:
    """An attribute of a primitive; `required` ones have no default."""

    name: str
    doc: str
    required: bool = True
    default: Any = None


def output_elements(node: Node) -> Dim:
    """The usual cost of an elementwise primitive: one operation an output element."""
    return product(node.outputs[0].type.shape)


def no_operations(node: Node) -> Dim:
    """The cost of a primitive that only moves elements."""
    return 0


def never(node: Node) -> bool:
    """The trait that no node has."""
    return False


@dataclass(frozen=True, slots=True)
class Primitive:
    """One primitive. Exactly one of `gradient` and `no_gradient` (the reason) is given."""

    name: str
    doc: str
    kind: Kind
    infer: TypeRule
    oracle: Oracle
    gradient: GradientRule | None = None
    no_gradient: str = ""
    attributes: tuple[AttributeSpec, ...] = ()
    flops: Callable[[Node], Dim] = output_elements
    view: ViewRule | None = None
    commutative: bool = False
    cheap: bool = False
    """ELEMENTWISE only: a cycle or so a scalar, so fusion does it again rather than keep its result in memory."""
    rounded: bool = False
    """ELEMENTWISE only: its result has the same bits in a register as in memory, whatever reads it; a product has not,
    since compilers add it up unrounded (fused multiply-add)."""
    differentiable_inputs: tuple[int, ...] | None = None
    """Positions that may carry a gradient; None means all floating-point ones."""
    side_effect_free: bool = field(default=True)
    ignores_head: Callable[[Node], bool] = never
    """True for a node whose gradient rule is called, and gives a gradient, even when no output has one."""
    derivative_unknown: bool = False
    """Without a gradient rule: False says that the derivative is zero, True that it is an error to want one."""
    fill: Callable[[Node], Literal] | None = None
    """VIEW only: the value of elements that come from no operand (pad); None when every element has a source."""
    expansion: ExpansionRule | None = None
    """TEMPLATE only: the same in other primitives, for targets that have no template for it."""
    lead: Callable[[Node], int] | None = None
    """TEMPLATE only: how many leading axes all operands and results share, one item for each index, of a template
    that reads and writes through views; None: whole buffers only."""

    def complete(self, attributes: Mapping[str, Any]) -> Attributes:
        """The attributes with defaults filled in; TypeRuleError for unknown and missing ones."""
        specs = {spec.name: spec for spec in self.attributes}
        for name in attributes:
            if name not in specs:
                known = ", ".join(specs) or "none"
                raise TypeRuleError(f"{self.name} has no attribute {name!r}; its attributes are: {known}")
        missing = [spec.name for spec in self.attributes if spec.required and spec.name not in attributes]
        if missing:
            raise TypeRuleError(f"{self.name} needs the attribute {missing[0]!r}: {specs[missing[0]].doc}")
        defaults = {spec.name: spec.default for spec in self.attributes if not spec.required}
        return Attributes({**defaults, **attributes})


_REGISTRY: dict[str, Primitive] = {}


def declare(primitive: Primitive) -> Primitive:
    """Add a primitive to the registry; ValueError for a repeated name or a missing part of the declaration."""
    if primitive.name in _REGISTRY:
        raise ValueError(f"primitive {primitive.name} is declared twice")
    if (primitive.gradient is None) == (not primitive.no_gradient):
        raise ValueError(f"primitive {primitive.name}: give a gradient, or the reason why it has none")
    if (primitive.view is not None) != (primitive.kind is Kind.VIEW):
        raise ValueError(
            f"primitive {primitive.name}: a view rule belongs to VIEW primitives, and each of them has one"
        )
    _REGISTRY[primitive.name] = primitive
    return primitive


def primitive(name: str) -> Primitive:
    """The primitive of that name; error G301 with close matches when there is none."""
    found = _REGISTRY.get(name)
    if found is None:
        raise fail("G301", f"there is no primitive {name!r}", help=closest(name, tuple(_REGISTRY)))
    return found


def primitives() -> tuple[Primitive, ...]:
    """All primitives, by name."""
    return tuple(_REGISTRY[name] for name in sorted(_REGISTRY))
