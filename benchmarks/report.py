"""Joins the measurements of several processes into records with ratios, and writes them as JSON and as a table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

SCHEMA = 1
Record = dict[str, Any]


def with_ratios(records: Iterable[Record]) -> list[Record]:
    """Add `ratio`: the peer's median over graphc's of the same rounds; 1 for graphc itself, None without it."""
    rows = list(records)
    ours = {_rounds_of(record): record["median_ms"] for record in rows if record["peer"] == "graphc"}
    for record in rows:
        own = ours.get(_rounds_of(record))
        record["ratio"] = record["median_ms"] / own if own else None
    return rows


def _rounds_of(record: Record) -> tuple[str, str, str]:
    return record["suite"], record["row"], record["setting"]


def best_setting(records: Sequence[Record]) -> list[Record]:
    """One record for each row and peer: of its settings the one whose ratio favours the peer most.

    For graphc it is the setting as it comes, which is what its users get.
    """
    chosen: dict[tuple[str, str], Record] = {}
    for record in records:
        key = record["row"], record["peer"]
        held = chosen.get(key)
        if held is None or (record["peer"] != "graphc" and _favour(record) < _favour(held)):
            chosen[key] = record
    return list(chosen.values())


def _favour(record: Record) -> float:
    return float(record["ratio"] if record["ratio"] is not None else record["median_ms"])


def write(folder: Path, suite: str, machine: Mapping[str, Any], records: Sequence[Record]) -> Path:
    """Write <suite>.json and <suite>.md; rows of an earlier run that this one left out are kept, with their date."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{suite}.json"
    measured = {record["row"] for record in records}
    stamped = [{**record, "date": machine["date"]} for record in records]
    kept = [record for record in _earlier(path) if record["row"] not in measured]
    everything = kept + stamped
    _replace(
        path, json.dumps({"schema": SCHEMA, "machine": dict(machine), "records": everything}, indent=1) + "\n"
    )
    _replace(path.with_suffix(".md"), markdown(suite, machine, everything))
    return path


def _earlier(path: Path) -> list[Record]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return list(data["records"]) if data.get("schema") == SCHEMA else []


def _replace(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def markdown(suite: str, machine: Mapping[str, Any], records: Sequence[Record]) -> str:
    """The table beside the JSON: each row's candidates, the fastest setting of each peer."""
    lines = [
        f"# Benchmark: {suite}",
        "",
        f"{machine['processor']}, {machine['threads']} threads; {machine['versions']}; {machine['date']}.",
    ]
    if machine.get("bandwidth"):
        bandwidth, flops = machine["bandwidth"] / 1e9, machine["flops"] / 1e9
        lines.append(f"Limits probed in the same run: {bandwidth:.1f} GB/s, {flops:.0f} GFLOP/s.")
    lines += [
        "",
        "Medians of alternating rounds in one process. Peers run as they come and with an allocator that keeps its "
        "memory; the setting that favours the peer is shown. Ratio: the peer's time over graphc's in the same rounds. "
        "Limit: the least time that the row's bytes or operations take on this machine, over the median.",
        "",
        "| row | candidate | setting | median ms | IQR ms | ratio | of the limit | error |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [_line(record) for record in best_setting(records)]
    return "\n".join(lines) + "\n"


def _line(record: Record) -> str:
    cells = (
        record["row"],
        record["peer"],
        record["setting"],
        f"{record['median_ms']:.3g}",
        f"{record['iqr_ms']:.2g}",
        f"{record['ratio']:.2f}" if record["ratio"] is not None else "",
        f"{record['fraction_of_limit']:.2f}" if record.get("fraction_of_limit") else "",
        (f"{record['error']:.1e}" if record["right"] else f"WRONG {record['error']:.1e}")
        if "error" in record
        else "",
    )
    return f"| {' | '.join(cells)} |"
