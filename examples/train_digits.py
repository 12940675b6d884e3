"""Train an MLP and a LeNet on scikit-learn's handwritten digits, each step one compiled program.

Forward pass, gradients and the SGD-with-momentum update are one graph and one native call. Run it with
`make demo`, or `python examples/train_digits.py --help`.
"""

import sys
import time

import click
import numpy as np
from models import lenet, mlp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sklearn.datasets import load_digits

import graphc as mx

BATCH = 64
HELD_OUT = 360
TARGET = 0.97
console = Console()


def digits(image: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scanned 8x8 digits in [0, 1], shuffled: (train images, train labels, held-out images, held-out labels)."""
    data, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(7).permutation(len(data))
    data = (data[order] / 16.0).astype(np.float32).reshape((-1, 1, 8, 8) if image else (-1, 64))
    labels = labels[order].astype(np.float32)
    return data[HELD_OUT:], labels[HELD_OUT:], data[:HELD_OUT], labels[:HELD_OUT]


def summary(name: str, step: mx.Executable) -> None:
    """What the compiler made of the training step."""
    plan = step.plan(N=BATCH)
    table = Table(title=f"{name}: one training step, compiled for {step.target}", title_justify="left")
    table.add_column("what")
    table.add_column("figure", justify="right")
    for what, figure in (
        ("operators as declared, with gradient and update", f"{len(step.graph.nodes)}"),
        ("operators after the passes", f"{len(step.optimized.nodes)}"),
        ("fused kernels", f"{len(step.program.steps)}"),
        ("intermediate bytes, naive", f"{plan.naive:,}"),
        ("intermediate bytes, planned", f"{plan.size:,}"),
        ("intermediate bytes, lower bound", f"{plan.lower_bound:,}"),
        ("seconds to compile", f"{step.build_report['total']:.2f}"),
    ):
        table.add_row(what, figure)
    console.print(table)
    for path in step.source_paths():
        console.print(f"generated source: {path}", soft_wrap=True)


def train(name: str, net: mx.Symbol, image: bool, epochs: int, target: str) -> float:
    """Train and return the held-out accuracy."""
    train_x, train_y, test_x, test_y = digits(image)
    shape = ("N", *train_x.shape[1:])
    with console.status(f"compiling {name}"):
        step = mx.training_step(
            net,
            mx.optimizer.SGD(learning_rate=0.1, momentum=0.9, wd=1e-4),
            shapes={"data": shape, "softmax_label": ("N",)},
            target=target,
        )
    mx.random.seed(1)
    step.initialize(mx.init.Xavier()).seed(1)
    summary(name, step)

    order = np.random.default_rng(1)
    steps = -(-len(train_x) // BATCH)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    started = time.perf_counter()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=epochs * steps)
        for epoch in range(epochs):
            rate = 0.1 * 0.5 * (1.0 + np.cos(np.pi * epoch / epochs))
            shuffled = order.permutation(len(train_x))
            right = 0
            for start in range(0, len(train_x), BATCH):
                rows = shuffled[start : start + BATCH]
                probabilities = step(data=train_x[rows], softmax_label=train_y[rows], learning_rate=rate)
                right += int((probabilities.argmax(axis=1) == train_y[rows]).sum())
                progress.advance(task)
            progress.update(
                task, description=f"{name} epoch {epoch + 1}: {right / len(train_x):.1%} in training"
            )
    seconds = time.perf_counter() - started

    predict = mx.compile(net, shapes={"data": shape}, target=target)
    predict.set_states({key: step.states[key] for key in predict.states})
    accuracy = float((predict(data=test_x).argmax(axis=1) == test_y).mean())
    per_step = 1e6 * seconds / (epochs * steps)
    console.print(f"{name}: {accuracy:.2%} of {HELD_OUT} held-out digits right; {per_step:.0f} us a step\n")
    return accuracy


@click.command()
@click.option("--epochs", default=40, show_default=True, help="passes over the training digits")
@click.option("--target", default="cpu", show_default=True, help="cpu, gpu or reference")
def main(epochs: int, target: str) -> None:
    """Train both networks; exit status 1 when one misses 97% held-out accuracy."""
    results = {
        "MLP": train("MLP", mlp(), False, epochs, target),
        "LeNet": train("LeNet", lenet(), True, epochs, target),
    }
    short = [name for name, accuracy in results.items() if accuracy <= TARGET]
    if short:
        console.print(f"held-out accuracy is not over {TARGET:.0%}: {', '.join(short)}")
        sys.exit(1)


if __name__ == "__main__":
    main()
