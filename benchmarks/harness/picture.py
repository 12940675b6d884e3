"""cpu.svg from cpu.json: how far each peer is from the machine's limit, a line a row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.report import SUITES, Record, counting

STYLE = {
    "graphc": ("#b23a48", "o", 60),
    "torch eager": ("#9aa5b1", "s", 22),
    "torch.compile": ("#6c8ebf", "^", 26),
    "JAX": ("#7aa874", "D", 20),
    "ONNX Runtime": ("#d6a85f", "v", 26),
    "OpenVINO": ("#8a6fae", "P", 28),
}


def draw(results: Mapping[str, Any], path: Path) -> None:
    """One panel a suite, each peer a marker at the fraction of the machine's limit that it reaches."""
    import matplotlib

    matplotlib.use("Agg")
    # The same bytes for the same figures: no random ids in the file, no date.
    matplotlib.rcParams["svg.hashsalt"] = "graphc"
    from matplotlib import pyplot

    records = [r for r in counting(results["records"]) if r.get("right") and r.get("fraction_of_limit")]
    suites = {suite: [r for r in records if r["suite"] == suite] for suite in SUITES}
    suites = {suite: rows for suite, rows in suites.items() if rows}
    if not suites:
        return
    heights = [len({record["row"] for record in rows}) for rows in suites.values()]
    figure, panels = pyplot.subplots(
        len(suites), 1, figsize=(9, 1.6 + 0.3 * sum(heights) + 0.5 * len(heights)), sharex=True, squeeze=False,
        gridspec_kw={"height_ratios": [height + 1 for height in heights]},
    )  # fmt: skip
    for panel, (suite, rows) in zip(panels[:, 0], suites.items(), strict=True):
        _panel(panel, SUITES[suite], rows)
    panels[-1, 0].set_xlabel("fraction of the machine's limit, probed in the same rounds")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.4 / figure.get_figheight()))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def _panel(panel: Any, title: str, records: list[Record]) -> None:
    names = list(dict.fromkeys(record["row"] for record in records))
    for peer, (colour, marker, size) in reversed(STYLE.items()):
        held = [record for record in records if record["peer"] == peer]
        panel.scatter(
            [record["fraction_of_limit"] for record in held],
            [names.index(record["row"]) for record in held],
            c=colour, marker=marker, s=size, label=peer, zorder=3 if peer == "graphc" else 2,
        )  # fmt: skip
    panel.axvline(1.0, color="black", linewidth=0.8)
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.set_xlim(0, 1.15)
    panel.grid(axis="y", linewidth=0.4)
    panel.set_title(title, loc="left")
    panel.spines[["top", "right"]].set_visible(False)
