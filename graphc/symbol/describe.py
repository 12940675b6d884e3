"""Symbols as text for people: the graph node by node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc.symbol.node import topological

if TYPE_CHECKING:
    from graphc.symbol.symbol import Symbol


def describe(symbol: Symbol) -> str:
    """Outputs, then each node with its inputs, attributes and source line, as MXNet's debug_str prints them."""
    lines = ["Symbol Outputs:"]
    lines += [
        f"\toutput[{index}]={entry.node.name}({entry.output})" for index, entry in enumerate(symbol.entries)
    ]
    for node in topological(symbol.entries):
        if node.operator is None:
            lines.append(f"Variable:{node.name}")
            continue
        lines += ["-" * 20, f"Op:{node.kind}, Name={node.name}"]
        lines += [f"Defined:{node.location}"] if node.location else []
        lines.append("Inputs:")
        for index, (argument, entry) in enumerate(zip(node.input_names, node.inputs, strict=True)):
            lines.append(f"\targ[{index}]={entry.node.name}({entry.output}) {argument}")
        attributes = {**(node.texts or {}), **(node.attributes or {})}
        if attributes:
            lines.append("Attrs:")
            lines += [f"\t{key}={value}" for key, value in sorted(attributes.items())]
    return "\n".join(lines) + "\n"
