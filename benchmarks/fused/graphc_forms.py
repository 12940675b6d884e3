"""graphc's way: a graph of primitives, all operands data inputs; an update writes the states in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from harness.row import Array, Arrays, Job, Row

import graphc as mx
from fused import graphs
from graphc.ir.graph import Graph, InputKind


def graph_of(row: Row, inputs: Arrays) -> Graph:
    """The row's graph at the sizes of its inputs."""
    kernel = row.options["kernel"]
    shape = next(iter(inputs.values())).shape
    if kernel == "layer_norm":
        return graphs.layer_norm(*shape, residual=True)
    if kernel == "reductions":
        return graphs.reductions(*shape, axis=row.options["axis"])
    if kernel == "gemm":
        return graphs.gemm(shape[0])
    make = {"gelu": graphs.bias_gelu_residual}.get(kernel) or getattr(graphs, kernel)
    graph: Graph = make(*shape)
    return graph


def graphc(row: Row, inputs: Arrays) -> Mapping[str, Job]:
    """The compiled graph; of a product also the form whose weight is a parameter, as it is for peers that pack it."""
    forms = {"graph": _job(graph_of(row, inputs), inputs)}
    if row.options["kernel"] == "gemm":
        packed = graphs.gemm(inputs["bias"].size, InputKind.PARAMETER)
        forms["weight is a parameter"] = _job(packed, inputs)
    return forms


def _job(graph: Graph, inputs: Arrays) -> Job:
    kinds = {item.name: item.kind for item in graph.inputs}
    updated = {update.target for update in graph.updates}
    tensors = {name: torch.from_numpy(array).clone() for name, array in inputs.items()}
    held = {name: tensor for name, tensor in tensors.items() if kinds[name] is not InputKind.DATA}
    given = {name: tensor for name, tensor in tensors.items() if name not in held}
    executable = mx.compile(graph, parameters=held)

    def results() -> Sequence[Array]:
        outputs = executable(**given)
        if updated:
            # In the order of the row's inputs, which is that of the reference.
            return [executable.states[name].numpy().copy() for name in inputs if name in updated]
        return [output.numpy().copy() for output in _sequence(outputs)]

    return Job(lambda: executable(**given), results)


def _sequence(outputs: Any) -> Sequence[Any]:
    return outputs if isinstance(outputs, (list, tuple)) else (outputs,)
