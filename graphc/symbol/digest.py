"""What tells two declared models apart, as text that is quick to make: no shape is inferred, no graph is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphc.ir.digest import numbering
from graphc.operators import BUILT_IN
from graphc.symbol.hints import read_dtype, read_shape
from graphc.symbol.node import SymbolNode, topological
from graphc.symbol.symbol import Symbol


def digest_text(
    symbol: Symbol, shapes: Mapping[str, Any], dtypes: Mapping[str, Any] | None = None
) -> str | None:
    """A text that two models share only when `trace` makes equal graphs of them, names and source lines included.

    None where an operator is not one of graphc's own: what it is composed of is known when it is traced. Raises as
    `trace` does for what is no shape or type.
    """
    known = sorted((key, read_shape(value, "shape", key)) for key, value in shapes.items())
    types = sorted((key, read_dtype(value, key).value) for key, value in (dtypes or {}).items())
    lines = [f"{known} {types} {symbol.name!r}"]
    numbers: dict[SymbolNode, int] = {}
    number = numbering(lines)

    for node in topological(symbol.entries):
        operator = node.operator
        if operator is not None and BUILT_IN.get(operator.name) is not operator:
            return None
        inputs = [(numbers[entry.node], entry.output) for entry in node.inputs]
        attributes = number(str(sorted(node.attributes.items()))) if node.attributes else ""
        location = f"{number(node.location.file)}:{node.location.line}" if node.location else ""
        lines.append(
            f"{node.name!r}={node.kind!r}{inputs}{number(repr(node.parameters))} {attributes} {location}"
        )
        numbers[node] = len(numbers)
    lines.append(str([(numbers[entry.node], entry.output) for entry in symbol.entries]))
    return "\n".join(lines)
