"""Memory budgets: bytes, operations and time of a training step, plain and with part of the forward pass run again.

    make bench-recompute        results/recompute.json, .md and .svg

A budget is a fraction of the plain plan's arena. Every step starts from the same parameters and must give the same
bits as the plain one. The least budget of each net, near which memory grows like the square root of the layers, is
found by asking for less.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import torch

import graphc as mx
from graphc.diagnostics import GraphcError
from graphc.driver.compile import Options
from graphc.driver.executable import Executable
from graphc.ir.graph import Graph
from graphc.training import training_graph

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "examples"))

SCHEMA = 1
BUDGETS = (0.75, 0.5, 0.25)
MEGABYTE = 1e6


def chain() -> Graph:
    """100 dense layers of 256 with tanh, 1024 rows."""
    result = mx.sym.Variable("data")
    for layer in range(100):
        result = mx.sym.FullyConnected(result, num_hidden=256, name=f"fc{layer}")
        result = mx.sym.Activation(result, act_type="tanh", name=f"tanh{layer}")
    net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(result, num_hidden=10, name="head"), name="softmax")
    return training_graph(net, mx.optimizer.SGD(0.1), shapes={"data": (1024, 256), "softmax_label": (1024,)})


def transformer(
    blocks: int = 24, batch: int = 8, length: int = 128, width: int = 128, heads: int = 4
) -> Graph:
    """24 blocks of width 128 with attention, 8 sequences of 128 tokens, Adam."""
    size = width // heads

    def dense(value: mx.Symbol, hidden: int, name: str) -> mx.Symbol:
        return mx.sym.FullyConnected(value, num_hidden=hidden, flatten=False, name=name)

    def by_head(value: mx.Symbol) -> mx.Symbol:
        cut = mx.sym.transpose(mx.sym.Reshape(value, shape=(batch, length, heads, size)), axes=(0, 2, 1, 3))
        return mx.sym.Reshape(cut, shape=(batch * heads, length, size))

    data = mx.sym.Embedding(mx.sym.Variable("data"), input_dim=256, output_dim=width, name="embedding")
    for block in range(blocks):
        name = f"block{block}"
        normal = mx.sym.LayerNorm(data, name=f"{name}_norm1")
        query, key, value = (by_head(dense(normal, width, f"{name}_{what}")) for what in "qkv")
        scores = mx.sym.softmax(mx.sym.batch_dot(query, key, transpose_b=True) * size**-0.5, axis=-1)
        mixed = mx.sym.Reshape(mx.sym.batch_dot(scores, value), shape=(batch, heads, length, size))
        mixed = mx.sym.Reshape(mx.sym.transpose(mixed, axes=(0, 2, 1, 3)), shape=(batch, length, width))
        data = data + dense(mixed, width, f"{name}_mix")
        wide = mx.sym.gelu(dense(mx.sym.LayerNorm(data, name=f"{name}_norm2"), 4 * width, f"{name}_wide"))
        data = data + dense(wide, width, f"{name}_narrow")
    rows = mx.sym.Reshape(mx.sym.LayerNorm(data, name="norm"), shape=(batch * length, width))
    net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(rows, num_hidden=256, name="head"), name="softmax")
    shapes = {"data": (batch, length), "softmax_label": (batch * length,)}
    return training_graph(net, mx.optimizer.Adam(0.001), shapes=shapes)


def resnet50() -> Graph:
    """ResNet-50, 16 pictures of 224x224, momentum."""
    from zoo.resnet import network

    shapes = {"data": (16, 3, 224, 224), "softmax_label": (16,)}
    return training_graph(network(), mx.optimizer.SGD(0.01, momentum=0.9), shapes=shapes)


NETS: dict[str, Callable[[], Graph]] = {
    "chain of 100 layers": chain,
    "transformer of 24 blocks": transformer,
    "ResNet-50, batch 16": resnet50,
}


@dataclass(frozen=True, slots=True)
class Row:
    """A net under a budget (1 is the plain plan); bytes of the arena, seconds of a step, seconds of planning."""

    net: str
    budget: float
    arena: int
    operations: int
    launches: int
    repeated: int
    seconds: float
    compile_seconds: float
    same_bits: bool


def compiled(graph: Graph, budget: float | None) -> tuple[Executable, float]:
    """The step under a budget, and the seconds of passes, fusion, planning and code generation.

    Without a budget nothing runs again, not even what does by default.
    """
    options = Options(recompute=0) if budget is None else None
    start = time.perf_counter()
    made = mx.compile(graph, memory_budget=budget, options=options)
    return made, time.perf_counter() - start - made.build_report["build"]


def least(graph: Graph) -> float:
    """The lowest fraction that can be met, which the error names."""
    try:
        mx.compile(graph, memory_budget=0.0001)
    except GraphcError as error:
        found = re.search(r"the lowest that can is ([0-9.]+)", error.diagnostic.message)
        if found is not None:
            return float(found[1])
        raise
    raise AssertionError("a ten-thousandth of the plan was met")


def step_of(made: Executable, seed: int = 0) -> Callable[[], torch.Tensor]:
    """A call that runs one step from tame parameters."""
    generator = torch.Generator().manual_seed(seed)
    made.initialize(mx.init.Xavier())
    states = {}
    for name, state in sorted(made.states.items()):
        if state.dtype.is_floating_point and name.endswith(("weight", "bias")):
            states[name] = 0.05 * torch.randn(state.shape, generator=generator)
        elif name.endswith(("gamma", "moving_var")):
            states[name] = torch.ones(state.shape)
    made.set_states(states)
    inputs = {}
    for item in made.data_inputs:
        shape = item.value.type.concrete_shape({})
        if item.name == "learning_rate":
            inputs[item.name] = torch.tensor(0.001)
        elif (len(shape) < 3 and "embedding_weight" in made.states) or item.name.endswith("label"):
            inputs[item.name] = torch.randint(0, 10, shape, generator=generator).float()
        else:
            inputs[item.name] = torch.randn(shape, generator=generator)

    def call() -> torch.Tensor:
        (result,) = made.run(**inputs).values()
        assert isinstance(result, torch.Tensor)
        return result

    return call


def measure(net: str, rounds: int, seconds: float) -> list[Row]:
    """The rows of a net: plain, the budgets that can be met, and the least."""
    graph = NETS[net]()
    lowest = least(graph)
    budgets = [None, *(budget for budget in BUDGETS if budget > lowest), lowest]
    made = [compiled(graph, budget) for budget in budgets]
    calls = [step_of(executable) for executable, _ in made]
    # Two steps: the second one shows whether every parameter has been updated to the same bits.
    firsts = [(call(), call()) for call in calls]
    times: list[list[float]] = [[] for _ in made]
    for _ in range(rounds):
        for record, call in zip(times, calls, strict=True):
            start = time.perf_counter()
            call()
            record.append(time.perf_counter() - start)
            if sum(map(sum, times)) > seconds and all(times):
                break
    plain = made[0][0]
    rows = []
    for budget, (executable, spent), first, record in zip(budgets, made, firsts, times, strict=True):
        report = executable.memory()["recompute"]
        same = all(torch.equal(a, b) for a, b in zip(first, firsts[0], strict=True)) and all(
            torch.equal(firsts_state, state)
            for firsts_state, state in zip(plain.states.values(), executable.states.values(), strict=True)
        ) if len(record) == len(times[0]) else all(
            torch.equal(a, b) for a, b in zip(first, firsts[0], strict=True)
        )  # fmt: skip
        rows.append(
            Row(
                net,
                1.0 if budget is None else budget,
                executable.plan().size,
                0 if report is None else report["operations_added"],
                len(executable.program.steps),
                0 if report is None else report["launches"],
                sorted(record)[len(record) // 2],
                spent,
                same,
            )
        )
    operations = next(
        executable.memory()["recompute"]["operations"]
        for executable, _ in made
        if executable.program.recomputed
    )
    return [Row(**(asdict(row) | {"operations": operations + row.operations})) for row in rows]


def markdown(rows: list[Row]) -> str:
    """The table."""
    lines = [
        "# Memory budgets",
        "",
        "A training step, plain and under memory budgets: part of the forward pass runs again in the backward pass.",
        "Budgets are fractions of the plain plan's arena (workspaces included); the last one of each net is the lowest",
        f"that can be met. Times: medians, {os.cpu_count()} cores. `make bench-recompute` writes this.",
        "",
        "| net | budget | arena, MB | of plain | more FLOPs | launches | step, ms | of plain | planned, s | equal |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    plain = {row.net: row for row in rows if row.budget == 1.0}
    for row in rows:
        base = plain[row.net]
        lines.append(
            f"| {row.net} | {'plain' if row is base else f'{row.budget:g}'} | {row.arena / MEGABYTE:,.1f} "
            f"| {row.arena / base.arena:.1%} | {row.operations / base.operations - 1:+.1%} "
            f"| {row.launches} | {1000 * row.seconds:.1f} | {row.seconds / base.seconds:.2f} "
            f"| {row.compile_seconds:.1f} | {'yes' if row.same_bits else 'NO'} |"
        )
    return "\n".join([*lines, ""])


def draw(rows: list[Row], path: Path) -> None:
    """Memory against operations and time, a line a net."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "graphc"
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 3.8), sharex=True)
    for net in dict.fromkeys(row.net for row in rows):
        own = [row for row in rows if row.net == net]
        base = own[0]
        share = [row.arena / base.arena for row in own]
        panels[0].plot(share, [100 * (row.operations / base.operations - 1) for row in own], "o-", label=net)
        panels[1].plot(share, [100 * (row.seconds / base.seconds - 1) for row in own], "o-", label=net)
    for panel, title in zip(panels, ("more operations, %", "more time, %"), strict=True):
        panel.set_xlabel("arena, of the plain plan's")
        panel.set_title(title)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def write(folder: Path, rows: list[Row]) -> None:
    """recompute.json, recompute.md and recompute.svg; nets that were not measured keep their rows."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recompute.json"
    known = [Row(**row) for row in json.loads(path.read_text())["rows"]] if path.exists() else []
    measured = {row.net for row in rows}
    merged = [row for net in NETS for row in (rows if net in measured else known) if row.net == net]
    data = {"schema": SCHEMA, "unit": "bytes, operations, seconds", "rows": [asdict(row) for row in merged]}
    path.write_text(json.dumps(data, indent=1) + "\n")
    (folder / "recompute.md").write_text(markdown(merged))
    draw(merged, folder / "recompute.svg")


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(NETS)), help="One net; may be given again.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=60.0, show_default=True, help="Of measuring, a net.")
@click.option("--results", type=click.Path(path_type=Path), default=HERE / "results", show_default=True)
def main(only: tuple[str, ...], rounds: int, seconds: float, results: Path) -> None:
    """Measure training steps under memory budgets; exit code 3 when any bit differs from the plain step's."""
    rows = []
    for net in only or NETS:
        rows += measure(net, rounds, seconds)
        write(results, rows)
    click.echo(markdown(rows))
    sys.exit(0 if all(row.same_bits for row in rows) else 3)


if __name__ == "__main__":
    main()
