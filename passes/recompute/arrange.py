"""Insert the launches that make dropped values again, each just before the first launch that reads its result.

What runs again is a kernel that ran before, on the same operands, so it gives the same bits: a random number comes
from its counter, a sum is in the same order. What it also writes into a state or an output goes to scratch memory, so
a moving average takes one step, not two.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from graphc.passes.recompute.schedule import Launch, Schedule, live

AGAIN = ".again"


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Launches in their new order, and the places that steps from `turn` on read in their recomputed form."""

    launches: tuple[Launch, ...]
    turn: int
    again: frozenset[str]
    peak: int
    """Bytes live at the worst step, memory sharing in place left out."""
    cost: int
    """Of the launches that are added."""

    @property
    def repeated(self) -> int:
        """Launches that are added."""
        return sum(launch.again for launch in self.launches)


class NeededError(Exception):
    """A value that cannot be made again where it is needed; the argument is its place."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place


def arrange(schedule: Schedule, turn: int, kept: Collection[str]) -> Arrangement:
    """The schedule in which values from before `turn` that are not `kept` are made again when a later step reads them.

    A value that cannot be made again, as a state it comes from has changed by then, is kept too.
    """
    holding = set(kept)
    while True:
        try:
            return _Arranger(schedule, turn, holding).run()
        except NeededError as needed:
            holding.add(needed.place)


class _Arranger:
    def __init__(self, schedule: Schedule, turn: int, kept: Collection[str]) -> None:
        self.schedule = schedule
        self.turn = turn
        self.kept = kept
        self.order, self.overwritten = _late_updates(schedule, turn)
        self.launches: list[Launch] = []
        self.made: set[str] = set()
        self.done: set[int] = set()

    def run(self) -> Arrangement:
        schedule = self.schedule
        for step in self.order:
            if step >= self.turn:
                for number in schedule.units_of[step]:
                    for name in schedule.units[number].reads:
                        self.ensure(name, step)
            self.launches.append(Launch(step))
        again = frozenset(self.made)
        touched, nbytes = self.places(again)
        cost = sum(schedule.units[launch.unit].cost for launch in self.launches if launch.again)
        return Arrangement(
            tuple(self.launches), self.turn, again, max(live(touched, nbytes), default=0), cost
        )

    def dropped(self, name: str) -> bool:
        """True for a value of the arena from before the turn that is not kept."""
        return (
            name in self.schedule.nbytes and name not in self.kept and self.schedule.written[name] < self.turn
        )

    def ensure(self, name: str, step: int) -> None:
        """Add the launches that make a dropped value, and those that make what they read, in their old order."""
        if not self.dropped(name) or name in self.made:
            return
        wanted: set[int] = set()
        pending = [name]
        while pending:
            found = pending.pop()
            if found in self.made:
                continue
            self.made.add(found)
            for number in self.schedule.writers[found]:
                if number not in self.done:
                    self.done.add(number)
                    self.check(number, found, step)
                    wanted.add(number)
                    pending += [read for read in self.schedule.units[number].reads if self.dropped(read)]
        self.launches += [Launch(unit=number) for number in sorted(wanted)]

    def check(self, number: int, name: str, now: int) -> None:
        """Raise NeededError unless a unit finds before step `now` what it found when it first ran."""
        unit = self.schedule.units[number]
        if not unit.repeatable:
            raise NeededError(name)
        for read in unit.reads:
            if any(unit.step <= step < now for step in self.overwritten.get(read, ())):
                raise NeededError(name)

    def places(self, again: frozenset[str]) -> tuple[list[list[str]], Mapping[str, int]]:
        """What each launch touches, recomputed values under names of their own."""
        schedule = self.schedule
        touched: list[list[str]] = []
        nbytes = dict(schedule.nbytes)
        for launch in self.launches:
            if not launch.again:
                late = launch.step >= self.turn
                names = schedule.touched[launch.step]
                touched.append([name + AGAIN if late and name in again else name for name in names])
                continue
            unit = schedule.units[launch.unit]
            reads = [
                name + AGAIN if name in again else name for name in unit.reads if name in schedule.nbytes
            ]
            touched.append([*reads, *(name + AGAIN for name in unit.writes)])
        for name in (name for names in touched for name in names if name not in nbytes):
            nbytes[name] = schedule.size(name.removesuffix(AGAIN))
        return touched, nbytes


def _late_updates(schedule: Schedule, turn: int) -> tuple[list[int], Mapping[str, tuple[int, ...]]]:
    """An order in which states that need nothing of the arena are updated last, and when each state is overwritten.

    The counter of random numbers is one: what draws them may then run again with the old counter.
    """
    late = [step for step in range(turn) if _is_late(schedule, step)]
    if not late:
        return list(range(schedule.steps)), schedule.overwritten
    order = [step for step in range(schedule.steps) if step not in late] + late
    moved = {step: schedule.steps + position for position, step in enumerate(late)}
    overwritten = {
        name: tuple(moved.get(step, step) for step in steps) for name, steps in schedule.overwritten.items()
    }
    return order, overwritten


def _is_late(schedule: Schedule, step: int) -> bool:
    """True for a step that only overwrites states, reads nothing of the arena, and whose results nobody reads."""
    units = [schedule.units[number] for number in schedule.units_of[step]]
    writes = {name for unit in units for name in unit.writes}
    reads = {name for unit in units for name in unit.reads}
    if not all(name in schedule.overwritten for name in writes):
        return False
    if any(name in schedule.nbytes or max(schedule.overwritten.get(name, (0,))) > step for name in reads):
        return False
    later = (unit for unit in schedule.units if unit.step > step)
    return not any(name in writes for unit in later for name in (*unit.reads, *unit.writes))
