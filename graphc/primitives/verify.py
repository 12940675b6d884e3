"""verify_graph: whether a graph obeys the rules of the Graph IR and of its primitives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graphc.diagnostics import GraphcError, Operand, fail
from graphc.ir.graph import Graph, Node, Value
from graphc.primitives import TypeRuleError, primitive
from graphc.types import TensorType, dim_symbols, same_shape


def verify_graph(graph: Graph) -> None:
    """Raise the error of the first rule that is broken.

    G301 unknown primitive; G303 a value that is undefined, used before its node, or used under another type;
    G304 a name defined twice; G305 types or attributes against the primitive's rule; G306 wrong state updates;
    G307 no output; G308 two outputs of one name; G309 a symbolic dimension that no input has.
    """
    defined: dict[str, TensorType] = {}
    symbols = set(dim_symbols(dim for item in graph.inputs for dim in item.value.type.shape))
    for value in (item.value for item in graph.inputs):
        _define(graph, value, defined, None)
    for node in graph.nodes:
        for operand in node.inputs:
            _require_defined(graph, operand, defined, f"{node.primitive} reads", node)
        _check_rule(graph, node)
        _check_symbols(graph, node, symbols)
        for value in node.outputs:
            _define(graph, value, defined, node)
    for value in graph.outputs:
        _require_defined(graph, value, defined, "the graph returns", None)
    _check_updates(graph, defined)
    if not graph.outputs and not graph.updates:
        raise fail("G307", f"graph {graph.name!r} computes nothing: it has no output and no update")
    for name in _repeated(graph.output_names):
        raise fail("G308", f"graph {graph.name!r} has two outputs named {name!r}", name=name)


def _error(
    graph: Graph, code: str, message: str, node: Node | None, operands: tuple[Operand, ...] = ()
) -> GraphcError:
    where = f"graph {graph.name!r}: " if node is None else f"graph {graph.name!r}, node {node}: "
    origin = node.origins[0] if node is not None and node.origins else None
    return fail(
        code,
        where + message,
        operator=origin.operator if origin else "",
        name=origin.name if origin else "",
        location=origin.location if origin else None,
        operands=operands,
    )


def _define(graph: Graph, value: Value, defined: dict[str, TensorType], node: Node | None) -> None:
    if value.name in defined:
        raise _error(graph, "G304", f"the name {value} is defined twice", node)
    defined[value.name] = value.type


def _require_defined(
    graph: Graph, value: Value, defined: dict[str, TensorType], reader: str, node: Node | None
) -> None:
    known = defined.get(value.name)
    if known is None:
        exists = any(value.name == other.name for other in graph.values())
        problem = "before the node that makes it" if exists else "which nothing defines"
        raise _error(graph, "G303", f"{reader} {value}, {problem}", node)
    if known is not value.type and known != value.type:
        raise _error(graph, "G303", f"{reader} {value} as {value.type}, but it is {known}", node)


def _check_rule(graph: Graph, node: Node) -> None:
    declared = primitive(node.primitive)
    try:
        complete = declared.complete(node.attributes)
        expected = declared.infer(tuple(value.type for value in node.inputs), complete)
    except TypeRuleError as error:
        raise _error(graph, "G305", str(error), node, _operands(node)) from None
    if len(complete) != len(node.attributes):
        missing = ", ".join(name for name in complete if name not in node.attributes)
        raise _error(graph, "G305", f"the attribute {missing} must be given, defaults included", node)
    actual = tuple(value.type for value in node.outputs)
    if actual != expected and not _same_types(actual, expected):
        rule = ", ".join(map(str, expected))
        raise _error(
            graph, "G305", f"the result is {rule}, not {', '.join(map(str, actual))}", node, _operands(node)
        )


def _operands(node: Node) -> tuple[Operand, ...]:
    return tuple(Operand(value.name, str(value.type)) for value in node.inputs)


def _check_symbols(graph: Graph, node: Node, symbols: set[str]) -> None:
    dims = [dim for value in node.outputs for dim in value.type.shape if not isinstance(dim, int)]
    dims += [
        item for value in node.attributes.values() for item in _flat(value) if hasattr(item, "free_symbols")
    ]
    unknown = [name for name in dim_symbols(dims) if name not in symbols] if dims else []
    if unknown:
        raise _error(
            graph, "G309", f"no input has the dimension {unknown[0]}, so its size is never known", node
        )


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _same_types(actual: tuple[TensorType, ...], expected: tuple[TensorType, ...]) -> bool:
    return len(actual) == len(expected) and all(
        a.dtype is b.dtype and same_shape(a.shape, b.shape) for a, b in zip(actual, expected, strict=True)
    )


def _check_updates(graph: Graph, defined: dict[str, TensorType]) -> None:
    for update in graph.updates:
        _require_defined(graph, update.value, defined, f"the update of %{update.target} is", None)
        target = graph.input_by_name.get(update.target)
        if target is None:
            raise _error(graph, "G306", f"%{update.target} is updated, but it is no input", None)
        if not _same_types((update.value.type,), (target.value.type,)):
            types = f"{target.value.type}, its update {update.value.type}"
            raise _error(graph, "G306", f"%{update.target} is {types}", None)
    for name in _repeated(tuple(update.target for update in graph.updates)):
        raise _error(graph, "G306", f"%{name} is updated twice", None)


def _repeated(names: tuple[str, ...]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)
