"""Text of the Graph IR: print_graph, and its inverse parse_graph; the grammar stands in ir/graph.py.

Attribute values print as true, false, none, integers, floats (with a point, an exponent, inf or nan), "strings",
dtypes, dimensions, and tuples such as (1,2) or (1,). Names other than identifiers with dots are quoted as in JSON.
Source files show by their base name; a table at the end maps it to the full path where that differs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from graphc.ir.graph import Attributes, Graph, Input, InputKind, Node, Origin, Origins, Value
from graphc.ir.parse import DTYPES, LITERALS, NAME, WORD, parse_graph
from graphc.types import DType, format_dim

__all__ = ["FileTable", "parse_graph", "print_attributes", "print_graph", "print_name", "print_origins"]

WIDTH = 110
_RESERVED = {*LITERALS, *DTYPES, "inf", "nan"}


def print_graph(graph: Graph, *, origins: bool = True) -> str:
    """The text of a graph, which parse_graph reads back; without origins the source lines are left out."""
    files = FileTable()
    left = [", ".join(f"{_value(v)}: {v.type}" for v in node.outputs) for node in graph.nodes]
    width = max((len(text) for text in left if len(text) <= WIDTH // 2), default=0)
    statements = [f"  {a:<{width}} = {_application(b)}" for a, b in zip(left, graph.nodes, strict=True)]
    column = max((len(text) for text in statements if len(text) <= WIDTH), default=0)
    lines = [_header(graph) + " {"]
    for statement, node in zip(statements, graph.nodes, strict=True):
        if origins and node.origins:
            statement = f"{statement:<{column}}  // {print_origins(node.origins, files)}"
        lines.append(statement)
    return "\n".join([*lines, "}", *files.lines()]) + "\n"


def print_attributes(attributes: Attributes) -> str:
    """Attributes in braces, empty for none."""
    items = ", ".join(f"{print_name(name)}={_attribute(value)}" for name, value in attributes.items())
    return f"{{{items}}}" if items else ""


def print_name(name: str) -> str:
    """A name, quoted where it is no identifier."""
    return name if NAME.fullmatch(name) else json.dumps(name)


def _header(graph: Graph) -> str:
    inputs = [_input(item) for item in graph.inputs]
    outputs = [
        _value(value) if name == value.name else f"{print_name(name)}={_value(value)}"
        for name, value in zip(graph.output_names, graph.outputs, strict=True)
    ]
    updates = [f"%{print_name(update.target)}={_value(update.value)}" for update in graph.updates]

    def header(tall: int) -> str:
        update = f" update {_list(updates, tall)}" if updates else ""
        return f"graph {print_name(graph.name)}{_list(inputs, tall)} -> {_list(outputs, tall)}{update}"

    return header(WIDTH) if len(header(WIDTH)) <= WIDTH - 2 else header(WIDTH // 2)


def _list(items: Sequence[str], width: int) -> str:
    """A list in parentheses, one item a line when it is wider than that."""
    line = f"({', '.join(items)})"
    return line if len(line) <= width else "(\n" + "".join(f"    {item},\n" for item in items) + ")"


def _input(item: Input) -> str:
    kind = "" if item.kind is InputKind.DATA else f"{item.kind.value} "
    return f"{kind}{_value(item.value)}: {item.value.type}"


def _application(node: Node) -> str:
    operands = ", ".join(map(_value, node.inputs))
    return f"{node.primitive}({operands}) {print_attributes(node.attributes)}".rstrip()


def _attribute(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return json.dumps(value)
        case DType():
            return value.value
        case tuple():
            return f"({','.join(map(_attribute, value))}{',' * (len(value) == 1)})"
        case _:
            text = format_dim(value)
            return f"({text})" if text in _RESERVED else text


def _value(value: Value) -> str:
    return f"%{print_name(value.name)}"


def _word(text: str) -> str:
    return text if WORD.fullmatch(text) else json.dumps(text)


def print_origins(origins: Origins, files: FileTable) -> str:
    """Origins as they stand behind a node, files by their short names."""
    return "; ".join(_origin(origin, files) for origin in origins)


def _origin(origin: Origin, files: FileTable) -> str:
    words = f"{_word(origin.operator)} {_word(origin.name)}"
    place = origin.location
    return words if place is None else f"{_word(files.key(place.file))}:{place.line} {words}"


class FileTable:
    """Short names for the files of origins, in order of first use."""

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}

    def key(self, file: str) -> str:
        if file not in self._keys:
            stem = key = os.path.basename(file) or "file"
            count = 1
            while key in self._keys.values():
                count += 1
                key = f"{stem}~{count}"
            self._keys[file] = key
        return self._keys[file]

    def lines(self) -> Iterator[str]:
        entries = [(key, file) for file, key in self._keys.items() if key != file]
        if entries:
            yield "files {"
            yield from (f"  {_word(key)} = {json.dumps(file)}" for key, file in entries)
            yield "}"
