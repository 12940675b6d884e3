"""Bytes of inner results on the nets of MXNet's memory figure: its planner replayed, and graphc's plan beside it.

    naive, inplace, co-share, both     MXNet 0.7's planner on the same Symbol (mxnet_plan.py)
    optimal, lower bound               graphc's plan of the compiled program, and the most bytes live at one step

Inner results only, as in the figure: no arguments, no gradients of arguments, no states, no outputs. Nothing is built
and nothing runs; sizes are known before.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import mxnet_plan
from rich.console import Console
from rich.table import Table

from graphc.driver.compile import Options, lower
from graphc.ir.graph import InputKind
from graphc.passes.gradient import gradient
from graphc.passes.plan import plan
from graphc.symbol import Symbol
from graphc.symbol.trace import trace

HERE = Path(__file__).parent
SCHEMA = 1
TITLES = {"alexnet": "AlexNet", "googlenet": "GoogLeNet", "vgg": "VGG-A", "inception_bn": "Inception-BN"}
STRATEGIES = tuple(mxnet_plan.STRATEGIES)
FIGURES = (*STRATEGIES, "optimal", "lower_bound")
MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Row:
    """One net in one mode, and what was published for it in bytes: one figure for each of MXNet's strategies.

    cudnn: whether the published figures were taken with cuDNN's operators, which keep more for their backward.
    """

    net: str
    batch: int
    training: bool
    published: Mapping[str, int]
    cudnn: bool = True

    @property
    def mode(self) -> str:
        return "training" if self.training else "forward"

    @property
    def title(self) -> str:
        return f"{TITLES[self.net]}, batch {self.batch}, {self.mode}"


def _published(*figures: int) -> dict[str, int]:
    return dict(zip(STRATEGIES, figures, strict=True))


ROWS = (
    Row("alexnet", 64, False, _published(399085568, 228534272, 149094400, 122847232)),
    Row("alexnet", 64, True, _published(834353408, 659345664, 540053760, 469700864)),
    Row("googlenet", 64, False, _published(2332012544, 1505597440, 540696576, 531464192)),
    Row("googlenet", 64, True, _published(5656049920, 4590936320, 2689003776, 2585178368)),
    Row("vgg", 64, False, _published(4209233920, 2297292800, 1698693120, 1055391744)),
    Row("vgg", 64, True, _published(8454650112, 6534189312, 5846978816, 5031317760)),
    Row("vgg", 1, False, {"both": 16490496}),
    Row("inception_bn", 32, False, _published(1759969536, 1281432832, 250813184, 255426304), False),
    Row("inception_bn", 32, True, _published(4147533184, 3020190080, 1619816832, 1445277056), False),
)
"""MXNet paper, figure 7 (arXiv:1512.01274), in bytes; Inception-BN is MXNet's memory example, on a CPU."""

MOST_OF_BOTH = 0.6
"""In training, `optimal` is to need at most this share of MXNet's `both`."""
MOST_OVER_BOUND = 1.03
ONE_IMAGE_BYTES = 16.5e6


def network(net: str) -> Symbol:
    """The Symbol of a net in examples/zoo."""
    folder = str(HERE.parent / "examples")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    result: Symbol = importlib.import_module(f"zoo.{net}").network()
    return result


def measure(row: Row) -> dict[str, int]:
    """The six figures of a row, in bytes."""
    symbol, shapes = network(row.net), {"data": (row.batch, 3, 224, 224)}
    figures = {
        strategy: mxnet_plan.planned_bytes(symbol, shapes, row.training, strategy, row.cudnn)
        for strategy in STRATEGIES
    }
    graph = trace(symbol, {**shapes, "softmax_label": (row.batch,)}, is_train=row.training)
    if row.training:
        graph = gradient(graph, [item.name for item in graph.inputs if item.kind is InputKind.PARAMETER])
    # What is compared is planning: neither side makes anything twice.
    made = plan(lower(graph, Options(recompute=0)).program)
    return {**figures, "optimal": made.size, "lower_bound": made.lower_bound}


def judge(row: Row, figures: Mapping[str, int]) -> list[str]:
    """What a row misses of what the plan must reach; nothing when all holds."""
    wrong = [
        f"{name} is {figures[name]:,}, published {value:,}"
        for name, value in row.published.items()
        if (figures[name] != value if name == "none" else figures[name] > value)
    ]
    if figures["optimal"] > MOST_OVER_BOUND * figures["lower_bound"]:
        wrong.append(f"optimal is {figures['optimal'] / figures['lower_bound']:.1%} of the lower bound")
    share = figures["optimal"] / figures["both"]
    if share > (MOST_OF_BOTH if row.training else 1.0):
        wrong.append(f"optimal is {share:.1%} of MXNet's both")
    if row.batch == 1 and figures["optimal"] >= ONE_IMAGE_BYTES:
        wrong.append(f"optimal is {figures['optimal']:,} bytes for one image")
    return wrong


Measured = Sequence[tuple[Row, Mapping[str, int]]]


def records(measured: Measured) -> list[dict[str, object]]:
    """JSON-ready rows."""
    return [
        {
            "net": TITLES[row.net],
            "batch": row.batch,
            "mode": row.mode,
            **figures,
            "published": asdict(row)["published"],
            "misses": judge(row, figures),
        }
        for row, figures in measured
    ]


def markdown(measured: Measured) -> str:
    """The table for readers."""
    heads = ("net", "batch", "mode", *FIGURES, "optimal / both", "optimal / bound", "as published")
    lines = [
        "# Memory of inner results, in bytes",
        "",
        "`none` to `both`: MXNet 0.7's planner replayed on the same Symbol, with its rules of what counts; `optimal` "
        "and `lower_bound`: graphc's plan, and the most bytes live at one of its steps. `make bench-memory`.",
        "",
        "Not counted on either side: arguments, their gradients, auxiliary states, scratch of convolutions. MXNet's "
        "figures hold the network's output (256 kB at batch 64), which is the caller's in graphc. The published "
        "training figures are those of cuDNN's operators, which keep more; with MXNet's own, `both` is "
        "332,853,504 (AlexNet), 1,708,704,000 (GoogLeNet) and 3,128,152,320 (VGG-A).",
        "",
        f"| {' | '.join(head.replace('_', ' ') for head in heads)} |",
        f"|{' --- |' * len(heads)}",
    ]
    for row, figures in measured:
        cells = [
            TITLES[row.net],
            str(row.batch),
            row.mode,
            *(f"{figures[name]:,}" for name in FIGURES),
            *(_ratios(figures)),
            _agreement(row, figures),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    misses = [f"- {row.title}: {what}" for row, figures in measured for what in judge(row, figures)]
    return "\n".join([*lines, "", *(["Short of the target:", "", *misses, ""] if misses else [])])


def _ratios(figures: Mapping[str, int]) -> tuple[str, str]:
    optimal = figures["optimal"]
    return f"{optimal / figures['both']:.1%}", f"{optimal / figures['lower_bound']:.2%}"


def _agreement(row: Row, figures: Mapping[str, int]) -> str:
    same = sum(figures[name] == value for name, value in row.published.items())
    return f"{same} of {len(row.published)}"


def show(measured: Measured) -> None:
    """Print the table on stdout, the published figures below ours, in MB."""
    table = Table(title="Memory of inner results, MB (below: published for MXNet 0.7)")
    table.add_column("net")
    for name in (*FIGURES, "of both", "of bound"):
        table.add_column(name.replace("_", " "), justify="right")
    for row, figures in measured:
        table.add_row(row.title, *(_megabytes(figures[name]) for name in FIGURES), *_ratios(figures))
        published = [_megabytes(row.published[n]) if n in row.published else "" for n in FIGURES]
        table.add_row("", *published, style="dim")
    (Console() if sys.stdout.isatty() else Console(width=140)).print(table)


def _megabytes(count: int) -> str:
    return f"{count / MEGABYTE:,.1f}"


def draw(measured: Measured, path: Path) -> None:
    """Bars for each net, forward and training, as in the published figure."""
    import matplotlib

    matplotlib.use("Agg")
    # The same bytes for the same figures: no random ids in the file, no date.
    matplotlib.rcParams["svg.hashsalt"] = "graphc"
    from matplotlib import pyplot

    names = (*STRATEGIES, "optimal")
    colours = ("#9aa5b1", "#6c8ebf", "#d6a85f", "#7aa874", "#b23a48")
    figure, panels = pyplot.subplots(1, 2, figsize=(12, 4.2))
    for panel, training in zip(panels, (False, True), strict=True):
        rows = [(row, figures) for row, figures in measured if row.training == training and row.batch > 1]
        for number, (name, colour) in enumerate(zip(names, colours, strict=True)):
            places = [k + 0.16 * (number - 2) for k in range(len(rows))]
            heights = [figures[name] / MEGABYTE for _, figures in rows]
            panel.bar(places, heights, 0.15, color=colour, label="graphc" if name == "optimal" else name)
        for k, (_, figures) in enumerate(rows):
            bound = figures["lower_bound"] / MEGABYTE
            panel.hlines(bound, k + 0.2, k + 0.44, color="black", label="lower bound" if k == 0 else None)
        labels = [f"{TITLES[row.net]}\nbatch {row.batch}" for row, _ in rows]
        panel.set_xticks(range(len(rows)), labels)
        panel.set_title("training" if training else "forward")
        panel.set_ylabel("MB of inner results")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def write(folder: Path, measured: Measured) -> None:
    """memory.json, memory.md and memory.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {"schema": SCHEMA, "unit": "bytes", "rows": records(measured)}
    (folder / "memory.json").write_text(json.dumps(data, indent=1) + os.linesep)
    (folder / "memory.md").write_text(markdown(measured))
    draw(measured, folder / "memory.svg")


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(TITLES)), help="One net; may be given again.")
@click.option("--results", type=click.Path(path_type=Path), default=HERE / "results", show_default=True)
@click.option("--no-write", is_flag=True, help="Print only.")
def main(only: tuple[str, ...], results: Path, no_write: bool) -> None:
    """Plan the nets of MXNet's memory figure and print the bytes; exit code 3 when a target is missed."""
    measured = [(row, measure(row)) for row in ROWS if not only or row.net in only]
    show(measured)
    if not no_write and not only:
        write(results, measured)
        click.echo(f"wrote memory.json, memory.md and memory.svg to {results}", err=True)
    misses = [f"{row.title}: {what}" for row, figures in measured for what in judge(row, figures)]
    for miss in misses:
        click.echo(f"short of the target: {miss}", err=True)
    sys.exit(3 if misses else 0)


if __name__ == "__main__":
    main()
