"""The reference executor: each primitive through its torch oracle, one after another.

In float64 it is what every pass, kernel and target is compared with; in the graph's own element types it is the
fallback where nothing can be compiled. Values are dropped after their last reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from graphc.diagnostics import closest, fail
from graphc.ir.graph import Graph, Node
from graphc.ir.sizes import bind_sizes
from graphc.primitives import primitive
from graphc.primitives.concrete import check_sizes, concrete_node
from graphc.types import DType


@dataclass(frozen=True, slots=True)
class ReferenceResult:
    """Tensors by the callers' names of outputs, and by the names of updated inputs, in memory of their own."""

    outputs: dict[str, torch.Tensor]
    updates: dict[str, torch.Tensor]


def run_reference(
    graph: Graph, inputs: Mapping[str, Any], *, dtype: torch.dtype | None = torch.float64
) -> ReferenceResult:
    """Evaluate a graph on torch tensors or arrays by input name.

    Floating-point values are computed in `dtype`, or in their declared types for None; other types stay. Errors: G601
    for a missing or unknown input, G602 for a wrong shape or size, G603 for a wrong element type.
    """
    wide = None if dtype is None else DType.of(dtype)
    values = _check_inputs(graph, inputs, wide)
    sizes = bind_sizes([item.value for item in graph.inputs], {n: tuple(t.shape) for n, t in values.items()})
    check_sizes(graph, sizes)
    storages = {tensor.untyped_storage().data_ptr() for tensor in values.values()}
    last_reader = _last_readers(graph)
    for position, node in enumerate(graph.nodes):
        evaluate_node(concrete_node(node, sizes, wide), values)
        for value in (*node.inputs, *node.outputs):
            if last_reader.get(value.name, -1) <= position:
                values.pop(value.name, None)
    owned = {name: _own(values[name], storages) for name in graph.results}
    return ReferenceResult(
        {name: owned[value.name] for name, value in zip(graph.output_names, graph.outputs, strict=True)},
        {update.target: owned[update.value.name] for update in graph.updates},
    )


def evaluate_node(node: Node, values: dict[str, torch.Tensor]) -> None:
    """Add the outputs of a concrete node to `values`, by name."""
    operands = tuple(values[value.name] for value in node.inputs)
    shapes = tuple(value.type.concrete_shape({}) for value in node.outputs)
    results = primitive(node.primitive).oracle(operands, node, shapes)
    for value, shape, result in zip(node.outputs, shapes, results, strict=True):
        if tuple(result.shape) != shape:
            raise AssertionError(
                f"the oracle of {node} gave shape {tuple(result.shape)}, its type is {value.type}"
            )
        values[value.name] = result.to(value.type.dtype.torch)


def _check_inputs(graph: Graph, inputs: Mapping[str, Any], wide: DType | None) -> dict[str, torch.Tensor]:
    names = [item.name for item in graph.inputs]
    for name in inputs:
        if name not in graph.input_by_name:
            raise fail("G601", f"graph {graph.name!r} has no input {name!r}", help=closest(name, names))
    values = {}
    for item in graph.inputs:
        declared = item.value.type
        if item.name not in inputs:
            raise fail(
                "G601", f"no value was given for the input {item.name!r} of type {declared}", name=item.name
            )
        tensor = torch.as_tensor(inputs[item.name]).detach().cpu()
        if tensor.is_floating_point() and not declared.dtype.is_float:
            raise fail("G603", f"input {item.name!r} is {declared}, given {tensor.dtype}", name=item.name)
        target = wide if wide is not None and declared.dtype.is_float else declared.dtype
        values[item.name] = tensor.to(target.torch)
    return values


def _last_readers(graph: Graph) -> dict[str, int]:
    """Position of the last node that reads each value; values that leave the graph are read at the end."""
    last = {value.name: position for position, node in enumerate(graph.nodes) for value in node.inputs}
    return last | dict.fromkeys(graph.results, len(graph.nodes))


def _own(tensor: torch.Tensor, storages: set[int]) -> torch.Tensor:
    """The tensor, dense, in memory that is not in `storages` yet; adds it there."""
    dense = tensor.contiguous()
    if dense.untyped_storage().data_ptr() in storages:
        dense = dense.clone(memory_format=torch.contiguous_format)
    storages.add(dense.untyped_storage().data_ptr())
    return dense
