"""Model files: MXNet's symbol JSON, written as version 1.9.1 writes it and read from all versions since 0.7.

    {"nodes": [{"op": "FullyConnected", "name": "fc1", "attrs": {"num_hidden": "10"}, "inputs": [[0, 0, 0], ...]}],
     "arg_nodes": [ids of variables], "node_row_ptr": [...], "heads": [[id, output, 0]],
     "attrs": {"mxnet_version": ["int", 10901]}}

Pickles hold the same text, and the source lines beside it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphc.diagnostics import GraphcError, Location, closest, fail
from graphc.operators.declare import Operator, operator_names
from graphc.operators.declare import operator as find_operator
from graphc.symbol.node import NO_PARAMETERS, Entry, SymbolNode, topological
from graphc.symbol.upgrade import upgrade

if TYPE_CHECKING:
    from graphc.symbol.symbol import Symbol

VERSION = 10901


def to_json(symbol: Symbol) -> str:
    """The model file's text."""
    nodes = topological(symbol.entries)
    number = {node: position for position, node in enumerate(nodes)}
    rows = [0]
    for node in nodes:
        rows.append(rows[-1] + len(node.output_names))
    document = {
        "nodes": [_node_record(node, number) for node in nodes],
        "arg_nodes": [position for position, node in enumerate(nodes) if node.operator is None],
        "node_row_ptr": rows,
        "heads": [[number[entry.node], entry.output, 0] for entry in symbol.entries],
        "attrs": {"mxnet_version": ["int", VERSION]},
    }
    return json.dumps(document, indent=2)


def _node_record(node: SymbolNode, number: Mapping[SymbolNode, int]) -> dict[str, Any]:
    attributes = {**(node.texts or {}), **(node.attributes or {})}
    return {
        "op": node.operator.name if node.operator else "null",
        "name": node.name,
        **({"attrs": dict(sorted(attributes.items()))} if attributes else {}),
        "inputs": [[number[entry.node], entry.output, 0] for entry in node.inputs],
    }


def load(fname: str | os.PathLike[str]) -> Symbol:
    """The Symbol in a model file; error G310 when the file cannot be read, G311 to G313 when it is damaged."""
    try:
        text = Path(fname).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise fail("G310", f"the model file {os.fspath(fname)!r} cannot be read: {error}") from None
    return load_json(text, os.fspath(fname))


def load_json(json_str: str, file: str = "") -> Symbol:
    """The Symbol in a model file's text."""
    return _Reader(json_str, file).read()


class _Reader:
    """Checks a document piece by piece; every error names the node."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.where = f"model file {file!r}" if file else "model text"
        try:
            document = json.loads(text)
        except (json.JSONDecodeError, TypeError, RecursionError) as error:
            raise fail("G310", f"the {self.where} is no JSON: {error}") from None
        if not isinstance(document, dict) or not isinstance(document.get("nodes"), list):
            raise self.broken("it has no list of nodes")
        self.records: list[dict[str, Any]] = document["nodes"]
        self.heads: Any = document.get("heads")
        for position, record in enumerate(self.records):
            if not isinstance(record, dict) or not all(
                isinstance(record.get(key), str) for key in ("op", "name")
            ):
                raise self.broken(f"node {position} has no op and name")
            if not isinstance(record.setdefault("inputs", []), list):
                raise self.broken(f"node {position} ({record['name']}) has no list of inputs")
        upgrade(document, self.operator)

    def broken(self, problem: str) -> GraphcError:
        return fail("G312", f"the {self.where} is damaged: {problem}", help="write it again with Symbol.save")

    def operator(self, name: str, record: Mapping[str, Any]) -> Operator:
        try:
            return find_operator(name)
        except GraphcError:
            message = f"the {self.where} uses the operator {name!r}, which graphc does not have"
            raise fail(
                "G101", message, operator=name, name=record["name"], help=closest(name, operator_names())
            ) from None

    def read(self) -> Symbol:
        from graphc.symbol.symbol import Symbol

        links = [[self.link(item, record["name"]) for item in record["inputs"]] for record in self.records]
        nodes: dict[int, SymbolNode] = {}
        for position in self.order(links):
            nodes[position] = self.node(
                self.records[position], [(nodes[k], index) for k, index in links[position]]
            )
        if not isinstance(self.heads, list) or not self.heads:
            raise self.broken("it has no heads, so it computes nothing")
        heads = [self.link(item, "heads") for item in self.heads]
        return Symbol(tuple(self.entry(nodes[position], index, "heads") for position, index in heads))

    def link(self, item: Any, owner: str) -> tuple[int, int]:
        """(node, output) of an input or a head; old files have two numbers, new ones three."""
        numbers = item if isinstance(item, list) else [item, 0]
        if len(numbers) < 2 or not all(isinstance(number, int) for number in numbers[:2]):
            raise self.broken(f"{owner} has the input {item!r}")
        if not 0 <= numbers[0] < len(self.records):
            raise self.broken(f"{owner} reads node {numbers[0]} of {len(self.records)}")
        return numbers[0], numbers[1]

    def order(self, links: Sequence[Sequence[tuple[int, int]]]) -> list[int]:
        """Positions with inputs before users; error G311 when nodes read each other in a circle."""
        readers: list[list[int]] = [[] for _ in links]
        waiting = [len(inputs) for inputs in links]
        for position, inputs in enumerate(links):
            for source, _ in inputs:
                readers[source].append(position)
        ready = [position for position, count in enumerate(waiting) if not count]
        for position in ready:
            for reader in readers[position]:
                waiting[reader] -= 1
                if not waiting[reader]:
                    ready.append(reader)
        if len(ready) < len(links):
            stuck = [self.records[position]["name"] for position, count in enumerate(waiting) if count]
            raise fail(
                "G311",
                f"the {self.where} has a cycle: {', '.join(stuck[:6])} need each other's outputs",
                operator=self.records[waiting.index(max(waiting))]["op"],
                name=stuck[0],
                help="a graph's nodes read only nodes before them",
            )
        return ready

    def node(self, record: Mapping[str, Any], inputs: Sequence[tuple[SymbolNode, int]]) -> SymbolNode:
        name, attributes = record["name"], dict(record.get("attrs") or {})
        if not all(isinstance(value, str) for value in attributes.values()):
            raise self.broken(f"an attribute of {name} is no text")
        if record["op"] == "null":
            if inputs:
                raise self.broken(f"the variable {name} has inputs")
            return SymbolNode(name, attributes=attributes)
        declared = self.operator(record["op"], record)
        given = {key: value for key, value in attributes.items() if declared.parameter(key) is not None}
        rest = {key: value for key, value in attributes.items() if key not in given}
        if declared.counted:
            given.setdefault(declared.counted, str(len(inputs)))
        parameters, texts = declared.read_parameters(given, name)
        wanted = declared.input_names(parameters)
        if len(inputs) != len(wanted):
            raise self.broken(
                f"{declared.name} {name} has {len(inputs)} inputs, and takes {len(wanted)}: {', '.join(wanted)}"
            )
        entries = tuple(self.entry(node, index, name) for node, index in inputs)
        return SymbolNode(name, declared, entries, parameters, texts, rest)

    def entry(self, node: SymbolNode, index: int, owner: str) -> Entry:
        if not 0 <= index < len(node.output_names):
            raise self.broken(
                f"{owner} reads output {index} of {node.name}, which has {len(node.output_names)}"
            )
        return Entry(node, index)


# Pickling

Frozen = tuple[str, tuple["tuple[str, int] | None", ...]]


def freeze(symbol: Symbol) -> Frozen:
    """A symbol as plain data: its text, and the source line of every node."""
    lines = tuple(
        (node.location.file, node.location.line) if node.location else None
        for node in topological(symbol.entries)
    )
    return to_json(symbol), lines


def thaw(text: str, lines: Sequence[tuple[str, int] | None]) -> Symbol:
    """The inverse of freeze."""
    from graphc.symbol.symbol import Symbol

    loaded = load_json(text)
    new: dict[SymbolNode, SymbolNode] = {}
    for node, line in zip(topological(loaded.entries), lines, strict=True):
        inputs = tuple(Entry(new[entry.node], entry.output) for entry in node.inputs)
        location = Location(*line) if line else None
        new[node] = SymbolNode(
            node.name,
            node.operator,
            inputs,
            node.parameters or NO_PARAMETERS,
            node.texts,
            node.attributes,
            location,
        )
    return Symbol(tuple(Entry(new[entry.node], entry.output) for entry in loaded.entries))
