"""What a scalar costs, and traits of values that decide which kernel a node should go to."""

from __future__ import annotations

from graphc.ir.graph import Graph, Node, Value
from graphc.ir.kernel import Affine
from graphc.passes.limits import FusionOptions
from graphc.primitives.declare import Kind, Primitive, primitive
from graphc.types import product, same_dim

MOVES = (Kind.VIEW, Kind.RESHAPE, Kind.CONSTANT, Kind.IDENTITY)


def is_cheap(node: Node) -> bool:
    """True when doing a node again costs next to nothing a scalar."""
    declared = primitive(node.primitive)
    return declared.kind in MOVES or declared.cheap


def elements(value: Value, options: FusionOptions) -> int:
    """Elements of a value, symbolic dimensions at their assumed size."""
    return options.elements(value.type.shape)


def nbytes(value: Value, options: FusionOptions) -> int:
    """Bytes of a value, symbolic dimensions at their assumed size."""
    return elements(value, options) * value.type.dtype.itemsize


def same_size(a: Value, b: Value) -> bool:
    """True when two values have equally many elements."""
    return a.type.shape == b.type.shape or same_dim(a.type.size, b.type.size)


def epilogue_values(graph: Graph) -> dict[str, str]:
    """For values that a contraction's epilogue can compute, the contraction's result.

    They are elementwise from it, each one the first reader of the one before, so that they form one path.
    """
    found: dict[str, str] = {}
    for node in graph.nodes:
        kind = primitive(node.primitive).kind
        if kind is Kind.CONTRACTION:
            found[node.output.name] = node.output.name
        elif kind in (Kind.ELEMENTWISE, Kind.IDENTITY, Kind.RESHAPE, Kind.VIEW):
            for value in node.inputs:
                first = value.name in found and graph.readers[value.name][0] is node
                if first and same_size(value, node.outputs[0]):
                    found[node.outputs[0].name] = found[value.name]
                    break
    return found


def reduced_values(graph: Graph) -> dict[str, Node]:
    """For values computed elementwise from a reduction's result, that reduction."""
    found: dict[str, Node] = {}
    for node in graph.nodes:
        kind = primitive(node.primitive).kind
        if kind is Kind.REDUCTION:
            found[node.output.name] = node
        elif kind in (Kind.ELEMENTWISE, Kind.IDENTITY, Kind.RESHAPE, Kind.VIEW):
            for value in node.inputs:
                if value.name in found and same_size(value, node.outputs[0]):
                    found[node.outputs[0].name] = found[value.name]
                    break
    return found


def row_dims(graph: Graph) -> dict[str, tuple[int, ...]]:
    """For values computed elementwise from a broadcast reduction, the dimensions that the reduction ran over.

    Such a value belongs into the kernel of that reduction (softmax, normalisation), along these rows.
    """
    reduced = reduced_values(graph)
    found: dict[str, tuple[int, ...]] = {}
    for node in graph.nodes:
        declared = primitive(node.primitive)
        if declared.kind is Kind.VIEW and len(node.inputs) == 1 and node.inputs[0].name in reduced:
            dims = _repeated(node, declared)
            source = reduced[node.inputs[0].name]
            lost = [source.inputs[0].type.shape[axis] for axis in source.attributes["axes"]]
            shape = node.output.type.shape
            if dims and same_dim(product(shape[d] for d in dims), product(lost)):
                found[node.output.name] = dims
        elif declared.kind in (Kind.ELEMENTWISE, Kind.IDENTITY):
            rows = next((found[value.name] for value in node.inputs if value.name in found), None)
            if rows is not None:
                found[node.outputs[0].name] = rows
    return found


def _repeated(node: Node, declared: Primitive) -> tuple[int, ...]:
    """The dimensions of a view's result along which its elements repeat."""
    assert declared.view is not None
    shape = node.output.type.shape
    index = tuple(Affine.axis(str(d)) for d in range(len(shape)))
    (access,) = declared.view(node, index)
    used = {name for position in access.index for name in position.variables}
    return tuple(d for d, dim in enumerate(shape) if str(d) not in used and dim != 1)


_MOST_LEAVES = 2


def cheap_leaves(graph: Graph, kept: frozenset[str]) -> dict[str, frozenset[str]]:
    """For values that cheap operations make from a few values in memory, these values; broadcast ones do not count.

    `kept` are values that will be in memory besides the graph's inputs.
    """
    found = {item.name: frozenset((item.name,)) for item in graph.inputs}
    for node in graph.nodes:
        kind = primitive(node.primitive).kind
        for value in node.outputs:
            if value.name in kept:
                found[value.name] = frozenset((value.name,))
        if kind is Kind.CONSTANT or (kind is Kind.VIEW and not same_size(node.inputs[0], node.outputs[0])):
            found[node.outputs[0].name] = frozenset()
        elif kind in (Kind.ELEMENTWISE, Kind.IDENTITY) and is_cheap(node):
            parts = [found.get(value.name) for value in node.inputs]
            leaves = frozenset().union(*(part for part in parts if part is not None))
            if None not in parts and len(leaves) <= _MOST_LEAVES:
                found.setdefault(node.outputs[0].name, leaves)
    return found
