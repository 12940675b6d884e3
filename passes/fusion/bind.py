"""Bind lowered nests to buffers: order the kernels, share memory in place, name everything, make the Program."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from graphc.ir.graph import Graph, Node, Value, merge_origins
from graphc.ir.kernel import (
    Access,
    AnchorOperation,
    Kernel,
    Load,
    Nest,
    Parameter,
    Random,
    Statement,
    Store,
)
from graphc.ir.program import Buffer, Program, Role, Step
from graphc.passes.fusion import cost
from graphc.passes.fusion.anchors import fit_axes, with_batch
from graphc.passes.fusion.canonical import structure
from graphc.passes.fusion.forms import Loops
from graphc.passes.fusion.names import Scope, group_name, identifier
from graphc.passes.fusion.order import Task, order, orders, peak
from graphc.passes.fusion.partition import Partition
from graphc.passes.fusion.rewrite import rename_scalars
from graphc.passes.fusion.simplify import simplify
from graphc.passes.fusion.space import Space
from graphc.passes.fusion.storage import Storage
from graphc.passes.limits import FusionOptions
from graphc.primitives.declare import Kind, primitive
from graphc.types import Shape, product


@dataclass(slots=True)
class Group:
    """One kernel to be: its spaces and their nests; `moved` names places that it finds elsewhere."""

    number: int
    spaces: list[Space]
    nests: list[Loops]
    moved: Mapping[str, str] = field(default_factory=dict)


def estimated_peak(part: Partition, storage: Storage, groups: Sequence[Group], options: FusionOptions) -> int:
    """Bytes of the arena live at the peak, memory sharing in place left out, symbolic dimensions at assumed sizes."""
    binder = Binder(part, storage, options)
    tasks = binder.tasks(groups)
    sizes = binder.sizes()
    return peak(tasks, order(tasks, sizes), sizes)


class Binder:
    """Makes one program: the order of its kernels is chosen first, then which of them write over an operand."""

    def __init__(self, part: Partition, storage: Storage, options: FusionOptions) -> None:
        self.part = part
        self.graph: Graph = part.graph
        self.storage = storage
        self.options = options
        self.positions = {node.outputs[0].name: k for k, node in enumerate(self.graph.nodes)}
        self.kernel_names = Scope()
        self.buffer_index: dict[str, int] = {}
        self.joined: dict[str, str] = {}
        """For places whose memory another one has taken over, that one."""
        self.merged: dict[str, list[str]] = {}
        """The other way round: the places whose memory each one has taken over."""

    def ordered(self, groups: Sequence[Group]) -> list[Group]:
        """The groups in launch order."""
        by_number = {group.number: group for group in groups}
        return [by_number[number] for number in order(self.tasks(groups), self.sizes())]

    def orders(self, groups: Sequence[Group]) -> list[list[Group]]:
        """Launch orders for a program that makes values again: a weight's gradient comes where its operands are."""
        by_number = {group.number: group for group in groups}
        tasks = [replace(task, position=self.work(by_number[task.number])) for task in self.tasks(groups)]
        return [[by_number[number] for number in numbers] for numbers in orders(tasks, self.sizes())]

    def work(self, group: Group) -> int:
        """Where a group's first contraction or reduction stands in the graph; an update after it may stand far away."""
        heavy = (Kind.CONTRACTION, Kind.REDUCTION)
        nodes = [(name, node) for space in group.spaces for name, node in space.members.items()]
        found = [self.positions[name] for name, node in nodes if primitive(node.primitive).kind in heavy]
        return (
            min(found) if found else max((self.positions[n] for n, _ in nodes), default=len(self.positions))
        )

    def program(self, sequence: Sequence[Group]) -> Program:
        """The program that launches these groups in this order."""
        self.share(sequence)
        return self.shared_program(sequence)

    def shared_program(self, sequence: Sequence[Group]) -> Program:
        """The program of groups for which `share` has been called."""
        buffers = self.buffers(sequence)
        kernels: list[Kernel] = []
        known: dict[str, int] = {}
        alike: dict[Hashable, tuple[int, tuple[int, ...]]] = {}
        steps: list[Step] = []
        for group in sequence:
            key, places = self.form(group)
            indices = [self.buffer_index[place] for place in places]
            if key not in alike:
                kernel, arguments = self.kernel(group)
                text = structure(kernel)
                if text not in known:
                    known[text] = len(kernels)
                    kernels.append(replace(kernel, name=self.kernel_names.unique(kernel.name)))
                alike[key] = known[text], tuple(map(indices.index, arguments))
            number, order = alike[key]
            steps.append(Step(number, tuple(indices[k] for k in order)))
        return Program(
            self.graph.name,
            self.graph,
            tuple(buffers),
            tuple(kernels),
            tuple(steps),
            tuple((item.name, self.buffer_index[item.name]) for item in self.graph.inputs),
            tuple((name, self.buffer_index[self.place_of(place)]) for name, place in self.storage.outputs),
            self.graph.symbols,
            tuple(self.part.decisions),
        )

    # Order

    def sizes(self) -> dict[str, int]:
        """Bytes of each place in the arena."""
        return {
            name: self.options.elements(type.shape) * type.dtype.itemsize
            for name, type in self.storage.types.items()
            if self.storage.roles[name] is Role.INTERMEDIATE
        }

    def place(self, group: Group, value: str) -> str:
        """The place where a group finds a value."""
        found = self.storage.place_of(value)
        found = group.moved.get(found, found)
        return self.joined.get(found, found)

    def place_of(self, value: str) -> str:
        """The place of a value that lies where fusion put it."""
        found = self.storage.place_of(value)
        return self.joined.get(found, found)

    def reads(self, group: Group) -> dict[str, None]:
        """Places that a group reads."""
        names = dict.fromkeys(name for lowered in group.nests for name in lowered.sources)
        names.update(dict.fromkeys(name for space in group.spaces for name in space.whole))
        return dict.fromkeys(self.place(group, name) for name in names)

    def writes(self, group: Group) -> dict[str, None]:
        return dict.fromkeys(self.place(group, name) for lowered in group.nests for name in lowered.targets)

    def tasks(self, groups: Sequence[Group]) -> list[Task]:
        """What the groups read and write, and the edges between them."""
        numbers = {group.number for group in groups}
        return [self.task(group, numbers) for group in groups]

    def task(self, group: Group, numbers: Collection[int]) -> Task:
        members = [name for space in group.spaces for name in space.members]
        position = max((self.positions[name] for name in members), default=len(self.positions))
        after = tuple(n for n in self.part.reach.predecessors(group.number) if n in numbers)
        return Task(group.number, position, tuple(self.reads(group)), tuple(self.writes(group)), after)

    def live_peak(self, sequence: Sequence[Group]) -> int:
        """The most bytes of the arena that are live at one step, after `share`."""
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for step, group in enumerate(sequence):
            for place in (*self.reads(group), *self.writes(group)):
                first.setdefault(place, step)
                last[place] = step
        change = [0] * (len(sequence) + 1)
        for place, nbytes in self.sizes().items():
            if place in first:
                change[first[place]] += nbytes
                change[last[place] + 1] -= nbytes
        return max(accumulate(change))

    # Memory shared in place

    def share(self, sequence: Sequence[Group]) -> None:
        """Let a result take over the memory of an operand that is read for the last time, element by element."""
        if not (self.options.enabled and self.options.in_place):
            return
        last: dict[str, int] = {}
        first: dict[str, int] = {}
        for step, group in enumerate(sequence):
            for place in (*self.reads(group), *self.writes(group)):
                last[place] = step
                first.setdefault(place, step)
        for step, group in enumerate(sequence):
            written, shared = self.writes(group), self.shared(group)
            for lowered in group.nests:
                for name, value in lowered.targets.items():
                    place = self.place(group, name)
                    if first.get(place) != step:
                        continue
                    if self.storage.roles[place] not in (Role.INTERMEDIATE, Role.OUTPUT):
                        continue
                    for source in lowered.sources:
                        dying = self.place(group, source)
                        free = last[dying] == step and first[dying] != step
                        if not free or dying in written or dying in shared:
                            continue
                        if self.may_take_over(group, lowered, value, place, dying):
                            self.join_places(dying, place)
                            first[place] = first[dying]
                            break

    def may_take_over(self, group: Group, lowered: Loops, value: Value, place: str, dying: str) -> bool:
        """True when a nest may write a value to the memory of an operand that nobody else needs."""
        type, found = self.storage.types[place], self.storage.types[dying]
        if self.storage.roles[dying] is not Role.INTERMEDIATE or type.dtype is not found.dtype:
            return False
        return cost.same_size(Value("", type), Value("", found)) and all(
            lowered.may_overwrite(name, value.name)
            for name in lowered.sources
            if self.place(group, name) == dying
        )

    def shared(self, group: Group) -> set[str]:
        """Places that several nests of a kernel touch, or its anchor."""
        result = {self.place(group, name) for space in group.spaces for name in space.whole}
        seen: set[str] = set()
        for lowered in group.nests:
            own = {self.place(group, name) for name in (*lowered.sources, *lowered.targets)}
            result |= own & seen
            seen |= own
        return result

    def join_places(self, old: str, new: str) -> None:
        for name in (old, *self.merged.pop(old, ())):
            self.joined[name] = new
            self.merged.setdefault(new, []).append(name)

    # Buffers

    def buffers(self, sequence: Sequence[Group]) -> list[Buffer]:
        storage = self.storage
        names = [item.name for item in self.graph.inputs]
        names += [self.place_of(place) for _, place in storage.outputs]
        for group in sequence:
            names += [*self.reads(group), *self.writes(group)]
        own: dict[str, list[str]] = {}
        for name, root in storage.root.items():
            own.setdefault(storage.place_of(root), []).append(name)
        again = {new: old for group in sequence for old, new in group.moved.items()}
        values: dict[str, list[str]] = {}
        for new, old in [*again.items(), *((place, place) for place in own)]:
            values.setdefault(self.joined.get(new, new), []).extend(own[old])
        result: list[Buffer] = []
        for name in dict.fromkeys(names):
            self.buffer_index[name] = len(result)
            producer = self.graph.producers.get(again.get(name, name))
            origins = producer.origins if producer else ()
            result.append(
                Buffer(name, storage.types[name], storage.roles[name], tuple(values.get(name, ())), origins)
            )
        return result

    # Kernels

    def form(self, group: Group) -> tuple[Hashable, list[str]]:
        """What a group's kernel depends on but names, and the places that it touches, in order."""
        numbers: dict[str, int] = {}

        def number(value: str) -> int:
            return numbers.setdefault(self.place(group, value), len(numbers))

        anchor = group.spaces[0].anchor
        nests = [
            (lowered.form, *map(number, lowered.sources), *map(number, lowered.targets))
            for lowered in group.nests
        ]
        whole = [number(value.name) for value in anchor.inputs] if anchor is not None else []
        if group.spaces[0].results:
            # Its views say where a template finds its operands: they are no part of the form.
            return group.number, [*self.reads(group), *self.writes(group)]
        types = [self.storage.types[place].dtype for place in numbers]
        return (tuple(nests), tuple(whole), tuple(types)), list(numbers)

    def kernel(self, group: Group) -> tuple[Kernel, tuple[int, ...]]:
        space = group.spaces[0]
        anchor = space.anchor
        if space.results:
            return self.template(group)
        shapes, whole = self.shapes(group)
        nests = tuple(self.placed(group, lowered, shapes) for lowered in group.nests)
        if anchor is None and self.options.enabled:
            nests, shapes = simplify(nests, shapes)
        elif anchor is not None:
            nest, shapes = fit_axes(nests[0], shapes, anchor)
            nests = (nest,)
        return self.finish(group, nests, shapes, whole)

    def template(self, group: Group) -> tuple[Kernel, tuple[int, ...]]:
        """The kernel of an anchor that writes its results whole."""
        (space,) = group.spaces
        node = space.anchor
        assert node is not None
        scope = Scope()
        parameters: list[Parameter] = []
        arguments: list[int] = []
        names: dict[str, str] = {}
        seen = space.views
        inputs = node.inputs if seen is None else seen.operands
        outputs = node.outputs if seen is None else seen.results
        pairs = [(value, Access.IN) for value in inputs] + [(v, Access.OUT) for v in space.results]
        for value, access in dict.fromkeys(pairs):
            place = self.place(group, value.name)
            names[value.name] = scope.unique(place if place in self.graph.input_by_name else value.name)
            parameters.append(Parameter(names[value.name], value.type, access))
            arguments.append(self.buffer_index[place])
        anchor = AnchorOperation(
            node.primitive,
            tuple(names[value.name] for value in inputs),
            node.attributes,
            node.outputs[0].type,
            node.outputs[0].type.dtype.compute,
            node.origins,
            tuple(names.get(value.name, "") for value in outputs),
            seen.views() if seen is not None else (),
        )
        name = group_name([node], node.outputs[0].name)
        return Kernel(name, tuple(parameters), (), anchor, node.origins), tuple(arguments)

    def shapes(self, group: Group) -> tuple[dict[str, Shape], list[str]]:
        """The shape under which the nests see each place (flat when they see several), and the anchor's operands."""
        shapes: dict[str, Shape] = {}
        for lowered in group.nests:
            for value in (*lowered.sources.values(), *lowered.targets.values()):
                place = self.place(group, value.name)
                shape = shapes.setdefault(place, value.type.shape)
                if shape != value.type.shape:
                    shapes[place] = (product(shape),)
        anchor = group.spaces[0].anchor
        whole = [value.name for value in anchor.inputs] if anchor is not None else []
        return shapes, whole

    def placed(self, group: Group, lowered: Loops, shapes: dict[str, Shape]) -> Nest:
        """The nest with places for values, indices flattened where shapes differ."""
        from graphc.passes.fusion import index as ix

        def placed(statement: Statement) -> Statement:
            if not isinstance(statement, (Load, Store, Random)):
                return statement
            place = self.place(group, statement.buffer)
            if isinstance(statement, Random):
                return replace(statement, buffer=place)
            table = lowered.sources if isinstance(statement, Load) else lowered.targets
            shape = table[statement.buffer].type.shape
            index = statement.index
            if shape != shapes[place]:
                index = (ix.flatten(index, shape),)
            return replace(statement, buffer=place, index=index)

        return replace(lowered.nest, body=tuple(map(placed, lowered.nest.body)))

    def finish(
        self, group: Group, nests: tuple[Nest, ...], shapes: dict[str, Shape], whole: list[str]
    ) -> tuple[Kernel, tuple[int, ...]]:
        """Name parameters and scalars, and make the kernel."""
        scope = Scope(axis.name for nest in nests for axis in nest.axes)
        read = {s.buffer for nest in nests for s in nest.body if isinstance(s, (Load, Random))}
        written = {s.buffer for nest in nests for s in nest.body if isinstance(s, Store)}
        parameters: list[Parameter] = []
        arguments: list[int] = []
        operands: dict[str, str] = {}
        values = (
            {value.name: value for value in group.spaces[0].anchor.inputs} if group.spaces[0].anchor else {}
        )
        for name in dict.fromkeys(whole):
            place = self.place(group, name)
            operands[name] = scope.unique(place if place in self.graph.input_by_name else name)
            type = values[name].type
            if group.spaces[0].anchor is not None:
                type = type.with_shape(with_batch(type.shape, group.spaces[0].anchor, nests[0]))
            parameters.append(Parameter(operands[name], type, Access.IN))
            arguments.append(self.buffer_index[place])
        names: dict[str, str] = {}
        order = [s.buffer for nest in nests for s in nest.body if isinstance(s, (Load, Random))]
        order += [s.buffer for nest in nests for s in nest.body if isinstance(s, Store)]
        for place in dict.fromkeys(order):
            names[place] = scope.unique(self.shown(group, place))
            access = Access.IN if place not in written else Access.INOUT if place in read else Access.OUT
            type = self.storage.types[place].with_shape(shapes[place])
            parameters.append(Parameter(names[place], type, access))
            arguments.append(self.buffer_index[place])
        named = tuple(_named(nest, names, scope) for nest in nests)
        members = self.members(group)
        anchor = self.anchor(group, operands, nests)
        origins = merge_origins(*(node.origins for node in members))
        fallback = next(iter(group.nests[0].targets), "copy")
        shown = [n for n in members if primitive(n.primitive).kind is not Kind.CONSTANT] or members
        name = group_name(shown, fallback) if members else identifier(f"copy_{fallback}")
        return Kernel(name, tuple(parameters), named, anchor, origins), tuple(arguments)

    def shown(self, group: Group, place: str) -> str:
        """What a kernel calls a place: an intermediate by the value that the kernel writes or reads there."""
        if self.storage.roles[place] is not Role.INTERMEDIATE:
            return place
        for lowered in group.nests:
            for name in (*lowered.targets, *lowered.sources):
                if self.place(group, name) == place:
                    return name
        return place

    def members(self, group: Group) -> list[Node]:
        """The nodes of a group in the graph's order; a group of copies has the node whose result it writes."""
        found = {name: node for space in group.spaces for name, node in space.members.items()}
        for space in group.spaces:
            for sink in space.sinks:
                producer = self.graph.producers.get(sink.target.name)
                if producer is not None and not space.members:
                    found[producer.outputs[0].name] = producer
        return sorted(found.values(), key=lambda node: self.positions[node.outputs[0].name])

    def anchor(
        self, group: Group, operands: dict[str, str], nests: tuple[Nest, ...]
    ) -> AnchorOperation | None:
        node = group.spaces[0].anchor
        if node is None:
            return None
        return AnchorOperation(
            node.primitive,
            tuple(operands[value.name] for value in node.inputs),
            node.attributes,
            node.output.type.with_shape(with_batch(node.output.type.shape, node, nests[0])),
            node.output.type.dtype.compute,
            node.origins,
        )


def _named(nest: Nest, buffers: dict[str, str], scope: Scope) -> Nest:
    """Buffers replaced by parameter names; scalars renamed to be unique in the kernel."""
    from graphc.passes.fusion.rewrite import rename_buffers

    table = {s.name: scope.unique(s.name) for s in nest.body if not isinstance(s, Store)}
    return replace(nest, body=tuple(rename_scalars(rename_buffers(s, buffers), table) for s in nest.body))
