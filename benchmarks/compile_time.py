"""Times one start of the LeNet training step in this process, from the declared model to the first result.

Started anew by run.py for each figure: with empty caches for a cold compile, with the caches of the start before for
a warm one. Imports are timed apart, torch's own compiler included, and excluded from the start.
"""

from __future__ import annotations

import importlib
import json
import time

import click

MODULES = {
    "graphc": ("torch", "graphc", "graphc.driver.training", "graphc.optimizer", "training"),
    "compile": ("torch", "torch._dynamo", "torch._inductor.compile_fx", "training"),
    "compile_whole": ("torch", "torch._dynamo", "torch._inductor.compile_fx", "training"),
    "eager": ("torch", "training"),
}


@click.command()
@click.argument("peer", type=click.Choice(list(MODULES)))
@click.option("--model", type=click.Choice(["mlp", "lenet"]), default="lenet")
def main(peer: str, model: str) -> None:
    """Print {"import_s", "start_s", "second_s"}: the start includes the first training step."""
    start = time.perf_counter()
    for name in MODULES[peer]:
        importlib.import_module(name)
    imported = time.perf_counter()
    training = importlib.import_module("training")
    torch = importlib.import_module("torch")
    torch.manual_seed(0)
    network = training.module(model)
    data, labels = training.batch(model)
    makers = {
        "graphc": lambda: training.graphc_trainer(model, network),
        "compile": lambda: training.compiled_trainer(network),
        "compile_whole": lambda: training.whole_trainer(network),
        "eager": lambda: training.eager_trainer(network),
    }
    labels = labels.float() if peer == "graphc" else labels
    # Thread pools and torch's own first-call costs are no compile time; both sides pay them here.
    torch.mm(torch.ones(256, 256), torch.ones(256, 256))
    begin = time.perf_counter()
    trainer = makers[peer]()
    trainer.step(data, labels)
    first = time.perf_counter()
    trainer.step(data, labels)
    second = time.perf_counter()
    print(json.dumps({"import_s": imported - start, "start_s": first - begin, "second_s": second - first}))


if __name__ == "__main__":
    main()
