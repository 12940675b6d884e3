"""Trace: a Symbol with the shapes of its inputs becomes a Graph of primitives.

One sweep over the nodes: each operator's shape rule completes the variables beside it, then its composition is added
to the graph, once. Where a variable's shape follows only from what comes later, a full inference is made first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from graphc.diagnostics import GraphcError
from graphc.ir.graph import Graph, InputKind, Value
from graphc.operators.declare import Context
from graphc.operators.inference import BrokenRuleError, PartialShape, is_complete
from graphc.primitives.builder import Builder
from graphc.symbol.hints import read_dtype, read_shape
from graphc.symbol.infer import (
    DTypeTable,
    ShapeTable,
    explain,
    infer_dtypes,
    infer_shapes,
    known_shape,
    shape_frame,
)
from graphc.symbol.node import Entry, SymbolNode, check_names, topological, variables
from graphc.symbol.queries import check_known, require_complete
from graphc.types import DType, TensorType

if TYPE_CHECKING:
    from graphc.symbol.symbol import Symbol


def trace(
    symbol: Symbol,
    shapes: Mapping[str, Any],
    dtypes: Mapping[str, Any] | None = None,
    is_train: bool = False,
    name: str | None = None,
    parameters: Collection[str] | None = None,
) -> Graph:
    """The Graph of a Symbol.

    shapes: of arguments and auxiliary states by name; words are symbolic dimensions, ("N", 784); others are inferred.
    dtypes: likewise; float32 where nothing says otherwise. parameters: the arguments that are learned; by default
    those not named in `shapes`. Auxiliary states are inputs of kind STATE, updated when `is_train`. A graph that draws
    random numbers has the state `random_state: i64[2]` = (seed, step); each run adds one to step.
    Raises G203 for a shape that breaks an operator's rule, G205 for one that cannot be inferred, G206 for types that
    differ, G107 for a name used twice, G209 for a name that is no argument.
    """
    nodes = topological(symbol.entries)
    check_names(nodes)
    check_known(symbol, shapes, "shapes")
    check_known(symbol, dtypes or {}, "types")
    known: dict[str, PartialShape] = {key: read_shape(value, "shape", key) for key, value in shapes.items()}
    types = infer_dtypes(nodes, {key: read_dtype(value, key) for key, value in (dtypes or {}).items()})
    learned = (
        frozenset(symbol.list_arguments()) - frozenset(shapes)
        if parameters is None
        else frozenset(parameters)
    )
    graph_name = name or symbol.name or "graph"
    try:
        return _Tracer(symbol, nodes, known, types, learned, is_train, graph_name).run()
    except _UndeterminedError:
        complete = infer_shapes(nodes, known)
        known |= {node.name: complete[node][0] for node in nodes if node.operator is None}
        require_complete(symbol, complete)
        return _Tracer(symbol, nodes, known, types, learned, is_train, graph_name).run()


class _UndeterminedError(Exception):
    """A variable's shape does not follow from its first reader."""


class _Tracer:
    """The state of one sweep."""

    def __init__(
        self,
        symbol: Symbol,
        nodes: tuple[SymbolNode, ...],
        known: Mapping[str, PartialShape],
        dtypes: DTypeTable,
        learned: Collection[str],
        is_train: bool,
        name: str,
    ) -> None:
        self.symbol, self.nodes, self.dtypes, self.learned = symbol, nodes, dtypes, learned
        self.builder, self.context = Builder(name), Context(is_train)
        self.shapes: ShapeTable = {node: [None] * len(node.output_names) for node in nodes}
        for node in nodes:
            if node.operator is None:
                self.shapes[node][0] = known_shape(node, known.get(node.name))
        self.values: dict[SymbolNode, tuple[Value, ...]] = {}
        self.arguments, self.auxiliaries = variables(symbol.entries)
        self.states = frozenset(self.auxiliaries)
        self.updates: dict[SymbolNode, Value] = {}

    def run(self) -> Graph:
        for node in self.nodes:
            if node.operator is not None:
                self.values[node] = self.apply(node)
        outputs: dict[str, Value] = {}
        for entry in self.symbol.entries:
            outputs[_unused(entry.name, outputs)] = self.value(entry)
        inputs = [
            self.values[node][0] for node in (*self.arguments, *self.auxiliaries) if node in self.values
        ]
        for node, new in self.updates.items():
            self.builder.update(self.values[node][0], new)
        state = self.context.random_state
        if state is not None:
            # step += 1; iota is (0, 1).
            with self.builder.at((), state.name):
                self.builder.update(state, self.builder.add(state, self.builder.iota(0, state.type)))
            inputs.append(state)
        order = {value.name: position for position, value in enumerate(inputs)}
        self.builder.inputs.sort(key=lambda item: order[item.name])
        return self.builder.finish(outputs)

    def apply(self, node: SymbolNode) -> tuple[Value, ...]:
        """Add a node's composition to the graph."""
        assert node.operator is not None
        try:
            frame = shape_frame(node, self.shapes)
            for entry, cell in zip(node.inputs, frame.cells, strict=True):
                self.shapes[entry.node][entry.output] = cell
            inputs = tuple(self.value(entry) for entry in node.inputs)
            with self.builder.at((node.origin,), node.name):
                composition = node.operator.apply(self.builder, node.parameters, inputs, self.context)
        except (BrokenRuleError, GraphcError) as error:
            raise explain(node, error, self.shapes, self.dtypes) from None
        self.shapes[node] = [value.type.shape for value in composition.outputs]
        auxiliary = dict(zip(node.operator.auxiliaries, node.auxiliary_inputs, strict=True))
        for name, new in composition.updates.items():
            self.updates[auxiliary[name].node] = new
        return composition.outputs

    def value(self, entry: Entry) -> Value:
        """The value of an entry; a variable becomes a graph input when it is first read.

        A state that an operator before has updated is read with its new content.
        """
        node = entry.node
        if node in self.updates:
            return self.updates[node]
        if node not in self.values:
            shape, dtype = self.shapes[node][0], self.dtypes[node][0]
            if shape is None or not is_complete(shape):
                raise _UndeterminedError
            kind = InputKind.PARAMETER if node.name in self.learned else InputKind.DATA
            kind = InputKind.STATE if node in self.states else kind
            self.values[node] = (self.builder.input(node.name, TensorType(dtype or DType.F32, shape), kind),)
        return self.values[node][entry.output]


def _unused(name: str, taken: Mapping[str, Value]) -> str:
    """Groups may hold outputs of one name; callers need to tell them apart."""
    result, number = name, 0
    while result in taken:
        number += 1
        result = f"{name}.{number}"
    return result
