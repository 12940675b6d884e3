"""Partition a graph into loop nests, walking from its results back to its inputs.

Each node meets the spaces of all its readers already placed. It joins one of them when that is legal (no cycle
between groups: bitsets in reach.py), fits the iteration space, and saves memory traffic; else it opens a space of its
own and its value goes through memory. Every answer is recorded with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.ir.graph import Graph, Node, Value
from graphc.ir.kernel import Affine
from graphc.ir.program import Decision
from graphc.passes.fusion import cost
from graphc.passes.fusion.admission import Admission, RefusedError, label
from graphc.passes.fusion.merge import merge_spaces
from graphc.passes.fusion.reach import Reachability
from graphc.passes.fusion.space import Access, Sink, Space, whole_operands
from graphc.passes.fusion.views import Moved, TemplateViews
from graphc.passes.limits import FusionOptions
from graphc.primitives.declare import Kind, primitive
from graphc.types import Dim, dimension

_NOT_ONCE = "others read it, and this kernel does not run over each of its elements once"
_MOST_MERGES = 6


@dataclass(slots=True)
class Partition:
    """The spaces of a graph, the order constraints between them, and why they are what they are."""

    graph: Graph
    spaces: dict[int, Space]
    reach: Reachability
    writers: dict[str, list[int]]
    decisions: list[Decision]

    def eject_anchor(self, space: Space) -> Space:
        """Give a contraction whose epilogue does not fit a space of its own, which stores its result for the rest."""
        node = space.anchor
        assert node is not None
        value = node.output
        alone = Space(self.reach.add())
        index = tuple(Affine.axis(alone.new_axis(dim)) for dim in value.type.shape)
        alone.request(value, Access(index))
        alone.store(value)
        alone.anchor = node
        alone.members[value.name] = space.members.pop(value.name)
        alone.whole = {operand.name: operand for operand in node.inputs}
        needed = {operand.name for member in space.members.values() for operand in whole_operands(member)}
        space.whole = {
            name: v for name, v in space.whole.items() if name in needed or name not in alone.whole
        }
        space.anchor = None
        space.sinks = [sink for sink in space.sinks if sink.target != value]
        self.spaces[alone.number] = alone
        for number in self.reach.predecessors(space.number):
            self.reach.connect(number, alone.number)
        self.reach.connect(alone.number, space.number)
        for number in self.writers.get(value.name, ()):
            assert self.reach.find(number) == space.number
        for number in self.readers_of(value.name):
            if number != alone.number:
                self.reach.connect(alone.number, number)
        self.writers[value.name] = [alone.number]
        self.decisions.append(
            Decision(label(node), label(next(iter(space.members.values()))), False, "the axes do not fit")
        )
        return alone

    def readers_of(self, value: str) -> list[int]:
        return [n for n, space in self.spaces.items() if value in space.accesses or value in space.whole]

    def writer_numbers(self, value: str) -> list[int]:
        return list(dict.fromkeys(self.reach.find(number) for number in self.writers.get(value, ())))


def partition(graph: Graph, options: FusionOptions, ends: frozenset[str] = frozenset()) -> Partition:
    """Place every live node of a graph; `ends` are values that are stored, and what follows has kernels of its own."""
    return _Partitioner(graph, options, ends).run()


class _Partitioner:
    def __init__(self, graph: Graph, options: FusionOptions, ends: frozenset[str]) -> None:
        self.graph = graph
        self.options = options
        self.ends = ends
        self.reach = Reachability()
        self.spaces: dict[int, Space] = {}
        self.readers: dict[str, list[int]] = {}
        self.whole: dict[str, list[int]] = {}
        self.writers: dict[str, list[int]] = {}
        self.decisions: list[Decision] = []
        self.stored: set[str] = set(graph.results)
        self.left: set[str] = set()  # values of epilogues whose only reader could not take their contraction
        self.admission = Admission(graph, options)
        self.position = {node.outputs[0].name: k for k, node in enumerate(graph.nodes)}

    def run(self) -> Partition:
        for node in reversed(self.graph.nodes):
            self.place(node)
        if self.options.enabled:
            for item in self.graph.inputs:
                self.merge_readers(item.value)
        for space in self.spaces.values():
            space.members = dict(sorted(space.members.items(), key=lambda item: self.position[item[0]]))
        return Partition(self.graph, self.spaces, self.reach, self.writers, self.decisions)

    # Tables

    def readers_of(self, value: Value) -> list[Space]:
        """Spaces that read a value at affine positions."""
        numbers = dict.fromkeys(self.reach.find(number) for number in self.readers.get(value.name, ()))
        return [self.spaces[number] for number in numbers if value.name in self.spaces[number].accesses]

    def whole_readers_of(self, value: Value) -> list[Space]:
        numbers = dict.fromkeys(self.reach.find(number) for number in self.whole.get(value.name, ()))
        return [self.spaces[number] for number in numbers if value.name in self.spaces[number].whole]

    def loaders_of(self, value: Value) -> list[Space]:
        """Spaces that read a value from memory: all readers but those that compute it for themselves."""
        node = self.graph.producers[value.name]
        readers = [s for s in self.readers_of(value) if node.outputs[0].name not in s.members]
        return [*readers, *self.whole_readers_of(value)]

    def request(self, space: Space, value: Value, access: Access) -> None:
        space.request(value, access)
        self.readers.setdefault(value.name, []).append(space.number)

    def request_whole(self, space: Space, value: Value) -> None:
        space.whole[value.name] = value
        self.whole.setdefault(value.name, []).append(space.number)

    def new_space(self) -> Space:
        space = Space(self.reach.add())
        self.spaces[space.number] = space
        return space

    def named(self, space: Space) -> str:
        """What to call a space in a decision: what it stores first."""
        name = space.sinks[0].target.name
        producer = self.graph.producers.get(name)
        return label(producer) if producer else name

    def decide(self, node: Node, space: Space, accepted: bool, reason: str, saved: Dim = 0) -> None:
        consumer = self.named(space) if space.sinks else label(node)
        self.decisions.append(Decision(label(node), consumer, accepted, reason, saved))

    # Placement

    def place(self, node: Node) -> None:
        kind = primitive(node.primitive).kind
        used = [
            value
            for value in node.outputs
            if self.readers.get(value.name) or self.whole.get(value.name) or value.name in self.stored
        ]
        if not used:
            return
        if kind is Kind.TEMPLATE:
            self.place_template(node, used)
        elif kind is Kind.RESHAPE:
            self.place_reshape(node)
        elif kind is Kind.CONSTANT and self.options.enabled:
            self.place_constant(node)
        elif not self.options.enabled:
            self.open_space(node, used)
        else:
            self.place_compute(node, used)

    def place_reshape(self, node: Node) -> None:
        """A reshape is free: an index map inside a nest, or another view of a buffer."""
        (operand,), value = node.inputs, node.output
        for space in self.readers_of(value):
            try:
                self.join(space, node, ())
            except RefusedError:
                self.request_whole(space, operand)
        for space in self.whole_readers_of(value):
            self.request_whole(space, operand)
        if value.name in self.stored:
            self.stored.add(operand.name)

    def place_template(self, node: Node, used: Sequence[Value]) -> None:
        """A template that writes its results whole is a kernel of its own, without axes."""
        space = self.new_space()
        space.anchor = node
        space.members[node.outputs[0].name] = node
        space.views = TemplateViews.of(self.graph, node) if self.options.enabled else None
        for reader in (reader for value in used for reader in self.loaders_of(value)):
            self.reach.connect(space.number, reader.number)
        written = [self.place_result(space, value) for value in used]
        space.results = tuple(dict.fromkeys(written))
        operands = whole_operands(node) if space.views is None else tuple(dict.fromkeys(space.views.operands))
        for operand in operands:
            self.request_whole(space, operand)

    def place_result(self, space: Space, value: Value) -> Value:
        """What a template writes for one of its results: that, or where the only copy of it would go."""
        kept = value.name in self.stored or self.whole_readers_of(value) or space.views is None
        moved = None if kept else self.move_result(space, value, self.readers_of(value))
        if moved is None:
            self.writers.setdefault(value.name, []).append(space.number)
            return value
        for reader in self.readers_of(value):
            reader.moved[value.name] = moved
        return moved.value

    def move_result(self, space: Space, value: Value, readers: Sequence[Space]) -> Moved | None:
        """Take over the work of a space that only copies a result, where no other reader must run before it."""
        assert space.views is not None and space.anchor is not None
        for copy in readers:
            if any(
                self.reach.reaches(reader.number, copy.number) for reader in readers if reader is not copy
            ):
                continue
            if self.reach.has_detour(space.number, copy.number):
                continue
            moved = space.views.move(space.anchor.outputs.index(value), copy, len(readers) == 1)
            if moved is None:
                continue
            self.decide(space.anchor, copy, True, "its template writes the result where the copy would go", 0)
            del self.spaces[copy.number]
            number = self.reach.merge(space.number, copy.number)
            assert number == space.number
            return moved
        return None

    def place_constant(self, node: Node) -> None:
        value = node.output
        left = [space for space in self.readers_of(value) if not self.try_join(space, node, ())]
        if left or self.whole_readers_of(value) or value.name in self.stored:
            self.open_space(node, [value])

    def place_compute(self, node: Node, used: Sequence[Value]) -> None:
        for value in used:
            self.merge_readers(value)
        if node.outputs[0].name in self.ends:
            for space in self.all_readers(used):
                self.decide(node, space, False, "its readers can run again only apart from it")
            self.open_space(node, used)
            return
        readers = self.all_readers(used)
        whole = [space for value in used for space in self.whole_readers_of(value)]
        must_store = bool(whole) or any(value.name in self.stored for value in used)
        candidates = readers
        if len(readers) == 1 and not must_store:
            if self.admission.leave_to_epilogue(node, readers[0], self.left):
                self.left.add(node.outputs[0].name)
                self.decide(
                    node, readers[0], False, "it is left to the epilogue of the contraction it comes from"
                )
                self.open_space(node, used)
                return
            if self.try_join(readers[0], node, ()):
                return
        elif readers and self.admission.may_recompute(
            node, stored=must_store, at_hand=self.at_hand(node, readers)
        ):
            left = [space for space in readers if not self.try_join(space, node, ())]
            if not left and not must_store:
                return
            candidates = left or readers
        if not self.join_and_store(node, used, candidates, whole):
            self.open_space(node, used)

    def at_hand(self, node: Node, readers: Sequence[Space]) -> frozenset[str]:
        """Operands that each of these spaces, or one that runs after it, reads from memory anyway."""

        def is_kept(value: Value, space: Space) -> bool:
            later = self.loaders_of(value) if value.name in self.graph.producers else ()
            return any(s is space or self.reach.reaches(space.number, s.number) for s in later)

        operands = dict.fromkeys(node.inputs)
        return frozenset(v.name for v in operands if all(is_kept(v, space) for space in readers))

    def place_parts(self, node: Node) -> None:
        """A concat that is stored: each part has a space of its own, which writes its piece of the result."""
        value, axis = node.output, node.attributes["axis"]
        offset: Dim = 0
        for part in node.inputs:
            space = self.new_space()
            index = tuple(Affine.axis(space.new_axis(dim)) for dim in part.type.shape)
            self.request(space, part, Access(index))
            target = tuple(place + offset if k == axis else place for k, place in enumerate(index))
            space.sinks.append(Sink(value, part, target, Access(index)))
            offset = dimension(offset + part.type.shape[axis])
            self.writers.setdefault(value.name, []).append(space.number)
            for reader in self.loaders_of(value):
                self.reach.connect(space.number, reader.number)

    def all_readers(self, used: Sequence[Value]) -> list[Space]:
        return list({space.number: space for value in used for space in self.readers_of(value)}.values())

    def join_and_store(
        self, node: Node, used: Sequence[Value], readers: Sequence[Space], whole: Sequence[Space]
    ) -> bool:
        """Join the reader that all others may run after; it stores the values for them."""
        others = {space.number for space in (*readers, *whole)}
        for space in readers:
            if any(value.name not in space.accesses for value in used) or space.whole.keys() & {
                value.name for value in used
            }:
                continue
            if any(self.reach.reaches(other, space.number) for other in others - {space.number}):
                self.decide(
                    node, space, False, "another reader runs before this one: fusing would make a cycle"
                )
                continue
            if self.admission.in_epilogue(node) and (space.reduction or space.anchor):
                self.decide(node, space, False, "it is left to the epilogue of the contraction it comes from")
                continue
            if self.try_join(space, node, used):
                return True
        return False

    def open_space(self, node: Node, used: Sequence[Value]) -> None:
        """A space whose axes are the dimensions of the node's results."""
        if primitive(node.primitive).kind is Kind.VIEW and len(node.inputs) > 1 and self.options.enabled:
            self.place_parts(node)
            return
        space = self.new_space()
        shape = node.outputs[0].type.shape
        index = tuple(Affine.axis(space.new_axis(dim)) for dim in shape)
        for value in used:
            self.request(space, value, Access(index))
        self.join(space, node, used)

    # Joining

    def try_join(self, space: Space, node: Node, stored: Sequence[Value]) -> bool:
        try:
            self.join(space, node, stored)
        except RefusedError as refusal:
            self.decide(node, space, False, str(refusal))
            return False
        kept = {value.name for value in stored}
        saved = sum(cost.nbytes(v, self.options) * (1 if v.name in kept else 2) for v in node.outputs)
        self.decide(node, space, True, self.reason(node, bool(stored)), saved)
        return True

    @staticmethod
    def reason(node: Node, stored: bool) -> str:
        match primitive(node.primitive).kind:
            case Kind.CONTRACTION:
                text = "the reader is an epilogue of the contraction"
            case Kind.REDUCTION:
                text = "the reader runs over the same rows"
            case Kind.VIEW | Kind.CONSTANT:
                return "it costs nothing inside the reader"
            case _:
                text = "it is computed where it is read"
        return f"{text}; the result is also stored for other readers" if stored else text

    def join(self, space: Space, node: Node, stored: Sequence[Value]) -> None:
        """Add a node to a space that reads it; `stored` are the values that others read too. Raises RefusedError."""
        value = next(value for value in node.outputs if value.name in space.accesses)
        if node.outputs[0].name in space.members:
            self.store_also(space, stored)
            return
        self.admission.check(space, node, value, bool(stored))
        self.admission.bind(space, node, value)
        if stored:
            self.admission.commit_rows(space, value)
        if stored and any(not space.level(v) for v in stored):
            raise RefusedError(_NOT_ONCE)
        requests = self.admission.operand_requests(space, node)
        space.members[node.outputs[0].name] = node
        self.admission.note_row(space, value)
        for v in stored:
            self.store(space, v)
        if primitive(node.primitive).kind in (Kind.CONTRACTION, Kind.SCATTER):
            space.anchor = node
        for operand, access in requests:
            self.request(space, operand, access)
        for operand in whole_operands(node):
            self.request_whole(space, operand)

    def store_also(self, space: Space, stored: Sequence[Value]) -> None:
        if any(not space.level(value) for value in stored):
            raise RefusedError(_NOT_ONCE)
        for value in stored:
            self.store(space, value)

    def store(self, space: Space, value: Value) -> None:
        space.store(value)
        self.writers.setdefault(value.name, []).append(space.number)
        for reader in self.loaders_of(value):
            self.reach.connect(space.number, reader.number)

    # Merging the readers of one value

    def merge_readers(self, value: Value) -> None:
        """Join spaces that read a value at matching positions, so that it is read once or not stored at all."""
        readers = self.readers_of(value) if self.options.merge else []
        if len(readers) < 2 or self.admission.is_free(value):
            return
        # Spaces that run early were opened last; early ones first, so that a value is used soon after it is made.
        spaces = [space for space in reversed(readers) if space.level(value)][:_MOST_MERGES]
        for k, first in enumerate(spaces):
            for second in spaces[k + 1 :]:
                a, b = self.reach.find(first.number), self.reach.find(second.number)
                if a != b and self.spaces[a].level(value) and self.spaces[b].level(value):
                    self.try_merge(self.spaces[a], self.spaces[b], value)

    def try_merge(self, a: Space, b: Space, value: Value) -> None:
        merged = merge_spaces(a, b, value, self.reach, self.options)
        first, second = self.named(a), self.named(b)
        if isinstance(merged, str):
            self.decisions.append(Decision(first, second, False, f"both read {value.name}, but {merged}"))
            return
        saved = cost.nbytes(value, self.options)
        self.decisions.append(Decision(first, second, True, f"both read {value.name}, now once", saved))
        number = self.reach.merge(merged.number, b.number if merged is a else a.number)
        del self.spaces[b.number if merged is a else a.number]
        merged.number = number
        self.spaces[number] = merged
        self.drop_stores(merged)

    def drop_stores(self, space: Space) -> None:
        """Forget stores that only the space itself read."""
        for sink in list(space.sinks):
            name = sink.target.name
            if name in self.stored or sink.target != sink.value:
                continue
            if all(other is space for other in self.loaders_of(sink.target)) and name not in space.whole:
                space.sinks.remove(sink)
                self.writers[name] = [n for n in self.writers[name] if self.reach.find(n) != space.number]
