"""Graph IR: static single assignment over tensors.

    graph  = "graph" name "(" [input {"," input}] ")" "->" "(" [output {"," output}] ")" ["update" "(" updates ")"]
             "{" {node} "}" [files]
    input  = ["parameter" | "state" | "constant"] value ":" type
    output = [name "="] value                     the name for callers, where it is not the value's
    update = value "=" value                      an input's new content, written when the program has run
    node   = value ":" type {"," value ":" type} "=" primitive "(" [values] ")" ["{" attributes "}"] ["//" origins]
    value  = "%" name
    origin = [file ":" line] operator name        origins are separated by ";"
    files  = "files" "{" {file "=" path} "}"      full paths of the files in origins

Nodes stand in topological order and names are unique in a graph, so a name identifies a value and passes may
key their tables by it. All types are immutable; a pass builds a new graph and returns the same object when it
changed nothing. Elementwise primitives take operands of equal shape and dtype: broadcasts and casts are nodes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from graphc.diagnostics import Location
from graphc.types import DType, TensorType, dim_symbols


@dataclass(frozen=True, slots=True)
class Origin:
    """The user's operator that a node came from: its name, its kind, and its source line."""

    name: str
    operator: str
    location: Location | None = None

    def __str__(self) -> str:
        return (
            f"{self.location} {self.operator} {self.name}"
            if self.location
            else f"{self.operator} {self.name}"
        )


Origins = tuple[Origin, ...]


def merge_origins(*origins: Origins) -> Origins:
    """All origins, first occurrence first, without repeats: what a rewrite gives the node it makes."""
    return tuple(dict.fromkeys(origin for group in origins for origin in group))


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor in a graph; its name is unique there."""

    name: str
    type: TensorType

    def __str__(self) -> str:
        return f"%{self.name}"


class Attributes(Mapping[str, Any]):
    """An immutable, hashable, sorted mapping of a node's attributes.

    Values are int, float, bool, str, DType, Dim, None or (nested) tuples of these.
    """

    __slots__ = ("_items", "_text")

    def __init__(self, items: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        pairs = items.items() if isinstance(items, Mapping) else items
        self._items = dict(sorted((key, _freeze(value)) for key, value in pairs))
        self._text: str | None = None

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def text(self) -> str:
        """Equal for equal attributes: NaN is NaN, and 0.0, -0.0 and 0 are different constants."""
        if self._text is None:
            self._text = repr(self._items)
        return self._text

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Attributes) and (self is other or self.text == other.text)

    def __repr__(self) -> str:
        return f"Attributes({self._items!r})"

    def __reduce__(self) -> tuple[Callable[[dict[str, Any]], Attributes], tuple[dict[str, Any]]]:
        return _attributes_of, (self._items,)


def _attributes_of(items: dict[str, Any]) -> Attributes:
    """Attributes that were frozen and sorted before they were saved."""
    result = Attributes.__new__(Attributes)
    result._items, result._text = items, None
    return result


def _freeze(value: Any) -> Any:
    """Lists become tuples, whole sympy expressions and numpy's scalars become Python's."""
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(item) for item in value)
    if isinstance(value, (bool, int, float, str, DType)) or value is None:
        return value
    if hasattr(value, "is_Integer"):
        return int(value) if value.is_Integer else value
    return value.item() if hasattr(value, "item") else value


NO_ATTRIBUTES = Attributes()


@dataclass(frozen=True, slots=True)
class Node:
    """One application of a primitive."""

    primitive: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    attributes: Attributes = NO_ATTRIBUTES
    origins: Origins = field(default=(), compare=True)

    @property
    def output(self) -> Value:
        """The only output of a primitive that has one."""
        (value,) = self.outputs
        return value

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.outputs))} = {self.primitive}({', '.join(map(str, self.inputs))})"


class InputKind(enum.Enum):
    """What a graph input is: given on each call, learned, carried from call to call, or made by the prologue."""

    DATA = "data"
    PARAMETER = "parameter"
    STATE = "state"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class Input:
    """A graph input."""

    value: Value
    kind: InputKind = InputKind.DATA

    @property
    def name(self) -> str:
        return self.value.name


@dataclass(frozen=True, slots=True)
class Update:
    """Declares that when the program has run, input `target` holds `value` (in-place where legal)."""

    target: str
    value: Value


@dataclass(frozen=True)
class Graph:
    """A whole program over tensors: inputs, nodes in topological order, outputs, state updates.

    `output_names` are the names that callers see, in the order of `outputs`; one value may be several outputs.
    """

    name: str
    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]
    updates: tuple[Update, ...] = ()
    output_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.output_names:
            object.__setattr__(self, "output_names", tuple(value.name for value in self.outputs))
        if len(self.output_names) != len(self.outputs):
            raise ValueError(
                f"graph {self.name}: {len(self.outputs)} outputs, {len(self.output_names)} names"
            )

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that makes each value, by value name; inputs are absent."""
        return {value.name: node for node in self.nodes for value in node.outputs}

    @cached_property
    def readers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each value, by value name (every value has an entry), once each."""
        table: dict[str, list[Node]] = {value.name: [] for value in self.values()}
        for node in self.nodes:
            for name in dict.fromkeys(value.name for value in node.inputs):
                table[name].append(node)
        return {name: tuple(nodes) for name, nodes in table.items()}

    @cached_property
    def input_by_name(self) -> Mapping[str, Input]:
        return {item.value.name: item for item in self.inputs}

    @cached_property
    def results(self) -> frozenset[str]:
        """Names of the values that leave the graph: outputs and updates."""
        return frozenset(v.name for v in self.outputs) | frozenset(u.value.name for u in self.updates)

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Names of the symbolic dimensions, sorted."""
        return dim_symbols(dim for value in self.values() for dim in value.type.shape)

    def values(self) -> Iterator[Value]:
        """All values: inputs, then the outputs of each node in order."""
        for item in self.inputs:
            yield item.value
        for node in self.nodes:
            yield from node.outputs

    def with_nodes(self, nodes: Iterable[Node]) -> Graph:
        return replace(self, nodes=tuple(nodes))

    def substitute(self, mapping: Callable[[Value], Value]) -> Graph:
        """The graph with every use of a value replaced by `mapping(value)`; definitions stay."""
        nodes = tuple(
            replace(node, inputs=inputs)
            if (inputs := tuple(map(mapping, node.inputs))) != node.inputs
            else node
            for node in self.nodes
        )
        return replace(
            self,
            nodes=nodes,
            outputs=tuple(map(mapping, self.outputs)),
            updates=tuple(replace(update, value=mapping(update.value)) for update in self.updates),
        )

    def __str__(self) -> str:
        from graphc.ir.text import print_graph

        return print_graph(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}
