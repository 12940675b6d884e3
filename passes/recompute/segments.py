"""Which values to keep for the backward pass: cuts of the forward pass, by dynamic programming under a budget.

What lies across a cut is kept; the rest of a segment between two cuts is dropped and made again when the backward
pass comes to the segment, from what the cuts before it have kept. The last segment is still there and is not made
again. The method is the approximate dynamic programming over lower sets of Kusumoto, Inoue, Watanabe, Akiba and
Koyama, A Graph Theoretic Framework of Recomputation Algorithms for Memory-Efficient Backpropagation (NeurIPS 2019),
with the prefixes of the launch order as lower sets; with equal layers its cuts grow like the square root of their
number, as in Chen et al., Training Deep Nets with Sublinear Memory Cost (2016, arXiv:1604.06174).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy
import numpy.typing

from graphc.passes.recompute.schedule import Schedule, live

LEVELS = 128
"""Steps in which the cost of recomputation is counted."""
MOST_CUTS = 320
SMALL = 64
"""A result of less than a 64th of what it is made from (a row's sum) is kept in any case."""

Table = numpy.typing.NDArray[numpy.int64]
_FAR = numpy.int64(1) << numpy.int64(60)


@dataclass(frozen=True, slots=True)
class Segments:
    """What each segment costs, from cut a to cut b, by their numbers in `places`, which are steps.

    again: operations that make it again. working: bytes while that happens and its gradients are taken. keeps: bytes
    that cut b keeps of it. last: bytes that it takes where b is the turn.
    """

    places: tuple[int, ...]
    again: Table
    working: Table
    keeps: Table
    last: Table


class Segmenter:
    """The costs of all segments of a schedule's forward pass, and the best cuts under a budget.

    most: what recomputation may cost; nothing much above it is looked for.
    """

    def __init__(self, schedule: Schedule, turn: int, most: int) -> None:
        self.schedule = schedule
        self.turn = turn
        self.most = most
        self.late = {
            name: tuple(step for step in steps if step >= turn)
            for name, steps in schedule.readers.items()
            if schedule.written.get(name, turn) < turn
        }
        self.pinned = self._pinned()
        self.across = self._across()
        self.segments = self._segments()

    # What is kept

    def _pinned(self) -> frozenset[str]:
        """Values that are kept whatever the cuts: small ones that much is needed for, and what cannot be made again."""
        schedule = self.schedule
        found = set()
        for unit in schedule.units:
            read = sum(schedule.nbytes.get(name, 0) for name in unit.reads)
            for name in unit.writes:
                if name in self.late and (not unit.repeatable or schedule.nbytes[name] * SMALL <= read):
                    found.add(name)
        return frozenset(found)

    def _across(self) -> list[set[str]]:
        """For each step up to the turn, the values made before it that the forward pass reads from it on."""
        schedule = self.schedule
        found: list[set[str]] = [set() for _ in range(self.turn + 1)]
        for name in self.late:
            last = max((step for step in schedule.readers[name] if step < self.turn), default=-1)
            for step in range(schedule.written[name] + 1, last + 1):
                found[step].add(name)
        return found

    def kept(self, cuts: Sequence[int]) -> set[str]:
        """What cuts keep; the last one but the turn begins the segment that is not dropped."""
        kept = set(self.pinned)
        for cut in cuts:
            kept |= self.across[cut]
        begin = max((cut for cut in cuts if cut < self.turn), default=0)
        return kept | {name for name in self.late if self.schedule.written[name] >= begin}

    # What segments cost

    def _places(self) -> list[int]:
        """Where a cut may lie: everywhere, or in a long program where least lies across."""
        if self.turn <= MOST_CUTS:
            return list(range(self.turn + 1))
        weight = [sum(self.schedule.nbytes[name] for name in names) for names in self.across]
        edges = numpy.linspace(1, self.turn, MOST_CUTS).astype(int).tolist()
        found = {min(range(low, high), key=weight.__getitem__) for low, high in pairwise(edges) if low < high}
        return sorted({0, self.turn} | found)

    def _gradients(self) -> list[int]:
        """Bytes of what the backward pass itself has made, live at each step."""
        schedule = self.schedule
        own = [[n for n in names if schedule.written[n] >= self.turn] for names in schedule.touched]
        return live(own, schedule.nbytes)

    def _segments(self) -> Segments:
        schedule, places = self.schedule, self._places()
        gradients = self._gradients()
        beside = {
            name: max((gradients[step] for step in steps), default=0) for name, steps in self.late.items()
        }
        limit = max(live(schedule.touched, schedule.nbytes), default=0)
        shape = (len(places), len(places))
        again, keeps = numpy.zeros(shape, numpy.int64), numpy.zeros(shape, numpy.int64)
        working, last = numpy.full(shape, _FAR), numpy.full(shape, _FAR)
        number = {place: k for k, place in enumerate(places)}
        for end, cut in enumerate(places):
            sums = _Sums(self, cut)
            for step in range(cut - 1, -1, -1):
                for unit in reversed(schedule.units_of[step]):
                    sums.add(unit, beside)
                begin = number.get(step)
                if begin is None:
                    continue
                again[begin, end], keeps[begin, end] = sums.again, sums.keeps
                working[begin, end] = sums.read + sums.passing + sums.gradients
                if cut == self.turn:
                    last[begin, end] = sums.read + sums.gradients
                if sums.read > limit:
                    break
        return Segments(tuple(places), again, working, keeps, last)

    # Cuts

    def least(self) -> int:
        """About the smallest budget that some cuts meet, in bytes."""
        low, high = 0, int(self.segments.last[0, -1])
        while high - low > max(high // 200, 1):
            middle = (low + high) // 2
            if self.cuts(middle, 0) is None:
                low = middle
            else:
                high = middle
        return high

    def cuts(self, budget: int, levels: int = LEVELS) -> tuple[int, ...] | None:
        """The cheapest cuts for which no more than about `budget` bytes are live at once; None when there are none.

        levels: how finely cost is told apart; with 0 any cuts will do.
        """
        segments = self.segments
        count = len(segments.places)
        unit = max(1, -(-self.most // max(levels, 1)))
        price = -(-segments.again // unit) if levels else numpy.zeros_like(segments.again)
        numpy.clip(price, 0, levels + 1, out=price)
        kept = numpy.full((count, levels + 1), _FAR)
        source = numpy.zeros((count, levels + 1), numpy.int64)
        kept[0, 0] = 0
        level = numpy.arange(levels + 1)
        for end in range(1, count):
            at = level[None, :] - price[:end, end, None]
            before = numpy.where(at >= 0, numpy.take_along_axis(kept[:end], numpy.maximum(at, 0), 1), _FAR)
            fits = before + segments.working[:end, end, None] <= budget
            after = numpy.where(fits, before + segments.keeps[:end, end, None], _FAR)
            source[end] = after.argmin(0)
            kept[end] = numpy.take_along_axis(after, source[end][None, :], 0)[0]
        final = numpy.where(kept[:-1] + segments.last[:-1, -1, None] <= budget, level[None, :], levels + 1)
        begin, spent = divmod(int(final.argmin()), levels + 1)
        if final[begin, spent] > levels:
            return None
        found = [self.turn]
        while begin > 0:
            found.append(segments.places[begin])
            begin, spent = int(source[begin, spent]), spent - int(price[source[begin, spent], begin])
        return tuple(reversed(found))


class _Sums:
    """Runs back from a cut and adds up what the segment before it costs."""

    def __init__(self, segmenter: Segmenter, cut: int) -> None:
        self.schedule = segmenter.schedule
        self.late = segmenter.late
        self.across = segmenter.across[cut]
        self.pinned = segmenter.pinned
        self.wanted: set[str] = set()
        self.again = self.keeps = self.read = self.passing = self.gradients = 0

    def add(self, number: int, beside: dict[str, int]) -> None:
        """Take a unit into the segment; all units after it are in."""
        unit, nbytes = self.schedule.units[number], self.schedule.nbytes
        made = [name for name in unit.writes if name in self.late]
        kept = [name for name in made if name in self.across or name in self.pinned]
        missing = [name for name in made if name not in kept and (self.late[name] or name in self.wanted)]
        self.keeps += sum(nbytes[name] for name in kept)
        self.read += sum(nbytes[name] for name in made if self.late[name])
        self.gradients = max([self.gradients, *(beside[name] for name in made)])
        if missing and unit.repeatable:
            self.again += unit.cost
            self.wanted.update(unit.reads)
            passing = sum(self.schedule.size(name) for name in unit.writes if not self.late.get(name))
            self.passing = max(self.passing, passing)
