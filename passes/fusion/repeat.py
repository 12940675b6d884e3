"""Fused kernels that run again: the schedule that recomputation works on, and the groups of what it decided.

A nest that runs again is the nest that ran before, with other places for what it writes: the same kernel, and so the
same bits. Nothing is fused anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from graphc.ir.kernel import Load, Random, Store
from graphc.ir.program import Program, Recomputation, Role
from graphc.passes.fusion.bind import Binder, Group
from graphc.passes.fusion.cost import MOVES
from graphc.passes.fusion.forms import Loops
from graphc.passes.fusion.inplace import operands
from graphc.passes.fusion.partition import Partition
from graphc.passes.fusion.space import Space
from graphc.passes.fusion.storage import Storage
from graphc.passes.limits import FusionOptions
from graphc.passes.plan import arena_size
from graphc.passes.recompute import AGAIN, Arrangement, Launch, Schedule, Unit
from graphc.primitives.declare import primitive
from graphc.types import Dim, TensorType, dim_symbols, evaluate

OPERATIONS_PER_BYTE = 8
"""About what a processor computes while it moves a byte from memory (450 GFLOP/s beside 55 GB/s)."""


@dataclass(slots=True)
class Repeater:
    """A fused program before it is bound: `sequence` in launch order; `sizes` of named dimensions, where known.

    With `cheap`, only nests that memory bounds run again, none with a contraction or another template, and what a nest
    costs is the bytes that it moves, or those that could be moved while it computes where that is more.
    """

    part: Partition
    storage: Storage
    sequence: Sequence[Group]
    options: FusionOptions
    sizes: Mapping[str, int]
    cheap: bool = False

    def extent(self, dim: Dim) -> int:
        """A dimension under the sizes, those that are not given at their assumed size."""
        if isinstance(dim, int):
            return dim
        assumed = dict.fromkeys(dim_symbols([dim]), self.options.assumed_size)
        return max(0, evaluate(dim, assumed | dict(self.sizes)))

    def nbytes(self, type: TensorType) -> int:
        count = type.dtype.itemsize
        for dim in type.shape:
            count *= self.extent(dim)
        return count

    # What there is

    def schedule(self) -> Schedule:
        """The nests in launch order, over places."""
        roles, types = self.storage.roles, self.storage.types
        binder = Binder(self.part, self.storage, self.options)
        units: list[Unit] = []
        overwritten: dict[str, list[int]] = {}
        for step, group in enumerate(self.sequence):
            for space, lowered in zip(group.spaces, group.nests, strict=True):
                alone = Group(group.number, [space], [lowered], group.moved)
                units.append(self.unit(binder, alone, step))
                for place in units[-1].writes:
                    if roles[place] not in (Role.INTERMEDIATE, Role.OUTPUT):
                        overwritten.setdefault(place, []).append(step)
        written = {place for unit in units for place in unit.writes}
        sizes = {name: self.nbytes(types[name]) for name in written}
        return Schedule(
            tuple(units),
            len(self.sequence),
            {name: size for name, size in sizes.items() if roles[name] is Role.INTERMEDIATE},
            {name: size for name, size in sizes.items() if roles[name] is not Role.INTERMEDIATE},
            {name: tuple(steps) for name, steps in overwritten.items()},
        )

    def unit(self, binder: Binder, group: Group, step: int) -> Unit:
        reads, writes = binder.reads(group), binder.writes(group)
        own = {place for place in writes if self.storage.roles[place] is not Role.INTERMEDIATE}
        (space,), (lowered,) = group.spaces, group.nests
        steady = all(not _feeds_others(binder, group, lowered, place) for place in own if place in reads)
        cost = self.operations(space)
        if self.cheap:
            moved = sum(self.nbytes(self.storage.types[place]) for place in reads | writes)
            cost = max(moved, cost // OPERATIONS_PER_BYTE)
            steady = steady and space.anchor is None
        return Unit(step, tuple(place for place in reads if place not in own), tuple(writes), cost, steady)

    def report(self, arrangement: Arrangement, plain: int) -> Recomputation:
        """What an arrangement does; moves and constants do not count as nodes. plain: bytes of the arena without it."""
        spaces = [space for group in self.sequence for space in group.spaces]
        again = [spaces[launch.unit] for launch in arrangement.launches if launch.again]
        nodes = [node for space in again for node in space.members.values()]
        return Recomputation(
            plain,
            arrangement.repeated,
            sum(primitive(node.primitive).kind not in MOVES for node in nodes),
            sum(map(self.operations, again)),
            sum(map(self.operations, spaces)),
        )

    def operations(self, space: Space) -> int:
        """Floating-point operations of a nest."""
        return sum(self.extent(primitive(node.primitive).flops(node)) for node in space.members.values())

    # What becomes of it

    def program(self, arrangement: Arrangement) -> Program:
        """The program of an arrangement."""
        storage, sequence = self.arranged(arrangement)
        return Binder(self.part, storage, self.options).program(sequence)

    def arranged(self, arrangement: Arrangement) -> tuple[Storage, list[Group]]:
        """The groups of an arrangement, and where the values lie that they make again."""
        storage = replace(self.storage, types=dict(self.storage.types), roles=dict(self.storage.roles))
        pairs = [
            (group, space, lowered)
            for group in self.sequence
            for space, lowered in zip(group.spaces, group.nests, strict=True)
        ]
        binder = Binder(self.part, self.storage, self.options)
        result: list[Group] = []
        names: dict[str, str] = {}
        for launch in arrangement.launches:
            result.append(self._group(launch, arrangement, pairs, binder, names))
        for old, new in names.items():
            storage.types[new] = storage.types[old]
            storage.roles[new] = Role.INTERMEDIATE
        return storage, result

    def _group(
        self,
        launch: Launch,
        arrangement: Arrangement,
        pairs: Sequence[tuple[Group, Space, Loops]],
        binder: Binder,
        names: dict[str, str],
    ) -> Group:
        if not launch.again:
            group = self.sequence[launch.step]
            if launch.step < arrangement.turn:
                return group
            moved = {name: name + AGAIN for name in binder.reads(group) if name in arrangement.again}
            return replace(group, moved=moved) if moved else group
        group, space, lowered = pairs[launch.unit]
        alone = Group(group.number, [space], [lowered])
        moved = {name: name + AGAIN for name in binder.reads(alone) if name in arrangement.again}
        moved |= {name: name + AGAIN for name in binder.writes(alone)}
        names.update((name, name + AGAIN) for name in binder.writes(alone))
        return replace(alone, moved=moved)

    def measure(self, arrangement: Arrangement, strategy: str) -> int:
        """Bytes of the arena of an arrangement, planned as its program would be."""
        storage, sequence = self.arranged(arrangement)
        binder = Binder(self.part, storage, self.options)
        binder.share(sequence)
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for step, group in enumerate(sequence):
            for place in (*binder.reads(group), *binder.writes(group)):
                if storage.roles[place] is Role.INTERMEDIATE:
                    first.setdefault(place, step)
                    last[place] = step
        lives = [(self.nbytes(storage.types[name]), first[name], last[name]) for name in first]
        return arena_size(lives, strategy)


def _feeds_others(binder: Binder, group: Group, lowered: Loops, place: str) -> bool:
    """True when anything but the new content of `place` comes from its old one."""
    tainted: set[str] = set()
    for statement in lowered.nest.body:
        if isinstance(statement, (Load, Random)) and binder.place(group, statement.buffer) == place:
            tainted.add(statement.name)
        elif not any(name in tainted for name in operands(statement)):
            continue
        elif not isinstance(statement, Store):
            tainted.add(statement.name)
        elif binder.place(group, statement.buffer) != place:
            return True
    return any(binder.place(group, name) == place for space in group.spaces for name in space.whole)
