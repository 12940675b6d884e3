"""Resident memory of a training step beside torch, eager and compiled: each in a process of its own, measured alike.

    baseline   resident bytes after the imports and after the inputs are made
    peak       the most resident bytes during the third and fourth step, when compilers and caches have settled
    growth     peak - baseline: parameters, gradients, optimizer states, activations, workspace, what compiling left

The same network, parameters, data and optimizer (SGD with momentum) for all; the loss after four steps must agree.
The counter of the most resident bytes is the kernel's (VmHWM), set back before the steps that count.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

HERE = Path(__file__).parent
SCHEMA = 1
PEERS = ("torch", "torch.compile")
OURS: Mapping[str, float | None] = {"graphc": None, "graphc, budget": 0.7}
"""graphc as it is, and with a memory budget: a share of the arena of its plain plan."""
TARGET = 0.7
"""The share of the better peer's growth that graphc may take."""
SETTLING, COUNTED = 2, 2
RATE, MOMENTUM = 0.01, 0.9
CLOSE = 0.02
"""The relative difference of losses after all steps that rounding and its growth over the steps explain."""


@dataclass(frozen=True, slots=True)
class Task:
    """A training step: sizes of a batch, and the vocabulary or classes."""

    title: str
    batch: int
    classes: int
    length: int = 0
    layers: int = 0
    units: int = 0

    @property
    def rows(self) -> int:
        """Predictions in a batch."""
        return self.batch * max(self.length, 1)


TASKS: Mapping[str, Task] = {
    "resnet50": Task("ResNet-50, batch 16, 224x224", 16, 1000),
    "transformer": Task("6-block transformer, 512 wide, batch 8 of 256 words", 8, 8192, 256, 6, 512),
    "head": Task("language model head, 2048 rows of 512 to 131072 words", 2048, 131072, units=512),
}


# What a worker process does


def inputs(name: str, task: Task) -> dict[str, Any]:
    """Data and labels, equal in every process."""
    import torch

    generator = torch.Generator().manual_seed(7)
    labels = torch.randint(0, task.classes, (task.rows,), generator=generator)
    if name == "transformer":
        words = torch.randint(0, task.classes, (task.batch, task.length), generator=generator)
        return {"data": words, "labels": labels}
    shape = (task.batch, 3, 224, 224) if name == "resnet50" else (task.batch, task.units)
    return {"data": torch.randn(shape, generator=generator), "labels": labels}


def row_losses(scores: Any) -> Any:
    """The cross-entropy of each row of scores."""
    import graphc as mx

    picked = mx.sym.pick(mx.sym.log_softmax(scores, axis=-1), mx.sym.Variable("softmax_label"), axis=1)
    return mx.sym.MakeLoss(0 - picked, name="loss")


def graphc_step(
    name: str, task: Task, given: Mapping[str, Any], budget: float | None
) -> tuple[Callable[[], float], Any]:
    """One step that gives the loss, and the executable."""
    import resnet
    import torch
    import transformer
    from networks.catalog import parameter

    import graphc as mx
    from graphc.driver.compile import Options

    if name == "resnet50":
        model = resnet.network()
    elif name == "transformer":
        sizes = {"units": task.units, "heads": 8, "length": task.length, "vocabulary": task.classes}
        scores = transformer.logits(layers=task.layers, dropout=0.0, **sizes)
        model = row_losses(mx.sym.Reshape(scores, shape=(-3, 0)))
    else:
        model = row_losses(mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=task.classes, name="fc"))
    labels, data = given["labels"].float(), given["data"].float()
    optimizer = mx.optimizer.SGD(RATE, momentum=MOMENTUM, rescale_grad=1 / task.rows)
    shapes = {"data": tuple(data.shape), "softmax_label": tuple(labels.shape)}
    step = mx.training_step(model, optimizer, shapes=shapes, options=Options(memory_budget=budget))
    held = {item.name for item in step.optimized.inputs if not item.name.endswith("_momentum")}
    for key, value in step.states.items():
        if key in held:
            step.set_states({key: torch.from_numpy(parameter(key, tuple(value.shape)))})

    def run() -> float:
        result = step(data=data, softmax_label=labels)
        if name == "resnet50":
            result = -result[torch.arange(task.rows), given["labels"]].log()
        return float(result.mean())

    return run, step


def torch_step(name: str, task: Task, given: Mapping[str, Any], compiled: bool) -> Callable[[], float]:
    """One step that gives the loss."""
    import torch
    from networks.catalog import parameter
    from networks.exchange import fill
    from networks.torch_language import Transformer
    from networks.torch_vision import ResNet
    from torch import nn

    module: nn.Module
    if name == "resnet50":
        module = ResNet()
    elif name == "transformer":
        module = Transformer(task.layers, task.units, 8, task.classes, task.length)
    else:
        module = nn.ModuleDict({"fc": nn.Linear(task.units, task.classes)})
        module.forward = lambda data: module.fc(data)  # type: ignore[method-assign]
    fill(module, parameter)
    optimizer = torch.optim.SGD(module.parameters(), RATE, momentum=MOMENTUM)

    def loss_of(data: Any, labels: Any) -> Any:
        scores = module(data)
        return nn.functional.cross_entropy(scores.view(task.rows, -1), labels)

    loss = torch.compile(loss_of) if compiled else loss_of

    def run() -> float:
        optimizer.zero_grad(set_to_none=True)
        value = loss(given["data"], given["labels"])
        value.backward()
        optimizer.step()
        return float(value)

    return run


def status(key: str) -> int:
    """A figure of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])


def measure(peer: str, name: str) -> dict[str, Any]:
    """What this process takes for a task."""
    # Everything that either side imports, for every peer.
    importlib.import_module("torch._dynamo")
    importlib.import_module("graphc.driver.compile")
    import torch

    task = TASKS[name]
    given = inputs(name, task)
    torch.ones(2).add(1)
    baseline = status("VmRSS")
    executable = None
    if peer in OURS:
        run, executable = graphc_step(name, task, given, OURS[peer])
    else:
        run = torch_step(name, task, given, peer == "torch.compile")
    for _ in range(SETTLING):
        run()
    Path("/proc/self/clear_refs").write_text("5")
    losses = [run() for _ in range(COUNTED)]
    growth = status("VmHWM") - baseline
    found: dict[str, Any] = {
        "task": name,
        "peer": peer,
        "baseline": baseline,
        "growth": growth,
        "loss": losses[-1],
    }
    if executable is not None:
        report = executable.memory()
        found["planned"] = report["total"] - report["categories"]["inputs"]["total"]
        found["categories"] = {kind: row["at_peak"] for kind, row in report["categories"].items()}
    return found


# What the first process does


def measured_apart(peer: str, name: str) -> dict[str, Any]:
    """`measure` in a process of its own."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parent / "examples" / "zoo"), *sys.path)),
    }
    command = [sys.executable, str(HERE / "peak.py"), "--worker", peer, name]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise click.ClickException(f"{peer} on {name} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def share(rows: Sequence[Mapping[str, Any]], name: str, ours: str = "graphc") -> float:
    """The growth of graphc as a share of the better peer's."""
    growth = {row["peer"]: row["growth"] for row in rows if row["task"] == name}
    return growth[ours] / min(growth[peer] for peer in PEERS)


def misses(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What falls short: a share over the target without a budget, or losses that differ."""
    found = []
    for name in dict.fromkeys(row["task"] for row in rows):
        title = TASKS[name].title
        ours = share(rows, name)
        if ours > TARGET:
            found.append(f"{title}: {ours:.0%} of the better peer, {TARGET:.0%} wanted")
        losses = [row["loss"] for row in rows if row["task"] == name]
        if max(losses) - min(losses) > CLOSE * max(losses):
            found.append(f"{title}: losses differ, {losses}")
    return found


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table."""
    lines = [
        "# Resident memory of a training step, MB",
        "",
        "Growth over the process after imports and inputs, at the most during the third and fourth step; parameters,",
        "gradients, optimizer states, activations, workspace and what compiling left behind. `planned`: what graphc",
        "says before it runs (`Executable.memory()`, without the inputs). The budget is a share of the plain plan's",
        "arena; the forward pass then runs in part again. `make bench-memory` measures again.",
        "",
        "| step | torch | torch.compile | graphc | planned | of the better peer | graphc, budget of 0.7 | of it |",
        "| --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for name in dict.fromkeys(row["task"] for row in rows):
        mine = {row["peer"]: row for row in rows if row["task"] == name}
        cells = [f"{mine[peer]['growth'] / 1e6:,.0f}" for peer in (*PEERS, "graphc")]
        cells += [f"{mine['graphc']['planned'] / 1e6:,.0f}", f"{share(rows, name):.0%}"]
        tight = mine.get("graphc, budget")
        cells += (
            [f"{tight['growth'] / 1e6:,.0f}", f"{share(rows, name, 'graphc, budget'):.0%}"]
            if tight
            else ["", ""]
        )
        lines.append(f"| {TASKS[name].title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(TASKS)), help="One step; may be given again.")
@click.option("--results", type=click.Path(path_type=Path), default=HERE / "results", show_default=True)
@click.option("--no-write", is_flag=True, help="Print only.")
@click.option("--worker", nargs=2, default=None, hidden=True)
def main(only: tuple[str, ...], results: Path, no_write: bool, worker: tuple[str, str] | None) -> None:
    """Measure the resident memory of training steps beside torch; exit code 3 when a target is missed."""
    if worker is not None:
        click.echo(json.dumps(measure(*worker)))
        return
    rows = []
    for name in only or TASKS:
        for peer in (*PEERS, *OURS):
            # The head has no forward pass worth running again.
            if name == "head" and OURS.get(peer) is not None:
                continue
            click.echo(f"{TASKS[name].title}: {peer}", err=True)
            rows.append(measured_apart(peer, name))
    click.echo(markdown(rows))
    if not no_write and not only:
        data = {"schema": SCHEMA, "unit": "bytes", "rows": rows}
        (results / "peak.json").write_text(json.dumps(data, indent=1) + os.linesep)
        (results / "peak.md").write_text(markdown(rows))
    found = misses(rows)
    for miss in found:
        click.echo(f"short of the target: {miss}", err=True)
    sys.exit(3 if found else 0)


if __name__ == "__main__":
    main()
