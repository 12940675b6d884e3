"""A node or a graph at given sizes of its symbolic dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from graphc.diagnostics import Operand, fail
from graphc.ir.graph import Attributes, Graph, Node, Value
from graphc.primitives.declare import TypeRuleError, primitive
from graphc.types import DType, TensorType, evaluate


def concrete_node(node: Node, sizes: Mapping[str, int], wide: DType | None = None) -> Node:
    """The node with numbers for symbolic dimensions, and its floating-point types replaced by `wide`."""

    def concrete_value(value: Value) -> Value:
        type = value.type
        dtype = wide if wide is not None and type.dtype.is_float else type.dtype
        return Value(value.name, TensorType(dtype, type.concrete_shape(sizes)))

    return replace(
        node,
        inputs=tuple(map(concrete_value, node.inputs)),
        outputs=tuple(map(concrete_value, node.outputs)),
        attributes=Attributes(
            {name: _concrete(value, sizes, wide) for name, value in node.attributes.items()}
        ),
    )


def check_sizes(graph: Graph, sizes: Mapping[str, int]) -> None:
    """Raise G602 for the first node whose type rule is broken at these sizes.

    A rule sees only what holds for every size: that a slice or a window fits, or that an axis is not empty, may turn
    out when the sizes are known. Without symbolic dimensions there is nothing to check.
    """
    if not sizes:
        return
    for node in graph.nodes:
        known = concrete_node(node, sizes)
        try:
            primitive(node.primitive).infer(tuple(value.type for value in known.inputs), known.attributes)
        except TypeRuleError as error:
            origin = node.origins[0] if node.origins else None
            named = ", ".join(f"{name} = {size}" for name, size in sizes.items())
            raise fail(
                "G602",
                f"{error} (in {node.primitive}, for {named})",
                operator=origin.operator if origin else node.primitive,
                name=origin.name if origin else node.outputs[0].name,
                location=origin.location if origin else None,
                operands=[
                    Operand(value.name, str(now.type), expected=str(value.type))
                    for value, now in zip(node.inputs, known.inputs, strict=True)
                ],
            ) from None


def _concrete(value: Any, sizes: Mapping[str, int], wide: DType | None) -> Any:
    if isinstance(value, tuple):
        return tuple(_concrete(item, sizes, wide) for item in value)
    if isinstance(value, DType):
        return wide if wide is not None and value.is_float else value
    return evaluate(value, sizes) if hasattr(value, "free_symbols") else value
