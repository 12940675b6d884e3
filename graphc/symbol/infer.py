"""Shapes and element types of a whole symbol: sweeps forward and backward over its nodes until nothing changes.

At each node the operator's own rule speaks first, in both directions; then its composition is run on a scratch graph,
with fresh symbolic dimensions for what is unknown, to learn its outputs. Equal applications are composed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from graphc.diagnostics import GraphcError, Operand
from graphc.operators.declare import Context
from graphc.operators.inference import (
    BrokenRuleError,
    ContradictionError,
    Frame,
    PartialShape,
    format_shape,
    guess,
    is_complete,
    is_guess,
    is_known,
    merge_dtypes,
    merge_shapes,
)
from graphc.primitives.builder import Builder
from graphc.symbol.hints import dtype_hint, shape_hint
from graphc.symbol.node import Entry, SymbolNode, describe_source
from graphc.types import Dim, DType, TensorType

if TYPE_CHECKING:
    pass

Cell = TypeVar("Cell")
Table = dict[SymbolNode, list["Cell | None"]]
ShapeTable = dict[SymbolNode, list[PartialShape]]
DTypeTable = dict[SymbolNode, list["DType | None"]]


def infer_shapes(nodes: Sequence[SymbolNode], known: Mapping[str, PartialShape]) -> ShapeTable:
    """Shapes of all outputs of all nodes (in topological order), as far as they follow from those of variables."""
    shapes: ShapeTable = {node: [None] * len(node.output_names) for node in nodes}
    for node in nodes:
        if node.operator is None:
            shapes[node][0] = known_shape(node, known.get(node.name))
    composed: dict[Any, tuple[PartialShape, ...]] = {}
    pending, forward = [node for node in nodes if node.operator is not None], True
    changed = {True: True, False: True}
    while pending and (changed[True] or changed[False]):
        changed[forward] = False
        rest = []
        for node in pending if forward else reversed(pending):
            visited, done = _visit(node, shapes, composed)
            changed[forward] |= visited
            if not done:
                rest.append(node)
        pending = rest if forward else rest[::-1]
        forward = not forward
    return shapes


def known_shape(node: SymbolNode, given: PartialShape) -> PartialShape:
    """A variable's shape from what the caller gives and what it was declared with; G203 when these differ."""
    hint = shape_hint(node)
    if given is None or hint is None:
        return hint if given is None else given
    try:
        return merge_shapes(given, hint)
    except ContradictionError:
        row = Operand(node.name, format_shape(given), expected=format_shape(hint))
        raise node.blame("G203", "the shape given is not the one it was declared with", [row]) from None


def shape_frame(node: SymbolNode, shapes: ShapeTable) -> Frame[tuple[Dim, ...]]:
    """The operator's rule applied to what is known around a node; BrokenRuleError when it does not hold."""
    assert node.operator is not None
    cells = [shapes[entry.node][entry.output] for entry in node.inputs]
    frame = Frame(node.parameters, node.input_names, cells, shapes[node], merge_shapes)
    node.operator.shapes(frame)
    return frame


def _visit(
    node: SymbolNode, shapes: ShapeTable, composed: dict[Any, tuple[PartialShape, ...]]
) -> tuple[bool, bool]:
    """Apply a node's rule and composition to the table: (something changed, nothing is left to learn)."""
    try:
        frame = shape_frame(node, shapes)
        for index, shape in enumerate(_composed_shapes(node, frame.cells, composed)):
            frame.expect_output(shape, index)
    except (BrokenRuleError, GraphcError) as error:
        raise explain(node, error, shapes, _dtypes_for_messages(shapes)) from None
    changed = shapes[node] != frame.outputs
    shapes[node] = frame.outputs
    for entry, cell in zip(node.inputs, frame.cells, strict=True):
        if shapes[entry.node][entry.output] != cell:
            shapes[entry.node][entry.output] = cell
            changed = True
    return changed, all(map(is_complete, frame.cells)) and all(map(is_complete, frame.outputs))


def _composed_shapes(
    node: SymbolNode, inputs: Sequence[PartialShape], composed: dict[Any, tuple[PartialShape, ...]]
) -> tuple[PartialShape, ...]:
    """The output shapes that an operator's composition has for these inputs."""
    assert node.operator is not None
    if any(shape is None for shape in inputs):
        return ()
    key = (node.operator.name, node.parameters, tuple(inputs))
    if key not in composed:
        composed[key] = _compose(node, inputs)
    return composed[key]


def _compose(node: SymbolNode, inputs: Sequence[PartialShape]) -> tuple[PartialShape, ...]:
    assert node.operator is not None
    builder, fresh = Builder("scratch"), 0
    values = []
    for position, shape in enumerate(inputs):
        dims = []
        for dim in shape or ():
            dims.append(dim if is_known(dim) else guess(fresh))
            fresh += not is_known(dim)
        values.append(builder.input(f"input{position}", TensorType(DType.F32, tuple(dims))))
    try:
        with builder.at((node.origin,), node.name):
            outputs = node.operator.apply(builder, node.parameters, tuple(values), Context()).outputs
    except (GraphcError, BrokenRuleError):
        # Two unknown dimensions may well be equal, so a rule that fails on them proves nothing.
        if fresh:
            return ()
        raise
    return tuple(tuple(0 if is_guess(dim) else dim for dim in value.type.shape) for value in outputs)


# Element types


def infer_dtypes(nodes: Sequence[SymbolNode], known: Mapping[str, DType]) -> DTypeTable:
    """Element types of all outputs of all nodes; variables that nothing speaks of are f32."""
    dtypes: DTypeTable = {node: [None] * len(node.output_names) for node in nodes}
    for node in nodes:
        if node.operator is None:
            dtypes[node][0] = known.get(node.name) or dtype_hint(node)
    _settle_dtypes(nodes, dtypes)
    for node in nodes:
        if node.operator is None and dtypes[node][0] is None:
            dtypes[node][0] = DType.F32
    _settle_dtypes(nodes, dtypes)
    return dtypes


def _settle_dtypes(nodes: Sequence[SymbolNode], dtypes: DTypeTable) -> None:
    """Sweep forward and backward over the nodes that have something to learn."""
    pending = [node for node in nodes if node.operator is not None]
    changed, forward = {True: True, False: True}, True
    while pending and (changed[True] or changed[False]):
        changed[forward] = False
        rest = []
        for node in pending if forward else reversed(pending):
            visited, done = _visit_dtypes(node, dtypes)
            changed[forward] |= visited
            if not done:
                rest.append(node)
        pending = rest if forward else rest[::-1]
        forward = not forward


def _visit_dtypes(node: SymbolNode, dtypes: DTypeTable) -> tuple[bool, bool]:
    """Apply a node's rule to the table: (something changed, nothing is left to learn)."""
    assert node.operator is not None
    cells = [dtypes[entry.node][entry.output] for entry in node.inputs]
    frame = Frame(node.parameters, node.input_names, cells, dtypes[node], merge_dtypes)
    try:
        node.operator.dtypes(frame)
    except BrokenRuleError as error:
        raise explain(node, error, {}, dtypes, "G206") from None
    changed = dtypes[node] != frame.outputs or cells != frame.cells
    dtypes[node] = frame.outputs
    for entry, cell in zip(node.inputs, frame.cells, strict=True):
        dtypes[entry.node][entry.output] = cell
    return changed, None not in frame.cells and None not in frame.outputs


# Errors


def explain(
    node: SymbolNode,
    error: BrokenRuleError | GraphcError,
    shapes: ShapeTable,
    dtypes: DTypeTable,
    code: str = "G203",
) -> GraphcError:
    """The error in the words of the user's program: the operator, what each argument is and should be, its line."""
    if isinstance(error, GraphcError):
        code, message, help, expected = (
            error.diagnostic.code,
            error.diagnostic.message,
            error.diagnostic.help,
            {},
        )
    else:
        message, help, expected = error.message, error.help, dict(error.expected)
    rows = []
    for name, entry in zip(node.input_names, node.inputs, strict=True):
        found, wanted = _type_text(entry, shapes, dtypes), expected.get(name)
        if wanted is None and found.endswith("?"):
            continue
        prefix = str(dtypes[entry.node][entry.output] or "") if entry.node in dtypes and shapes else ""
        text = prefix + format_shape(wanted) if isinstance(wanted, tuple) else str(wanted) if wanted else ""
        rows.append(Operand(name, found, describe_source(entry), text))
    return node.blame(code, message, rows, help)


def _type_text(entry: Entry, shapes: ShapeTable, dtypes: DTypeTable) -> str:
    dtype = dtypes[entry.node][entry.output] if entry.node in dtypes else None
    if not shapes:
        return str(dtype or "?")
    return f"{dtype or ''}{format_shape(shapes[entry.node][entry.output])}"


def _dtypes_for_messages(nodes: Iterable[SymbolNode]) -> DTypeTable:
    try:
        return infer_dtypes(tuple(nodes), {})
    except GraphcError:
        return {}
