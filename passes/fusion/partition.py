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
from graphc.passes.fusion import cost, windows
from graphc.passes.fusion import index as ix
from graphc.passes.fusion.merge import merge_spaces
from graphc.passes.fusion.options import FusionOptions
from graphc.passes.fusion.reach import Reachability
from graphc.passes.fusion.space import (
    Access,
    NotFittingError,
    Sink,
    Space,
    bind_reduction,
    operand_accesses,
    reduction_axes,
    whole_operands,
)
from graphc.primitives.declare import Kind, primitive
from graphc.types import Dim, dimension

_NOT_ONCE = "others read it, and this kernel does not run over each of its elements once"
_MOST_MERGES = 6
_MOST_ACCESSES = 4


class RefusedError(Exception):
    """A node may not join a space; the message is the reason in plain words."""


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
        alone.whole = {operand.name: space.whole.pop(operand.name) for operand in dict.fromkeys(node.inputs)}
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


def partition(graph: Graph, options: FusionOptions) -> Partition:
    """Place every live node of a graph."""
    return _Partitioner(graph, options).run()


class _Partitioner:
    def __init__(self, graph: Graph, options: FusionOptions) -> None:
        self.graph = graph
        self.options = options
        self.reach = Reachability()
        self.spaces: dict[int, Space] = {}
        self.readers: dict[str, list[int]] = {}
        self.whole: dict[str, list[int]] = {}
        self.writers: dict[str, list[int]] = {}
        self.decisions: list[Decision] = []
        self.stored: set[str] = set(graph.results)
        self.epilogues = cost.epilogue_values(graph)
        self.reduced = cost.reduced_values(graph)
        self.rows = self.short_rows()
        self.leaves = cost.cheap_leaves(graph, self.epilogues)
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

    def short_rows(self) -> dict[str, tuple[int, ...]]:
        """The rows of values (see cost.row_dims) that are short enough to fuse with their reduction."""
        shapes = {value.name: value.type.shape for value in self.graph.values()}
        return {
            name: dims
            for name, dims in cost.row_dims(self.graph).items()
            if self.options.elements(shapes[name][d] for d in dims) <= self.options.max_row_elements
        }

    # Tables

    def readers_of(self, value: Value) -> list[Space]:
        """Spaces that read a value at affine positions."""
        numbers = dict.fromkeys(self.reach.find(number) for number in self.readers.get(value.name, ()))
        return [self.spaces[number] for number in numbers if value.name in self.spaces[number].accesses]

    def whole_readers_of(self, value: Value) -> list[Space]:
        numbers = dict.fromkeys(self.reach.find(number) for number in self.whole.get(value.name, ()))
        return [self.spaces[number] for number in numbers if value.name in self.spaces[number].whole]

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

    def decide(self, node: Node, space: Space, accepted: bool, reason: str, saved: Dim = 0) -> None:
        consumer = space.sinks[0].value.name if space.sinks else node.outputs[0].name
        producer = self.graph.producers.get(consumer)
        self.decisions.append(
            Decision(label(node), label(producer) if producer else consumer, accepted, reason, saved)
        )

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
        if kind is Kind.RESHAPE:
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

    def place_constant(self, node: Node) -> None:
        value = node.output
        left = [space for space in self.readers_of(value) if not self.try_join(space, node, ())]
        if left or self.whole_readers_of(value) or value.name in self.stored:
            self.open_space(node, [value])

    def place_compute(self, node: Node, used: Sequence[Value]) -> None:
        for value in used:
            self.merge_readers(value)
        readers = self.all_readers(used)
        whole = [space for value in used for space in self.whole_readers_of(value)]
        must_store = bool(whole) or any(value.name in self.stored for value in used)
        candidates = readers
        if len(readers) == 1 and not must_store:
            if self.leave_to_epilogue(node, readers[0]):
                self.decide(
                    node, readers[0], False, "it is left to the epilogue of the contraction it comes from"
                )
            elif self.try_join(readers[0], node, ()):
                return
        elif readers and self.may_recompute(node, strictly=must_store):
            left = [space for space in readers if not self.try_join(space, node, ())]
            if not left and not must_store:
                return
            candidates = left or readers
        if not self.join_and_store(node, used, candidates, whole):
            self.open_space(node, used)

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
            for reader in (*self.readers_of(value), *self.whole_readers_of(value)):
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
            if any(value.name in self.epilogues for value in used) and (space.reduction or space.anchor):
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

    def leave_to_epilogue(self, node: Node, space: Space) -> bool:
        if primitive(node.primitive).kind is Kind.VIEW:
            return False
        return bool(space.reduction) and any(value.name in self.epilogues for value in node.outputs)

    def may_recompute(self, node: Node, *, strictly: bool = False) -> bool:
        """Cheap, and what it reads is no larger (or smaller) than what it makes or lies in memory anyway."""
        if not cost.is_cheap(node) or (
            primitive(node.primitive).kind is Kind.ELEMENTWISE
            and any(value.name in self.epilogues for value in node.outputs)
        ):
            return False
        made = sum(cost.nbytes(value, self.options) for value in node.outputs)
        read = sum(map(self.bytes_kept_for, dict.fromkeys(node.inputs)))
        return read < made if strictly else read <= made + made // 8

    def keeps_more(self, space: Space, node: Node) -> bool:
        """True when joining keeps larger values alive up to the space's kernel, which does not read them anyway."""
        made = sum(cost.nbytes(value, self.options) for value in node.outputs)
        fresh = [value for value in dict.fromkeys(node.inputs) if value.name not in space.accesses]
        return sum(map(self.bytes_kept_for, fresh)) > made + made // 8

    def bytes_kept_for(self, value: Value) -> int:
        """Bytes of the arena that must stay alive so that a value can be computed: none of inputs and constants."""
        producer = self.graph.producers.get(value.name)
        if producer is None:
            return 0
        kind = primitive(producer.primitive).kind
        if kind is Kind.CONSTANT:
            return 0
        size = cost.nbytes(value, self.options)
        if kind is Kind.VIEW and len(producer.inputs) == 1:
            return min(size, self.bytes_kept_for(producer.inputs[0]))
        return size

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
        self.check(space, node, value, bool(stored))
        self.bind(space, node, value)
        if stored and any(not space.level(v) for v in stored):
            raise RefusedError(_NOT_ONCE)
        requests = self.operand_requests(space, node)
        space.members[node.outputs[0].name] = node
        if value.name in self.rows and space.runs_along(self.row(space, value)):
            space.rows[value.name] = self.row(space, value)
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
        for reader in (*self.readers_of(value), *self.whole_readers_of(value)):
            self.reach.connect(space.number, reader.number)

    def check(self, space: Space, node: Node, value: Value, stored: bool) -> None:
        """Limits that do not depend on how the node is laid out."""
        kind = primitive(node.primitive).kind
        if self.options.conservative and space.members and self.keeps_more(space, node):
            raise RefusedError("its operands are larger than its result and would have to be kept for longer")
        if len(space.members) >= self.options.max_nodes:
            raise RefusedError(f"the kernel already has {self.options.max_nodes} nodes")
        if kind in (Kind.CONTRACTION, Kind.SCATTER):
            self.check_anchor(space, node, value, kind)
            return
        accesses = space.accesses[value.name]
        if kind in (Kind.RESHAPE, Kind.CONSTANT):
            return
        if len(accesses) > 1 and (len(accesses) > _MOST_ACCESSES or not cost.is_cheap(node)):
            raise RefusedError(f"it is read at {len(accesses)} positions and would be computed that often")
        if kind is Kind.VIEW:
            self.check_view(space, node)
            return
        if kind is Kind.REDUCTION or kind is Kind.WINDOW:
            if len(accesses) > 1:
                raise RefusedError("it is read at several positions")
            if kind is Kind.WINDOW and windows.reduces(node) and not space.level(value):
                raise RefusedError("its windows would be computed again for every element it is broadcast to")
            return
        if value.name in self.rows and not self.along_rows(space, value, stored):
            raise RefusedError("it belongs to the rows of a reduction along other axes")
        if not cost.is_cheap(node) and self.repeats(space, value):
            raise RefusedError("it would be computed again for every element it is broadcast to")
        if not space.level(value) and self.overlaps(space, value) and not self.may_recompute(node):
            raise RefusedError("its operands would be read again in every window")

    def check_view(self, space: Space, node: Node) -> None:
        if len(node.inputs) > 2 and self.options.enabled:
            raise RefusedError("a join of many parts is cheaper to write once than to choose at each element")

    def check_anchor(self, space: Space, node: Node, value: Value, kind: Kind) -> None:
        if space.members and kind is Kind.SCATTER:
            raise RefusedError("a scatter writes its result before anything can read it")
        if space.anchor is not None:
            raise RefusedError(f"the kernel already has the contraction {label(space.anchor)}")
        if space.reduction:
            raise RefusedError("the kernel reduces over the contraction's result")
        if space.guards or space.level(value) != "full":
            raise RefusedError("the kernel does not run over each element of the contraction's result once")
        if {v.name for v in node.inputs} & space.members.keys():
            raise RefusedError("the contraction's operand is computed in this kernel")
        self.check_anchor_order(space, space.accesses[value.name][0])

    def check_anchor_order(self, space: Space, access: Access) -> None:
        order = [name for position in access.index for name in _outer_first(position)]
        space.axes = order + [name for name in space.axes if name not in order]

    def repeats(self, space: Space, value: Value) -> bool:
        """True when a value would be computed more often than it has elements."""
        if space.level(value) or cost.elements(value, self.options) == 1:
            return False
        reduction = self.reduced.get(value.name)
        if reduction is None or len(space.accesses[value.name]) != 1:
            return True
        access = space.accesses[value.name][0]
        try:
            names = reduction_axes(space, reduction, access)
        except ix.NotAffineError:
            return True
        if names is None:
            return False
        return not self.row_fits(space, names)

    def along_rows(self, space: Space, value: Value, stored: bool) -> bool:
        """True when a space runs along the rows a value belongs to, or makes it from what lies in memory anyway."""
        return space.runs_along(self.row(space, value)) or (not stored and value.name in self.leaves)

    def row(self, space: Space, value: Value) -> tuple[Affine, ...]:
        """The index of a value along the rows it belongs to."""
        index = space.accesses[value.name][0].index
        return tuple(index[d] for d in self.rows[value.name])

    def overlaps(self, space: Space, value: Value) -> bool:
        """True when a window node of the space reads a value of about the space's size."""
        points = self.options.elements(space.extents[name] for name in space.parallel)
        return (
            bool(space.reduction)
            and any(
                primitive(node.primitive).kind is Kind.WINDOW
                and windows.reduces(node)
                and windows.overlapping(node)
                for node in space.members.values()
            )
            and 4 * cost.elements(value, self.options) > points
        )

    def row_fits(self, space: Space, names: Sequence[str]) -> bool:
        """True when a kernel whose rows are these axes has short rows, and enough of them to share out."""
        row = self.options.elements(space.extents[name] for name in names)
        rows = self.options.elements(space.extents[name] for name in space.parallel if name not in names)
        if rows < self.options.min_parallel and row * rows > self.options.max_serial_elements:
            return False
        return row <= self.options.max_row_elements

    def bind(self, space: Space, node: Node, value: Value) -> None:
        """Lay a reduction or window over the space."""
        kind = primitive(node.primitive).kind
        if kind not in (Kind.REDUCTION, Kind.WINDOW):
            return
        if space.anchor is not None and (kind is Kind.REDUCTION or windows.reduces(node)):
            raise RefusedError("the epilogue of a contraction holds no reduction")
        while True:
            access = space.accesses[value.name][0]
            try:
                if kind is Kind.WINDOW:
                    windows.bind(space, node, access)
                else:
                    self.check_row(space, node, access)
                    bind_reduction(space, node, access)
                return
            except ix.SplitNeededError as need:
                if space.anchor is not None:
                    raise RefusedError("a window would cut the axes of a contraction's result") from None
                space.split(need.axis, need.inner)
            except (NotFittingError, ix.NotAffineError) as problem:
                raise RefusedError(str(problem)) from None

    def check_row(self, space: Space, node: Node, access: Access) -> None:
        names = reduction_axes(space, node, access)
        if names is not None and not space.reduction and not self.row_fits(space, names):
            raise RefusedError(
                "the row is too long, or there are too few rows, to compute it and its readers in one pass"
            )

    def operand_requests(self, space: Space, node: Node) -> list[tuple[Value, Access]]:
        """What the node needs of its operands, after splitting axes where a reshape asks for it."""
        while True:
            accesses = {
                access: None for value in node.outputs for access in space.accesses.get(value.name, ())
            }
            try:
                return [pair for access in accesses for pair in operand_accesses(space, node, access)]
            except ix.SplitNeededError as need:
                if space.anchor is not None:
                    raise RefusedError("a reshape would cut the axes of a contraction's result") from None
                space.split(need.axis, need.inner)
            except ix.NotAffineError as problem:
                raise RefusedError(str(problem)) from None

    # Merging the readers of one value

    def merge_readers(self, value: Value) -> None:
        """Join spaces that read a value at matching positions, so that it is read once or not stored at all."""
        readers = self.readers_of(value) if self.options.merge else []
        if len(readers) < 2:
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
        if isinstance(merged, str):
            return
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
            others = (*self.readers_of(sink.target), *self.whole_readers_of(sink.target))
            if all(other is space for other in others) and name not in space.whole:
                space.sinks.remove(sink)
                self.writers[name] = [n for n in self.writers[name] if self.reach.find(n) != space.number]


def label(node: Node) -> str:
    """What to call a node in a report: the user's operator, and the primitive."""
    return (
        f"{node.origins[0].name} ({node.primitive})"
        if node.origins
        else f"{node.outputs[0].name} ({node.primitive})"
    )


def _outer_first(position: Affine) -> list[str]:
    return [name for name, _ in sorted(position.terms, key=lambda t: ix._order(t[1]), reverse=True)]
