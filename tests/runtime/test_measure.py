"""Alternating rounds treat all candidates alike; the machine's limits are probed natively."""

from collections.abc import Callable

import pytest

from graphc.runtime import measure
from graphc.runtime.limits import Limits, TorchLimits, typical_limit
from graphc.runtime.measure import Timing, alternate


class Clock:
    """A clock that only calls move."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def taking(self, seconds: float, log: list[str] | None = None, name: str = "") -> object:
        def call() -> None:
            self.now += seconds
            if log is not None:
                log.append(name)

        return call


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measure, "time", clock)
    return clock


def test_medians_are_seconds_a_call(clock: Clock) -> None:
    timings = alternate(
        {"slow": clock.taking(0.02), "fast": clock.taking(0.001)}, rounds=5, round_seconds=0.01
    )
    assert timings["slow"].median == pytest.approx(0.02)
    assert timings["slow"].calls == 1
    assert timings["fast"].median == pytest.approx(0.001)
    assert timings["fast"].calls in (9, 10)
    assert timings["fast"].iqr == pytest.approx(0.0, abs=1e-12)


def test_every_candidate_runs_in_every_round_and_leads_in_turn(clock: Clock) -> None:
    log: list[str] = []
    calls = {name: clock.taking(1.0, log, name) for name in ("a", "b", "c")}
    rounds: list[int] = []
    alternate(calls, rounds=3, round_seconds=0.5, warm_up=0, each_round=lambda: rounds.append(len(log)))
    # One call finds how many fit; then each round runs every candidate twice, once untimed.
    assert [log[start : start + 6] for start in rounds] == [list("aabbcc"), list("bbccaa"), list("ccaabb")]


def test_spread_is_between_the_quartiles() -> None:
    timing = Timing.of([1.0, 2.0, 3.0, 4.0, 100.0], calls=1)
    assert (timing.median, timing.iqr, timing.best) == (3.0, 2.0, 1.0)
    assert Timing.of([2.0], calls=1).iqr == 0.0
    with pytest.raises(ValueError, match="no round"):
        Timing.of([], calls=1)


def test_one_odd_reading_is_no_limit() -> None:
    assert typical_limit([40.0]) == 40.0
    assert typical_limit([50.0, 9000.0, 48.0, 49.0, 3.0]) == 50.0


@pytest.mark.parametrize(
    "make", [lambda: Limits(count=1 << 16), lambda: TorchLimits("cpu", nbytes=1 << 16, order=64)]
)
def test_limits_are_measured(make: Callable[[], Limits | TorchLimits]) -> None:
    limits = make()
    for _ in range(3):
        limits.probe()
        assert limits.bandwidth > 0.0
        assert limits.flops > 0.0


def test_native_probes_use_the_whole_team() -> None:
    limits = Limits(count=1 << 16)
    assert limits.threads >= 1
    assert limits.lanes in (4, 8, 16)
