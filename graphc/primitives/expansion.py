"""What the expansion of a primitive into others is good for: targets without a template for it, and gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc.ir.graph import Node, Value
from graphc.primitives.declare import ExpansionRule, GradientRule, primitive

if TYPE_CHECKING:
    from graphc.primitives.builder import Builder


def gradient_by_expansion(expand: ExpansionRule) -> GradientRule:
    """The gradient rule of a primitive as that of its expansion, whose forward values are computed again."""

    def gradient(b: Builder, node: Node, heads: tuple[Value | None, ...]) -> tuple[Value | None, ...]:
        if all(head is None for head in heads):
            return (None,) * len(node.inputs)
        start = len(b.nodes)
        outputs = expand(b, node)
        steps = b.nodes[start:]
        totals: dict[str, Value] = {}

        def add(value: Value, part: Value | None) -> None:
            if part is not None:
                known = totals.get(value.name)
                totals[value.name] = part if known is None else b.add(known, part)

        for value, head in zip(outputs, heads, strict=True):
            add(value, head)
        for step in reversed(steps):
            rule = primitive(step.primitive).gradient
            found = tuple(totals.get(value.name) for value in step.outputs)
            if rule is None or not any(found):
                continue
            for value, part in zip(step.inputs, rule(b, step, found), strict=True):
                add(value, part)
        # An operand that stands at two positions gets its gradient once.
        return tuple(totals.pop(value.name, None) for value in node.inputs)

    return gradient
