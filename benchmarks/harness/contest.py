"""One row: every peer prepares and is checked, then all are timed in the same rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from graphc.runtime.measure import Timing, in_turn
from harness.client import Client, PeerFailedError
from harness.peers import AS_IT_COMES
from harness.row import Row

Record = dict[str, Any]
Key = tuple[str, str, str]
SHORT = 0.2
"""A call of more seconds than this is not repeated to fill the caches: they hold too little of it to matter."""
RESIDENT_LIMIT = 1 << 30
"""A process that holds more bytes between rows is started anew."""
IDLE_LIMIT = 0.05
"""Cores that a process may keep busy while others are measured."""


class Probe(Protocol):
    """The machine's limits: bytes and operations a second, measured now."""

    def probe(self) -> tuple[float, float]: ...


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: rounds at most, seconds of calls a candidate in a round, seconds a row altogether."""

    rounds: int = 15
    round_seconds: float = 0.05
    row_seconds: float = 30.0
    least_rounds: int = 5


@dataclass(slots=True)
class Contest:
    """A row under way: who is in it, what they got wrong, and what it says in the end."""

    row: Row
    clients: Sequence[Client]
    reference: Client
    limits: Probe
    seed: int
    effort: Effort
    scratch: Path
    talk: Callable[[str], object]
    errors: dict[Key, float] = field(default_factory=dict)
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)
    stopped: bool = False

    def run(self) -> list[Record]:
        """The records of the row, one for each peer and setting, those that failed among them."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        # Large arrays, on disk for as long as the checks take; other runs have folders of their own.
        with TemporaryDirectory(prefix="reference-", dir=self.scratch) as folder:
            try:
                references = self.reference.ask("reference", **self._task(), folder=folder)["references"]
                self.reference.ask("release")
            except PeerFailedError as error:
                self.reasons |= {
                    client.name: f"no reference to check against: {error}" for client in self.clients
                }
                return [self._refusal(client) for client in self.clients]
            # Two at a time. Settings follow one another, so that a compiler's cache serves the second.
            peers = list(dict.fromkeys(client.peer.name for client in self.clients))
            with ThreadPoolExecutor(2) as pool:
                try:
                    list(pool.map(partial(self._prepare, references), peers))
                except KeyboardInterrupt:
                    # Who waits for a compiler is not waited for.
                    self.stopped = True
                    for client in self.clients:
                        client.stop()
                    raise
        try:
            records = self._measure() if self.errors else []
        finally:
            self._release()
        failed = [self._refusal(client) for client in self.clients if client.name in self.reasons]
        return sorted(with_ratios(records) + failed, key=self._place)

    def _task(self) -> dict[str, Any]:
        return {"suite": self.row.suite, "row": self.row.key, "seed": self.seed}

    def _place(self, record: Record) -> int:
        return [client.name for client in self.clients].index((record["peer"], record["setting"]))

    def _prepare(self, references: Sequence[str], peer: str) -> None:
        for client in self.clients:
            if client.peer.name != peer or self.stopped:
                continue
            self.talk(f"{self.row.name}: {peer}, {client.setting}: checking against float64")
            try:
                errors = client.ask("prepare", **self._task(), references=list(references))["errors"]
                self.errors |= {(*client.name, form): error for form, error in errors.items()}
            except PeerFailedError as error:
                self.reasons[client.name] = str(error)

    def _measure(self) -> list[Record]:
        once = {key: self._once(key) for key in self.errors}
        once = promising({key: seconds for key, seconds in once.items() if key[:2] not in self.reasons})
        effort = self.effort
        calls = {key: max(1, int(effort.round_seconds / seconds)) for key, seconds in once.items()}
        # An untimed call comes before the timed ones where calls are short.
        a_round = sum(
            seconds * (calls[key] + (seconds < SHORT)) + 0.05 / len(once) for key, seconds in once.items()
        )
        least = min(effort.least_rounds, effort.rounds)
        rounds = max(least, min(effort.rounds, int(effort.row_seconds / max(a_round, 1e-9))))
        self.talk(f"{self.row.name}: {rounds} rounds of {a_round:.1f} s")
        for client in self.clients:
            client.idle_load()
        readings: list[tuple[float, float]] = []
        timers = {key: partial(self._time, key, calls[key], seconds < SHORT) for key, seconds in once.items()}
        seconds = in_turn(timers, rounds, lambda: readings.append(self.limits.probe()))
        idle = {client.name: client.idle_load() for client in self.clients}
        kept = {key: values for key, values in seconds.items() if key[:2] not in self.reasons}
        return [
            self._record(key, kept[key], calls[key], readings, idle[key[:2]]) for key in fastest_forms(kept)
        ]

    def _once(self, key: Key) -> float:
        """Seconds a call, to plan the rounds with; short calls are timed again, over several."""
        seconds = self._time(key, 1, True)
        if seconds < self.effort.round_seconds:
            seconds = self._time(key, max(1, int(self.effort.round_seconds / 2 / max(seconds, 1e-9))), False)
        return seconds

    def _time(self, key: Key, calls: int, settle: bool) -> float:
        """Seconds a call; a process that dies meanwhile takes no further part."""
        name, form = key[:2], key[2]
        if name not in self.reasons:
            client = next(client for client in self.clients if client.name == name)
            try:
                return float(client.ask("time", form=form, calls=calls, settle=settle)["seconds"])
            except PeerFailedError as error:
                self.reasons[name] = str(error)
        return float("nan")

    def _record(
        self,
        key: Key,
        seconds: Sequence[float],
        calls: int,
        readings: Sequence[tuple[float, float]],
        idle: float,
    ) -> Record:
        row, timing, error = self.row, Timing.of(seconds, calls), self.errors[key]
        floors = [row.floor(*reading) for reading in readings]
        bandwidth, peak = (statistics.median(values) for values in zip(*readings, strict=True))
        if idle > IDLE_LIMIT:
            self.talk(f"{row.name}: {key[0]}, {key[1]} kept {idle:.2f} cores busy while others were measured")
        return {
            "suite": row.suite,
            "row": row.name,
            "peer": key[0],
            "setting": key[1],
            "form": key[2],
            "median_ms": 1e3 * timing.median,
            "iqr_ms": 1e3 * timing.iqr,
            "best_ms": 1e3 * timing.best,
            "rounds": timing.rounds,
            "calls_a_round": calls,
            "seconds": list(seconds),
            "floor_ms": 1e3 * statistics.median(floors),
            "bound": row.bound(bandwidth, peak),
            "fraction_of_limit": statistics.median(
                floor / time for floor, time in zip(floors, seconds, strict=True)
            ),
            "bandwidth": bandwidth,
            "peak": peak,
            "error": error,
            "right": error <= row.tolerance,
            "idle_load": round(idle, 3),
        }

    def _refusal(self, client: Client) -> Record:
        reason = self.reasons[client.name]
        self.talk(f"{self.row.name}: {client.peer.name}, {client.setting}: {reason}")
        return {
            "suite": self.row.suite, "row": self.row.name, "peer": client.peer.name,
            "setting": client.setting, "reason": reason,
        }  # fmt: skip

    def _release(self) -> None:
        for client in self.clients:
            if client.name in self.reasons:
                # A peer that is not there is asked again for nothing, and one that failed may be in any state.
                client.stop()
                continue
            try:
                if client.ask("release")["resident"] > RESIDENT_LIMIT:
                    client.stop()
            except PeerFailedError:
                client.stop()


def promising(once: Mapping[Key, float]) -> dict[Key, float]:
    """Without the forms that took more than twice as long as another of the same peer and setting."""
    best: dict[tuple[str, str], float] = {}
    for key, seconds in once.items():
        best[key[:2]] = min(seconds, best.get(key[:2], seconds))
    return {key: seconds for key, seconds in once.items() if seconds <= 2 * best[key[:2]]}


def fastest_forms(seconds: Mapping[Key, Sequence[float]]) -> list[Key]:
    """For each peer and setting the form of the lowest median."""
    best: dict[tuple[str, str], Key] = {}
    for key, values in seconds.items():
        held = best.get(key[:2])
        if held is None or statistics.median(values) < statistics.median(seconds[held]):
            best[key[:2]] = key
    return list(best.values())


def with_ratios(records: Sequence[Record]) -> list[Record]:
    """Add `counts` (the better setting of each peer) and `ratio_to_best_peer`; take the rounds' seconds out.

    The ratio is the median over the rounds of the best peer's time over this record's: 2 is twice as fast as the best
    peer. A wrong answer is no peer to be compared with; without any peer the ratio is None.
    """
    best: dict[str, Record] = {}
    for record in records:
        held = best.get(record["peer"])
        if held is None or _merit(record) < _merit(held):
            best[record["peer"]] = record
    peers = [record for name, record in best.items() if name != "graphc" and record["right"]]
    rival = min(peers, key=lambda record: record["median_ms"], default=None)
    out = []
    for record in records:
        ratio = None
        if rival is not None:
            pairs = zip(rival["seconds"], record["seconds"], strict=True)
            ratio = statistics.median(theirs / own for theirs, own in pairs)
        new = {**record, "counts": best[record["peer"]] is record, "ratio_to_best_peer": ratio}
        new["best_peer"] = rival is record
        del new["seconds"]
        out.append(new)
    return out


def _merit(record: Record) -> tuple[bool, float, bool]:
    return not record["right"], record["median_ms"], record["setting"] != AS_IT_COMES
