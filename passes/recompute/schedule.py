"""A program as recomputation sees it: loop nests in launch order over named places, and how many bytes are live.

unit   = a nest: places that it reads and writes, its cost        step = a launch: one unit or several
place  = an intermediate of the arena, written once (by one unit, or by several a piece each), or memory of a
         caller or a state, which costs the arena nothing and may be overwritten at a later step
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Unit:
    """A loop nest of a launch, in places; `cost` is its floating-point operations.

    `repeatable` is False when its results depend on a state that it overwrites itself.
    """

    step: int
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    cost: int
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class Launch:
    """A step of a rearranged program: a step of the old one, or a unit of it that runs again."""

    step: int = -1
    unit: int = -1

    @property
    def again(self) -> bool:
        return self.unit >= 0


@dataclass(frozen=True)
class Schedule:
    """Units in launch order; `nbytes` of the arena's places, and of the others that are written.

    `overwritten`: the steps that write a state.
    """

    units: tuple[Unit, ...]
    steps: int
    nbytes: Mapping[str, int]
    foreign: Mapping[str, int]
    overwritten: Mapping[str, tuple[int, ...]]

    def size(self, name: str) -> int:
        """Bytes of a place that is written."""
        return self.nbytes[name] if name in self.nbytes else self.foreign[name]

    @cached_property
    def units_of(self) -> tuple[tuple[int, ...], ...]:
        """The units of each step."""
        found: list[list[int]] = [[] for _ in range(self.steps)]
        for number, unit in enumerate(self.units):
            found[unit.step].append(number)
        return tuple(map(tuple, found))

    @cached_property
    def writers(self) -> Mapping[str, tuple[int, ...]]:
        """The units that write each place of the arena."""
        found: dict[str, list[int]] = {}
        for number, unit in enumerate(self.units):
            for name in unit.writes:
                if name in self.nbytes:
                    found.setdefault(name, []).append(number)
        return {name: tuple(numbers) for name, numbers in found.items()}

    @cached_property
    def written(self) -> Mapping[str, int]:
        """The last step that writes each place of the arena."""
        return {name: max(self.units[n].step for n in numbers) for name, numbers in self.writers.items()}

    @cached_property
    def readers(self) -> Mapping[str, tuple[int, ...]]:
        """The steps that read each place of the arena, in order."""
        found: dict[str, dict[int, None]] = {name: {} for name in self.nbytes}
        for unit in self.units:
            for name in unit.reads:
                if name in self.nbytes:
                    found[name][unit.step] = None
        return {name: tuple(sorted(steps)) for name, steps in found.items()}

    @property
    def cost(self) -> int:
        return sum(unit.cost for unit in self.units)

    @cached_property
    def touched(self) -> tuple[tuple[str, ...], ...]:
        """The places of the arena that each step reads or writes."""
        return tuple(
            tuple(
                dict.fromkeys(
                    name
                    for number in numbers
                    for name in (*self.units[number].reads, *self.units[number].writes)
                    if name in self.nbytes
                )
            )
            for numbers in self.units_of
        )

    @cached_property
    def turn(self) -> int:
        """The step before which most bytes wait for later steps: where a training step turns back."""
        change = [0] * (self.steps + 1)
        for name, first in self.written.items():
            last = max(self.readers[name], default=first)
            if last > first:
                change[first + 1] += self.nbytes[name]
                change[last + 1] -= self.nbytes[name]
        waiting = list(accumulate(change))
        return max(range(self.steps), key=lambda step: (waiting[step], -step), default=0)


def live(touched: Sequence[Iterable[str]], nbytes: Mapping[str, int]) -> list[int]:
    """Bytes live at each step, each place from the first step that touches it to the last one."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for step, names in enumerate(touched):
        for name in names:
            first.setdefault(name, step)
            last[name] = step
    change = [0] * (len(touched) + 1)
    for name, step in first.items():
        change[step] += nbytes[name]
        change[last[name] + 1] -= nbytes[name]
    return list(accumulate(change))[:-1]
