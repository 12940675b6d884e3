"""The results file: rows of this run merged into those of earlier ones, and the table made from it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

SCHEMA = 2
SUITES = {
    "fused": "Fused kernels and matrix products",
    "training": "Training steps",
    "inference": "Inference",
}
Record = dict[str, Any]
Results = dict[str, Any]


def load(path: Path) -> Results:
    """The results at `path`, or none yet; a file of another schema counts as none."""
    try:
        data: Results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        data = {}
    return data if data.get("schema") == SCHEMA else {"schema": SCHEMA, "machine": {}, "records": []}


def merge(
    results: Results, machine: Mapping[str, Any], records: Sequence[Record], order: Sequence[str]
) -> Results:
    """Results with the rows of `records` in place of their earlier ones; `order` gives the names of all rows.

    A peer that this run left out keeps its earlier record of a row only if the row was not measured again: figures
    of different runs do not stand beside each other in one row.
    """
    measured = {(record["suite"], record["row"]) for record in records}
    kept = [record for record in results["records"] if (record["suite"], record["row"]) not in measured]
    dated = [{**record, "date": machine["date"]} for record in records]
    suites = list(SUITES)
    place = {name: number for number, name in enumerate(order)}

    def key(record: Record) -> tuple[int, int]:
        return suites.index(record["suite"]), place.get(record["row"], len(place))

    merged = sorted(kept + dated, key=key)
    return {"schema": SCHEMA, "machine": {**machine, **_ranges(merged)}, "records": merged}


def _ranges(records: Iterable[Record]) -> dict[str, list[float]]:
    ranges: dict[str, list[float]] = {}
    for limit in ("bandwidth", "peak"):
        values = [record[limit] for record in records if limit in record]
        if values:
            ranges[limit] = [min(values), max(values)]
    return ranges


def save(path: Path, results: Results) -> None:
    """Write the JSON file whole, and the table beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, json.dumps(results, indent=1) + "\n")
    _replace(path.with_suffix(".md"), markdown(results))


def _replace(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def counting(records: Iterable[Record]) -> list[Record]:
    """One record for each row and peer: the setting that counts, or the reason why there is none."""
    records = list(records)
    ran = {(r["suite"], r["row"], r["peer"]) for r in records if r.get("counts")}
    out, told = [], set()
    for record in records:
        key = record["suite"], record["row"], record["peer"]
        if record.get("counts"):
            out.append(record)
        elif "reason" in record and key not in ran | told:
            told.add(key)
            out.append(record)
    return out


def headline(machine: Mapping[str, Any]) -> str:
    """Device, threads, limits, versions and date in one paragraph."""
    text = f"{machine['processor']}, {machine['threads']} threads"
    if "bandwidth" in machine:
        low, high = (value / 1e9 for value in machine["bandwidth"])
        text += f", {low:.0f} to {high:.0f} GB/s"
    if "peak" in machine:
        low, high = (value / 1e9 for value in machine["peak"])
        text += f", {low:.0f} to {high:.0f} GFLOP/s f32 (probed in every round)"
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return f"{text}; {versions}; {machine['date']}."


def markdown(results: Results) -> str:
    """A table a suite: a line a row, graphc first, the best peer named."""
    lines = [
        "# CPU: graphc beside its peers",
        "",
        headline(results["machine"]),
        "",
        "Median milliseconds of alternating rounds; every answer was checked against float64. Peers run as they come "
        "and with a C allocator that keeps its memory (*); the better setting counts. Floor: the least time that the "
        "row's bytes (B) or operations (F) take at the limits of the same rounds. Of limit: floor over graphc's time. "
        "Ratio: the best peer's time (bold) over graphc's. `make bench-cpu` makes this table from cpu.json.",
    ]
    records = counting(results["records"])
    for suite, title in SUITES.items():
        rows = [record for record in records if record["suite"] == suite]
        if rows:
            lines += ["", f"## {title}", "", *_table(rows)]
    reasons = _reasons(records)
    if reasons:
        lines += ["", "## Not measured", "", *reasons]
    return "\n".join(lines) + "\n"


def _table(records: Sequence[Record]) -> list[str]:
    peers = [name for name in dict.fromkeys(r["peer"] for r in records) if name != "graphc"]
    lines = [
        f"| row | floor | graphc | of limit | {' | '.join([*peers, 'ratio', 'error'])} |",
        f"| --- |{' ---: |' * (len(peers) + 5)}",
    ]
    for row in dict.fromkeys(record["row"] for record in records):
        held = {record["peer"]: record for record in records if record["row"] == row}
        ours = held.get("graphc", {})
        timed = next((record for record in held.values() if "median_ms" in record), {})
        bound = {"memory": " B", "arithmetic": " F"}.get(timed.get("bound", ""), "")
        cells = [
            row,
            f"{timed['floor_ms']:.3g}{bound}" if timed.get("floor_ms") else "",
            _cell(ours),
            f"{ours['fraction_of_limit']:.2f}" if ours.get("fraction_of_limit") else "",
            *(_cell(held.get(peer, {})) for peer in peers),
            f"{ours['ratio_to_best_peer']:.2f}" if ours.get("ratio_to_best_peer") else "",
            f"{ours['error']:.1e}" if "error" in ours else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def row_table(records: Sequence[Record]) -> list[str]:
    """One row in full: every peer in every setting, with its spread, limit, ratio, error or reason."""
    lines = [f"{records[0]['row']}" if records else ""]
    for record in records:
        who = f"  {record['peer']:<14}{record['setting']:<24}"
        if "reason" in record:
            lines.append(f"{who}{record['reason']}")
            continue
        ratio = record["ratio_to_best_peer"]
        lines.append(
            f"{who}{record['median_ms']:>9.3f} ms  +-{record['iqr_ms']:<8.2g}"
            f"{record['fraction_of_limit']:>6.2f} of limit  {'' if ratio is None else f'x{ratio:.2f}':<7} "
            f"{'' if record['right'] else 'WRONG '}{record['error']:.1e}  {record['form']}"
            f"{' (best peer)' if record['best_peer'] else ''}"
        )
    return lines


def _cell(record: Mapping[str, Any]) -> str:
    if "median_ms" not in record:
        return "-" if "reason" in record else ""
    if not record["right"]:
        return f"WRONG ({record['error']:.1e})"
    text = f"{record['median_ms']:.3g}"
    if record["best_peer"]:
        text = f"**{text}**"
    return text if record["setting"] == "as it comes" else f"{text}\\*"


def _reasons(records: Iterable[Record]) -> list[str]:
    """Why peers are missing, rows with one reason together."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for record in records:
        if "reason" in record:
            rows.setdefault((record["suite"], record["peer"], record["reason"]), []).append(record["row"])
    return [
        f"- {peer}, {suite}: {reason} ({'; '.join(names)})" for (suite, peer, reason), names in rows.items()
    ]
