"""Symbols, graphs and programs as networkx graphs: what `graphc dump --format dot` and `--format json` write."""

from __future__ import annotations

import json
from typing import Any

import networkx

from graphc.ir.graph import Graph
from graphc.ir.kernel import Access
from graphc.ir.program import Program, Role
from graphc.symbol import Symbol
from graphc.symbol.node import topological
from graphc.templates import render


def symbol_network(symbol: Symbol) -> networkx.MultiDiGraph:
    """Nodes are operators and variables; an edge is an argument and bears its place among the inputs."""
    network = networkx.MultiDiGraph(name=symbol.name or "group", outputs=list(symbol.list_outputs()))
    for node in topological(symbol.entries):
        operator = node.operator.name if node.operator is not None else "variable"
        network.add_node(
            node.name, kind=operator, line=str(node.location or ""), label=f"{operator}\n{node.name}"
        )
        for position, entry in enumerate(node.inputs):
            network.add_edge(entry.node.name, node.name, input=position, label=str(entry.output or ""))
    return network


def graph_network(graph: Graph) -> networkx.MultiDiGraph:
    """Nodes are inputs, primitives and outputs; an edge is a value and bears its type."""
    network = networkx.MultiDiGraph(name=graph.name)
    owner: dict[str, str] = {}
    for item in graph.inputs:
        owner[item.name] = item.name
        network.add_node(
            item.name,
            kind=item.kind.value,
            type=str(item.value.type),
            label=f"{item.kind.value}\n{item.name}",
        )
    for node in graph.nodes:
        name = node.outputs[0].name
        attributes = {key: str(value) for key, value in node.attributes.items()}
        lines = [str(origin) for origin in node.origins]
        network.add_node(
            name, kind="primitive", primitive=node.primitive, attributes=attributes, origins=lines,
            type=", ".join(str(value.type) for value in node.outputs), label=f"{node.primitive}\n{name}",
        )  # fmt: skip
        for position, value in enumerate(node.inputs):
            network.add_edge(owner[value.name], name, input=position, value=value.name, label=str(value.type))
        owner.update(dict.fromkeys((value.name for value in node.outputs), name))
    results = [(name, value, "output") for name, value in zip(graph.output_names, graph.outputs, strict=True)]
    results += [(update.target, update.value, "update") for update in graph.updates]
    for name, value, kind in results:
        target = f"{kind} {name}"
        network.add_node(target, kind=kind, type=str(value.type), label=f"{kind}\n{name}")
        network.add_edge(owner[value.name], target, input=0, value=value.name, label=str(value.type))
    return network


def program_network(program: Program) -> networkx.MultiDiGraph:
    """Nodes are kernel launches and the buffers that callers own; an edge is a buffer between them."""
    network = networkx.MultiDiGraph(name=program.name)
    writer: dict[int, str] = {}
    for index, buffer in enumerate(program.buffers):
        if buffer.role in (Role.INPUT, Role.STATE):
            writer[index] = buffer.name
            network.add_node(
                buffer.name,
                kind=buffer.role.value,
                type=str(buffer.type),
                label=f"{buffer.role.value}\n{buffer.name}",
            )
    for number, step in enumerate(program.steps):
        kernel = program.kernels[step.kernel]
        name = f"step {number}"
        origins = [str(origin) for origin in kernel.origins]
        network.add_node(
            name, kind="kernel", kernel=kernel.name, origins=origins, label=f"{number}: {kernel.name}"
        )
        arguments = list(zip(kernel.parameters, step.arguments, strict=True))
        for parameter, index in arguments:
            if parameter.access is not Access.OUT and index in writer:
                buffer = program.buffers[index]
                network.add_edge(
                    writer[index], name, buffer=buffer.name, label=f"{buffer.name} {buffer.type}"
                )
        writer.update({index: name for parameter, index in arguments if parameter.access is not Access.IN})
    for output, index in program.outputs:
        target = f"output {output}"
        network.add_node(
            target, kind="output", type=str(program.buffers[index].type), label=f"output\n{output}"
        )
        if index in writer:
            network.add_edge(writer[index], target, buffer=program.buffers[index].name, label="")
    return network


def as_data(network: networkx.MultiDiGraph) -> dict[str, Any]:
    """The network as plain data: nodes and edges with their attributes, without labels for drawing."""
    bare = network.copy()
    for _, attributes in bare.nodes(data=True):
        attributes.pop("label", None)
    for _, _, attributes in bare.edges(data=True):
        attributes.pop("label", None)
    data: dict[str, Any] = networkx.node_link_data(bare, edges="edges")
    return {"graph": data["graph"], "nodes": data["nodes"], "edges": data["edges"]}


_SHAPES = {"kernel": "box", "primitive": "box", "output": "ellipse", "update": "ellipse"}


def as_dot(network: networkx.MultiDiGraph) -> str:
    """The network in Graphviz's language."""
    numbers = {name: f"n{number}" for number, name in enumerate(network.nodes)}
    sources = {"data", "parameter", "state", "input", "variable"}
    nodes = [
        {
            "id": numbers[name],
            "label": json.dumps(attributes["label"]),
            "shape": "ellipse" if attributes["kind"] in sources else _SHAPES.get(attributes["kind"], "box"),
        }
        for name, attributes in network.nodes(data=True)
    ]
    edges = [
        {"source": numbers[source], "target": numbers[target], "label": json.dumps(attributes["label"])}
        for source, target, attributes in network.edges(data=True)
    ]
    return render("text/graph.dot.j2", title=json.dumps(network.graph["name"]), nodes=nodes, edges=edges)
