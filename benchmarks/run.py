"""make bench: fused kernels, training steps and compile time beside torch eager and torch.compile.

Results go to benchmarks/results/<suite>.json, a table beside each. Every figure comes from a child process, because
the settings of the C allocator must be in the environment before a process starts.
"""

from __future__ import annotations

import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from report import Record, best_setting, with_ratios, write
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
SUITES = ("fused", "training", "compile")
KEEP = str(1 << 32)
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "as it comes": {},
    "allocator keeps memory": {
        "MALLOC_TOP_PAD_": KEEP, "MALLOC_MMAP_THRESHOLD_": KEEP, "MALLOC_TRIM_THRESHOLD_": KEEP,
    },
}  # fmt: skip
talk = Console(stderr=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--suite", "suites", type=click.Choice(SUITES), multiple=True, help="Only these suites.")
@click.option("--only", multiple=True, help="Only rows whose name contains this text.")
@click.option("--peers", default="graphc,eager,compile", show_default=True, help="Which candidates run.")
@click.option("--quick", is_flag=True, help="Few rounds, one start, the environment as it comes.")
@click.option("--results", type=click.Path(path_type=Path), default=HERE / "results", show_default=True)
def main(suites: tuple[str, ...], only: tuple[str, ...], peers: str, quick: bool, results: Path) -> None:
    """Measure and write results; exit code 3 when a row fails or is further from float64 than 1e-4."""
    machine = describe_machine()
    everything: list[Record] = []
    with tempfile.TemporaryDirectory(prefix="graphc-bench-") as scratch:
        for suite in suites or SUITES:
            if suite == "compile":
                records = compile_suite(peers.split(","), quick, Path(scratch))
            else:
                records = kernel_suite(suite, only, peers, quick, Path(scratch), machine)
            if records:
                path = write(results, suite, machine, records)
                talk.print(f"wrote {path} and {path.with_suffix('.md').name}")
            everything += records
    show(everything)
    wrong = [record for record in everything if not record.get("right", True)]
    failures = machine.get("failures", {})
    for row, error in failures.items():
        talk.print(f"{row} failed: {error}", markup=False)
    for record in wrong:
        talk.print(f"{record['row']}: {record['peer']} is wrong: error {record['error']:.1e} against float64")
    sys.exit(3 if wrong or failures else 0)


def describe_machine() -> dict[str, Any]:
    """Processor, threads, versions, date: what a figure means nothing without."""
    from graphc.runtime.survey import _processor

    names = ("graphc", "torch", "numpy")
    return {
        "processor": _processor(),
        "threads": len(os.sched_getaffinity(0)),
        "versions": ", ".join(f"{name} {version(name)}" for name in names),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def kernel_suite(
    suite: str, only: Sequence[str], peers: str, quick: bool, scratch: Path, machine: dict[str, Any]
) -> list[Record]:
    """Rows of a suite in each setting of the allocator; the machine's median limits go into `machine`."""
    records: list[Record] = []
    settings = dict(list(SETTINGS.items())[:1]) if quick else SETTINGS
    for setting, environment in settings.items():
        talk.print(f"[bold]{suite}[/bold], {setting}")
        arguments = ["--suite", suite, "--peers", peers, "--rounds", "5" if quick else "15"]
        arguments += [word for name in only for word in ("--only", name)]
        result = child(
            "worker.py", arguments, {**environment, "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor")}
        )
        records += [{**record, "setting": setting} for record in result["records"]]
        machine.setdefault("failures", {}).update(result["failures"])
    for limit in ("bandwidth", "flops"):
        machine[limit] = statistics.median([record[limit] for record in records] or [0.0])
    return with_ratios(records)


def compile_suite(peers: Sequence[str], quick: bool, scratch: Path) -> list[Record]:
    """Cold and warm starts of the LeNet training step, each in a process of its own."""
    records: list[Record] = []
    starts = 1 if quick else 3
    wanted = [peer for peer in ("graphc", "compile", "compile_whole") if peer.partition("_")[0] in peers]
    for peer in wanted:
        # Three cold starts of torch.compile would take minutes and differ by little.
        cold_starts = starts if peer == "graphc" else 1
        colds, warms = [], []
        for number in range(cold_starts):
            talk.print(f"[bold]compile[/bold], {peer}: cold start {number + 1} of {cold_starts}")
            folder = scratch / f"{peer}-{number}"
            colds.append(start(peer, folder))
        for number in range(starts):
            talk.print(f"[bold]compile[/bold], {peer}: warm start {number + 1} of {starts}")
            warms.append(start(peer, folder))
        for kind, results in (("cold", colds), ("warm", warms)):
            records.append(_start_record(kind, peer, results))
    return with_ratios(records)


def start(peer: str, folder: Path) -> dict[str, float]:
    """One start with all caches under `folder`."""
    caches = {
        "GRAPHC_CACHE_DIR": str(folder / "graphc"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
    }
    return child("compile_time.py", [peer], caches)


def _start_record(kind: str, peer: str, results: Sequence[Mapping[str, float]]) -> Record:
    seconds = [result["start_s"] for result in results]
    spread = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else [0.0, 0.0, 0.0]
    return {
        "suite": "compile",
        "row": f"LeNet training step, {kind} start",
        "peer": peer,
        "setting": "as it comes",
        "median_ms": 1e3 * statistics.median(seconds),
        "iqr_ms": 1e3 * (spread[2] - spread[0]),
        "rounds": len(seconds),
        "import_ms": 1e3 * statistics.median(result["import_s"] for result in results),
    }


def child(script: str, arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run a script beside this one in a new process and read the JSON that it prints last."""
    command = [sys.executable, str(HERE / script), *arguments]
    result = subprocess.run(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=False
    )
    if result.returncode:
        raise click.ClickException(f"{script} {' '.join(arguments)} ended with exit code {result.returncode}")
    data: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return data


def show(records: Sequence[Record]) -> None:
    """Print the table on stdout."""
    table = Table(
        "row", "candidate", "median ms", "IQR ms", "ratio", "of limit", "error", title="graphc beside torch"
    )
    for record in best_setting(records):
        table.add_row(
            record["row"],
            record["peer"],
            f"{record['median_ms']:.3g}",
            f"{record['iqr_ms']:.2g}",
            f"{record['ratio']:.2f}" if record["ratio"] is not None else "",
            f"{record['fraction_of_limit']:.2f}" if record.get("fraction_of_limit") else "",
            f"{record['error']:.1e}" if "error" in record else "",
        )
    (Console() if sys.stdout.isatty() else Console(width=160)).print(table)


if __name__ == "__main__":
    main()
