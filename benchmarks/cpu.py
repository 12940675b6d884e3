"""make bench-cpu: fused kernels, training steps and inference on the CPU, graphc beside five peers.

Rows are written as they come: those of a full run, or of one with --update, to benchmarks/results/cpu.json (with
cpu.md and cpu.svg beside it), those of any other run to build/bench/. benchmarks/README.md says
how a figure comes about.
"""

from __future__ import annotations

import datetime
import importlib
import os
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from harness import report
from harness.client import Client, PeerFailedError
from harness.contest import Contest, Effort, Record
from harness.peers import PEERS, REFERENCE, SCRATCH, SETTINGS, Peer, select
from harness.picture import draw
from harness.row import Row

RESULTS = Path(__file__).parent / "results"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--suite", "suites", type=click.Choice(list(report.SUITES)), multiple=True, help="Only these suites."
)
@click.option("--only", multiple=True, help="Only rows whose name contains this text; may be given again.")
@click.option("--peers", default=",".join(PEERS), show_default=True, help="Who runs.")
@click.option(
    "--rounds", type=click.IntRange(1), default=15, show_default=True, help="At most so many rounds."
)
@click.option("--quick", is_flag=True, help="Fewer rounds; libraries as they come only.")
@click.option(
    "--threads", type=click.IntRange(1), default=len(os.sched_getaffinity(0)), show_default="all cores"
)
@click.option("--update", is_flag=True, help="Merge the rows of a partial run into the results, too.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
@click.option("--seed", type=int, help="Of the inputs; a new one each run by default.")
def main(
    suites: tuple[str, ...],
    only: tuple[str, ...],
    peers: str,
    rounds: int,
    quick: bool,
    threads: int,
    update: bool,
    results: Path,
    seed: int | None,
) -> None:
    """Measure and write results; exit code 3 when an answer of graphc is wrong or missing."""
    # Before the probes' OpenMP team starts.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        chosen = select(peers)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--peers") from None
    rows = selected(suites, only)
    if not rows:
        raise click.BadParameter("no row has such a name", param_hint="--only")
    whole = not (suites or only or quick or len(chosen) < len(PEERS))
    path = (results if whole or update else SCRATCH) / "cpu.json"
    if path.parent == SCRATCH:
        path.unlink(missing_ok=True)
    effort = Effort(rounds=rounds)
    if quick:
        effort = replace(effort, rounds=min(rounds, 5), row_seconds=8.0, least_rounds=3)
    seed = random.SystemRandom().randrange(1 << 30) if seed is None else seed
    records = run(
        rows, chosen, tuple(SETTINGS)[:1] if quick else tuple(SETTINGS), effort, threads, seed, path
    )
    ours = [record for record in records if record["peer"] == "graphc"]
    failed = [record["row"] for record in ours if not record.get("right")]
    for name in failed:
        say(f"graphc fails at {name}")
    sys.exit(3 if failed else 0)


def selected(suites: Sequence[str], only: Sequence[str]) -> list[Row]:
    """The rows of the suites whose name contains one of `only`, or all of them."""
    rows: list[Row] = []
    for suite in suites or report.SUITES:
        rows += rows_of(suite)
    return [row for row in rows if not only or any(word.lower() in row.name.lower() for word in only)]


def rows_of(suite: str) -> tuple[Row, ...]:
    """ROWS of a suite."""
    rows: tuple[Row, ...] = importlib.import_module(f"{suite}.rows").ROWS
    return rows


def run(
    rows: Sequence[Row],
    peers: Sequence[Peer],
    settings: Sequence[str],
    effort: Effort,
    threads: int,
    seed: int,
    path: Path,
) -> list[Record]:
    """Measure rows one after another and merge each into the results at `path`; Ctrl-C keeps what is there."""
    from graphc.runtime.limits import Limits

    logs = SCRATCH / "logs"
    order = [row.name for suite in report.SUITES for row in rows_of(suite)]
    records: list[Record] = []
    with ExitStack() as stack:
        reference = Client(REFERENCE, REFERENCE.settings[0], threads, logs)
        clients = [
            Client(peer, setting, threads, logs)
            for peer in peers
            for setting in settings
            if setting in peer.settings
        ]
        for client in (reference, *clients):
            stack.callback(client.stop)
        missing = start(clients)
        machine = describe_machine(threads, clients)
        limits = Limits()
        try:
            for row in rows:
                contest = Contest(
                    row, clients, reference, limits, seed, effort, SCRATCH, say, reasons=dict(missing)
                )
                made = contest.run()
                records += made
                results = report.merge(report.load(path), machine, made, order)
                report.save(path, results)
                show(results, row)
        except KeyboardInterrupt:
            say("stopped; the rows above are written")
    if records:
        draw(report.load(path), path.with_suffix(".svg"))
        say(f"wrote {path}, {path.stem}.md and {path.stem}.svg")
    return records


def start(clients: Sequence[Client]) -> dict[tuple[str, str], str]:
    """Start every peer's process; the reasons of those that cannot."""

    def reason(client: Client) -> str:
        try:
            client.start()
        except PeerFailedError as error:
            say(f"{client.peer.name}, {client.setting}: {error}")
            return str(error)
        return ""

    with ThreadPoolExecutor(2) as pool:
        reasons = list(pool.map(reason, clients))
    return {client.name: text for client, text in zip(clients, reasons, strict=True) if text}


def describe_machine(threads: int, clients: Sequence[Client]) -> dict[str, Any]:
    """Processor, threads, versions, date: what a figure means nothing without."""
    from graphc.runtime.survey import _processor

    versions: dict[str, str] = {}
    for client in clients:
        versions |= client.versions
    return {
        "processor": _processor(),
        "threads": threads,
        "versions": versions,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def say(text: str) -> None:
    """Progress, on stderr."""
    click.echo(text, err=True)


def show(results: report.Results, row: Row) -> None:
    """Print one row's table on stdout."""
    lines = report.row_table(
        [r for r in results["records"] if (r["suite"], r["row"]) == (row.suite, row.name)]
    )
    click.echo("\n".join(lines))


if __name__ == "__main__":
    main()
