"""The cheapest arrangement that meets a limit: a fixed family of arrangements, each planned as it would really run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from graphc.passes.recompute.arrange import Arrangement, arrange
from graphc.passes.recompute.schedule import Schedule, live
from graphc.passes.recompute.segments import Segmenter

FAMILY = 16
"""Arrangements of a schedule that are tried first, for budgets in equal ratios from the least to the plain peak."""
REFINEMENTS = 3
"""Further ones, between the best that fits and the next that does not."""
PROMISING = 1.25
"""An estimate leaves out the memory that kernels share in place: up to this much above the limit is still tried."""
PLANNED = 4
"""So many of the arrangements that look best are planned where any limit will do."""
NEAR = 1.01
"""Arenas that differ by less than that are as good as each other."""

Measure = Callable[[Arrangement], int]
"""Bytes of the arena that an arrangement is planned to take."""


@dataclass(frozen=True, slots=True)
class Found:
    """An arrangement of one of the alternatives and the bytes that it is planned to take."""

    alternative: int
    arrangement: Arrangement
    planned: int


class Search:
    """Looks for arrangements of one program, whose launch order has these alternatives, under any limit.

    most: the cost that they may add to the first alternative's; without it what the program itself costs.
    """

    def __init__(self, alternatives: Sequence[tuple[Schedule, Measure]], most: int | None = None) -> None:
        first = alternatives[0][0].cost
        self._alternatives = [
            _Alternative(
                schedule, measure, first + most - schedule.cost if most is not None else schedule.cost
            )
            for schedule, measure in alternatives
        ]

    def best(self, limit: int) -> Found:
        """The cheapest arrangement found that takes at most `limit` bytes, else the one that takes least."""
        found = self._cheapest(limit)
        if found is not None:
            return found
        # Of the family alone, whatever the limit: so the least that is named can be met.
        least = self.least
        return least if least.planned > limit else self._refined(limit, least)

    @cached_property
    def least(self) -> Found:
        """The arrangement of the families that takes least."""
        peak = min(found.peak for _, alternative in self._each() for found in alternative.family)
        return min(
            (
                Found(number, found, alternative.size(found))
                for number, alternative in self._each()
                for found in alternative.family
                if found.peak <= PROMISING * peak
            ),
            key=lambda found: (found.planned, found.arrangement.cost, found.alternative),
        )

    @cached_property
    def plain(self) -> Found:
        """The first alternative without recomputation."""
        first = self._alternatives[0]
        return Found(0, first.everything, first.size(first.everything))

    @cached_property
    def lowest(self) -> Found:
        """The arrangement of the families that takes least while it costs no more than it may, about the cheapest."""
        allowed = [
            (found.peak, found.cost, number, found)
            for number, alternative in self._each()
            for found in alternative.family
            if found.cost <= alternative.most
        ]
        chosen = sorted(allowed, key=lambda item: item[:3])[:PLANNED]
        tried = [Found(number, found, self._alternatives[number].size(found)) for *_, number, found in chosen]
        enough = NEAR * min(found.planned for found in tried)
        return min((found for found in tried if found.planned <= enough), key=self._cost)

    def _cost(self, found: Found) -> int:
        """Of all launches of an alternative, those that are added among them."""
        return self._alternatives[found.alternative].schedule.cost + found.arrangement.cost

    def _each(self) -> Iterator[tuple[int, _Alternative]]:
        return enumerate(self._alternatives)

    def _cheapest(self, limit: int) -> Found | None:
        candidates = [
            (found.cost, number, found)
            for number, alternative in self._each()
            for found in alternative.family
            if found.peak <= PROMISING * limit
        ]
        for _, number, found in sorted(candidates, key=lambda item: item[:2]):
            planned = self._alternatives[number].size(found)
            if planned <= limit:
                return self._refined(limit, Found(number, found, planned))
        return None

    def _refined(self, limit: int, found: Found) -> Found:
        alternative = self._alternatives[found.alternative]
        best = alternative.refined(found.arrangement, limit)
        return Found(found.alternative, best, alternative.size(best))


class _Alternative:
    """One launch order: its family of arrangements, and what they take."""

    def __init__(self, schedule: Schedule, measure: Measure, most: int) -> None:
        self.schedule = schedule
        self.most = most
        self.measure = measure
        self.made: dict[frozenset[str], Arrangement] = {}
        self.goals: dict[Arrangement, int] = {}
        self.planned: dict[Arrangement, int] = {}

    @cached_property
    def segmenter(self) -> Segmenter:
        return Segmenter(self.schedule, self.schedule.turn, self.most)

    @cached_property
    def everything(self) -> Arrangement:
        """The one that keeps all values."""
        return arrange(self.schedule, self.schedule.turn, self.schedule.nbytes)

    @cached_property
    def family(self) -> tuple[Arrangement, ...]:
        """For budgets from the least to the plain peak; what keeps everything is one of them."""
        schedule, everything = self.schedule, self.everything
        high = max(live(schedule.touched, schedule.nbytes), default=0)
        self.goals[everything] = high
        found = {everything: None}
        if not schedule.turn:
            return (everything,)
        low = max(1, min(self.segmenter.least(), high))
        for step in range(FAMILY):
            made = self.arrangement(round(low * (high / low) ** (step / (FAMILY - 1))))
            if made is not None:
                found[made] = None
        return tuple(sorted(found, key=lambda made: (made.cost, -self.goals[made])))

    def arrangement(self, goal: int) -> Arrangement | None:
        """The arrangement that the dynamic programming has for a budget."""
        cuts = self.segmenter.cuts(goal)
        if cuts is None:
            return None
        kept = frozenset(self.segmenter.kept(cuts))
        if kept not in self.made:
            self.made[kept] = arrange(self.schedule, self.segmenter.turn, kept)
        made = self.made[kept]
        self.goals.setdefault(made, goal)
        return made

    def size(self, found: Arrangement) -> int:
        if found not in self.planned:
            self.planned[found] = self.measure(found)
        return self.planned[found]

    def refined(self, best: Arrangement, limit: int) -> Arrangement:
        """Cheaper ones for budgets between the one that led to a fitting arrangement and the next of the family."""
        low = self.goals[best]
        high = min((goal for goal in map(self.goals.__getitem__, self.family) if goal > low), default=low)
        for _ in range(REFINEMENTS):
            goal = (low + high) // 2
            other = self.arrangement(goal)
            if other is not None and other.cost < best.cost and self.size(other) <= limit:
                best, low = other, goal
            else:
                high = goal
        return best
