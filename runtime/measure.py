"""Timing several ways to do one thing fairly: alternating rounds, medians, spreads.

Two rules make a comparison honest on a machine that others use too: all candidates run in every round, in turn, so
that a slow second hurts all of them; and the middle of the rounds counts, not the best one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds a call, over the rounds: the median, the distance between the quartiles, the best, the calls made."""

    median: float
    iqr: float
    best: float
    rounds: int
    calls: int

    @classmethod
    def of(cls, seconds: Sequence[float], calls: int) -> Timing:
        """Sum up the seconds a call of each round; ValueError when there is none."""
        if not seconds:
            raise ValueError("no round was measured")
        if len(seconds) > 1:
            low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
        else:
            low = high = seconds[0]
        return cls(statistics.median(seconds), high - low, min(seconds), len(seconds), calls)


def alternate(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 15,
    round_seconds: float = 0.05,
    warm_up: int = 3,
    each_round: Callable[[], object] | None = None,
) -> dict[str, Timing]:
    """Time each candidate in every round, in turn.

    A candidate is called as often in a round as fits in `round_seconds`, at least once; the order turns by one place
    each round, so that none always runs in the wake of the same other one. `each_round` runs, untimed, before
    every round.
    """
    calls = {name: _calls_that_fit(call, round_seconds, warm_up) for name, call in candidates.items()}
    timers = {name: partial(_timed, call, calls[name]) for name, call in candidates.items()}
    seconds = in_turn(timers, rounds, each_round)
    return {name: Timing.of(seconds[name], calls[name]) for name in candidates}


def in_turn(
    timers: Mapping[str, Callable[[], float]], rounds: int, each_round: Callable[[], object] | None = None
) -> dict[str, list[float]]:
    """What each timer gave in each round: seconds a call, measured by the timer itself, in this process or another."""
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    order = list(timers)
    for _ in range(rounds):
        if each_round is not None:
            each_round()
        for name in order:
            seconds[name].append(timers[name]())
        order = order[1:] + order[:1]
    return seconds


def _timed(call: Callable[[], object], calls: int) -> float:
    # One call untimed: the first one pays for the caches that the candidate before it filled.
    call()
    return _seconds_a_call(call, calls)


def _calls_that_fit(call: Callable[[], object], round_seconds: float, warm_up: int) -> int:
    for _ in range(warm_up):
        call()
    once = _seconds_a_call(call, 1)
    return max(1, min(100_000, int(round_seconds / max(once, 1e-9))))


def _seconds_a_call(call: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls
