"""Measures the rows of one suite in this process and prints the records as JSON; started by run.py.

All candidates of a row run in alternating rounds, and the machine's limits are probed in every round.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Sequence
from typing import Any

import click
import torch
from candidate import Candidate, Row
from rows import ROWS

from graphc.runtime.limits import Limits
from graphc.runtime.measure import Timing, alternate

TOLERANCE = 1e-4
"""A result further than this from float64 is wrong, and its time counts for nothing."""


def measure(row: Row, peers: Sequence[str], limits: Limits, rounds: int) -> list[dict[str, Any]]:
    """The records of one row: a time, an error and a fraction of the machine's limit for each candidate."""
    torch.manual_seed(0)
    candidates = row.make(peers)
    errors: dict[str, float] = {}
    for candidate in candidates:
        print(f"  {row.name}: {candidate.name}: checking against float64", file=sys.stderr, flush=True)
        errors[candidate.name] = candidate.error()
        gc.collect()
    limits.begin()
    timings = alternate({c.name: c.call for c in candidates}, rounds=rounds, each_round=limits.probe)
    return [_record(row, c, timings[c.name], errors[c.name], limits) for c in candidates]


def _record(row: Row, candidate: Candidate, timing: Timing, error: float, limits: Limits) -> dict[str, Any]:
    fastest = max(row.nbytes / limits.bandwidth, row.flops / limits.flops)
    return {
        "suite": row.suite,
        "row": row.name,
        "peer": candidate.name,
        "median_ms": 1e3 * timing.median,
        "iqr_ms": 1e3 * timing.iqr,
        "best_ms": 1e3 * timing.best,
        "rounds": timing.rounds,
        "calls_a_round": timing.calls,
        "limit_ms": 1e3 * fastest,
        "bandwidth": limits.bandwidth,
        "flops": limits.flops,
        "fraction_of_limit": fastest / timing.median,
        "error": error,
        "right": error <= TOLERANCE,
    }


def selected(suite: str, only: Sequence[str]) -> list[Row]:
    """The rows of a suite whose name contains one of `only`, or all of them."""
    return [row for row in ROWS[suite] if not only or any(word.lower() in row.name.lower() for word in only)]


@click.command()
@click.option("--suite", type=click.Choice(list(ROWS)), required=True)
@click.option("--only", multiple=True)
@click.option("--peers", default="graphc,eager,compile")
@click.option("--rounds", default=15)
def main(suite: str, only: tuple[str, ...], peers: str, rounds: int) -> None:
    """Print {"records", "failures", "threads"} for the selected rows."""
    limits = Limits()
    records: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    for row in selected(suite, only):
        try:
            records += measure(row, peers.split(","), limits, rounds)
        except Exception as error:
            # One row that fails must not take the others' hours with it; it is reported at the end.
            failures[row.name] = f"{type(error).__name__}: {error}"
        torch._dynamo.reset()
        gc.collect()
    print(json.dumps({"records": records, "failures": failures, "threads": limits.threads}))


if __name__ == "__main__":
    main()
