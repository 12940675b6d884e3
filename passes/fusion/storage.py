"""Which value lies in which buffer: aliases of reshapes, updates in place, outputs, and the copies these need."""

from __future__ import annotations

from dataclasses import dataclass, field

from graphc.ir.graph import Graph, InputKind, Value
from graphc.ir.kernel import Affine
from graphc.ir.program import Role
from graphc.passes.fusion.forms import Loops
from graphc.passes.fusion.partition import Partition
from graphc.passes.fusion.space import Access, Sink, Space
from graphc.primitives.declare import Kind, primitive
from graphc.types import TensorType, same_shape

_ROLES = {
    InputKind.DATA: Role.INPUT,
    InputKind.PARAMETER: Role.STATE,
    InputKind.STATE: Role.STATE,
    InputKind.CONSTANT: Role.CONSTANT,
}


@dataclass(slots=True)
class Storage:
    """The buffer of each root value; a root is a value that no reshape made.

    `place` maps a root's name to the name of the graph input, output or intermediate whose memory it uses.
    """

    graph: Graph
    root: dict[str, str]
    types: dict[str, TensorType]
    roles: dict[str, Role]
    place: dict[str, str] = field(default_factory=dict)
    outputs: list[tuple[str, str]] = field(default_factory=list)
    """Caller's name and place of each output."""

    def place_of(self, value: str) -> str:
        root = self.root.get(value, value)
        return self.place.get(root, root)


def aliases(graph: Graph) -> dict[str, str]:
    """For each value the value whose memory it shares through reshapes."""
    root: dict[str, str] = {item.name: item.name for item in graph.inputs}
    for node in graph.nodes:
        alias = primitive(node.primitive).kind is Kind.RESHAPE
        for value in node.outputs:
            root[value.name] = root[node.inputs[0].name] if alias else value.name
    return root


def assign(part: Partition, lowered: dict[int, Loops], in_place: bool) -> tuple[Storage, dict[int, Space]]:
    """Give every stored value a place; also the copy nests that outputs and updates need, by group number."""
    return _Assigner(part, lowered, in_place).run()


class _Assigner:
    def __init__(self, part: Partition, lowered: dict[int, Loops], in_place: bool) -> None:
        graph = part.graph
        self.part = part
        self.graph = graph
        self.lowered = lowered
        self.in_place = in_place
        self.values = {value.name: value for value in graph.values()}
        self.inputs = set(graph.input_by_name)
        self.targets = {update.target for update in graph.updates}
        self.copies: dict[int, Space] = {}
        self.copied_reads: dict[str, list[int]] = {}
        self.storage = Storage(graph, aliases(graph), {}, {})
        self.names = set(self.values)
        self.readers = self.all_readers()

    def run(self) -> tuple[Storage, dict[int, Space]]:
        storage = self.storage
        for item in self.graph.inputs:
            storage.types[item.name] = item.value.type
            storage.roles[item.name] = _ROLES[item.kind]
        for name in self.part.writers:
            storage.types.setdefault(name, self.values[name].type)
            storage.roles.setdefault(name, Role.INTERMEDIATE)
        updates = self.keep_old_values()
        waiting = [pair for pair in updates if not (self.in_place and self.take_over(*pair))]
        self.place_outputs()
        for target, value in waiting:
            self.copy_update(target, value)
        return storage, self.copies

    # Copies

    def copy(self, value: Value, target: Value) -> int:
        """A nest that copies a value (or a view of it) to a target's memory."""
        space = Space(self.part.reach.add())
        index = tuple(Affine.axis(space.new_axis(dim)) for dim in value.type.shape)
        access = Access(index)
        space.request(value, access)
        shown = Value(target.name, value.type)
        space.sinks.append(Sink(shown, value, index, access))
        self.copies[space.number] = space
        root = self.storage.root[value.name]
        self.copied_reads.setdefault(root, []).append(space.number)
        for writer in self.part.writer_numbers(root):
            self.part.reach.connect(writer, space.number)
        return space.number

    def fresh(self, stem: str, type: TensorType, role: Role) -> Value:
        name, count = stem, 0
        while name in self.names:
            count += 1
            name = f"{stem}.copy{count}" if count > 1 else f"{stem}.copy"
        self.names.add(name)
        self.storage.root[name] = name
        self.storage.types[name] = type
        self.storage.roles[name] = role
        return Value(name, type)

    # Updates

    def keep_old_values(self) -> list[tuple[str, Value]]:
        """The updates to do; where one input's old value goes to another, through a copy taken first."""
        result: list[tuple[str, Value]] = []
        for update in self.graph.updates:
            root = self.storage.root[update.value.name]
            if root == update.target:
                continue
            value = update.value
            if root in self.targets:
                kept = self.fresh(f"{root}.old", value.type, Role.INTERMEDIATE)
                self.part.writers[kept.name] = [self.copy(value, kept)]
                value = kept
            result.append((update.target, value))
        return result

    def take_over(self, target: str, value: Value) -> bool:
        """Let an update's value be written straight into its state, where nobody needs the old value later."""
        storage, reach = self.storage, self.part.reach
        root = storage.root[value.name]
        writers = self.part.writer_numbers(root)
        if root in self.inputs or root in storage.place or len(writers) != 1:
            return False
        if storage.types[root].dtype is not storage.types[target].dtype or self.is_result(target):
            return False
        (writer,) = writers
        if writer not in self.lowered:
            return False
        readers = self.readers_of(target)
        if any(reach.reaches(writer, reader) for reader in readers if reader != writer):
            return False
        if writer in readers and not self.safe(writer, target, root):
            return False
        for reader in readers:
            if reader != writer:
                reach.connect(reader, writer)
        storage.place[root] = target
        return True

    def is_result(self, target: str) -> bool:
        """True when the old value of a state leaves the graph."""
        return any(self.storage.root[value.name] == target for value in self.graph.outputs)

    def safe(self, writer: int, target: str, root: str) -> bool:
        lowered = self.lowered[writer]
        sources = [name for name in lowered.sources if self.storage.root.get(name) == target]
        space = self.part.spaces[writer]
        if any(self.storage.root.get(name) == target for name in space.whole):
            return False
        return all(lowered.may_overwrite(name, root) for name in sources)

    def readers_of(self, root: str) -> list[int]:
        """Groups that read a root's memory, under any of its shapes."""
        return [*self.readers.get(root, ()), *self.copied_reads.get(root, ())]

    def all_readers(self) -> dict[str, list[int]]:
        """The groups that read each root."""
        found: dict[str, dict[int, None]] = {}
        for number, lowered in self.lowered.items():
            for name in (*lowered.sources, *self.part.spaces[number].whole):
                found.setdefault(self.storage.root[name], {})[number] = None
        return {root: list(numbers) for root, numbers in found.items()}

    def copy_update(self, target: str, value: Value) -> None:
        """Write a state by a copy when everybody has read its old value."""
        number = self.copy(value, self.graph.input_by_name[target].value)
        for reader in self.readers_of(target):
            if reader != number:
                self.part.reach.connect(reader, number)

    # Outputs

    def place_outputs(self) -> None:
        storage = self.storage
        claimed: set[str] = set()
        for name, value in zip(self.graph.output_names, self.graph.outputs, strict=True):
            root = storage.root[value.name]
            place = storage.place_of(root)
            in_caller = place in self.inputs and place not in self.targets
            in_state = place in self.targets and root != place
            fits = same_shape(storage.types[place].shape, value.type.shape)
            if (in_caller or in_state) and fits:
                storage.outputs.append((name, place))
                continue
            if place in self.inputs or root in claimed:
                target = self.fresh(name, value.type, Role.OUTPUT)
                self.copy(value, target)
                storage.outputs.append((name, target.name))
                continue
            claimed.add(root)
            storage.roles[root] = Role.OUTPUT
            storage.types[root] = value.type
            storage.outputs.append((name, root))
