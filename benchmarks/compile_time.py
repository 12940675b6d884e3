"""How long a training step takes from the declared model to its first result, cold and warm, beside torch.compile.

    python benchmarks/compile_time.py [--network resnet18]

Each start is a process of its own: with empty caches for a cold one, with the caches of the start before for a warm
one. Imports are excluded, torch's compiler included.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np

MODULES = {
    "graphc": ("torch", "graphc", "graphc.driver.training", "graphc.optimizer", "training.graphc_forms"),
    "torch.compile": ("torch", "torch._dynamo", "torch._inductor.compile_fx", "training.torch_forms"),
}
CACHES = {"GRAPHC_CACHE_DIR": "graphc", "TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}


def start(peer: str, network: str) -> float:
    """Seconds of one start in this process; of torch.compile the form that wraps the loss."""
    modules = [importlib.import_module(name) for name in MODULES[peer]]
    rows = importlib.import_module("training.rows").ROWS
    torch, forms = modules[0], modules[-1]
    row = next(row for row in rows if row.key == network)
    inputs = row.inputs(np.random.default_rng(0))
    # Thread pools and torch's own first-call costs are no compile time; both sides pay them here.
    torch.mm(torch.ones(256, 256), torch.ones(256, 256))
    begin = time.perf_counter()
    job = forms.graphc(row, inputs)["step"] if peer == "graphc" else forms.compiled(row, inputs)["loss"]
    job.call()
    return time.perf_counter() - begin


@click.command()
@click.option("--network", default="lenet", show_default=True, help="A row's key of the training suite.")
@click.option("--peers", default=",".join(MODULES), show_default=True)
@click.option("--warm", type=click.IntRange(1), default=3, show_default=True, help="Warm starts.")
@click.option("--one", is_flag=True, hidden=True, help="One start in this process; prints seconds.")
def main(network: str, peers: str, warm: int, one: bool) -> None:
    """Print a line a start."""
    if one:
        print(json.dumps(start(peers, network)))
        return
    for peer in peers.split(","):
        with tempfile.TemporaryDirectory(prefix="graphc-starts-") as folder:
            places = {name: str(Path(folder) / place) for name, place in CACHES.items()}
            for number in range(1 + warm):
                command = [sys.executable, __file__, "--one", "--peers", peer, "--network", network]
                result = subprocess.run(
                    command, env={**os.environ, **places}, stdout=subprocess.PIPE, text=True, check=True
                )
                seconds = json.loads(result.stdout.splitlines()[-1])
                print(f"{network:<14}{peer:<16}{'warm' if number else 'cold'}{seconds:>10.3f} s", flush=True)


if __name__ == "__main__":
    main()
