"""Trains one model with generated Triton, in the interpreter, and beside it; prints the largest difference as JSON.

The argument is the target beside it: cpu or reference.

Run as a script with TRITON_INTERPRET=1, which must be set before Triton is imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from models import lenet

from graphc.codegen.triton import generate
from graphc.driver.compile import compile, lower
from graphc.driver.executable import Executable
from graphc.driver.gpu_backend import GpuBackend
from graphc.driver.initializer import Xavier
from graphc.optimizer import SGD
from graphc.training import training_graph

STEPS, BATCH = 2, 4


def main() -> None:
    shapes = {"data": (BATCH, 1, 8, 8), "softmax_label": (BATCH,)}
    graph = training_graph(lenet(), SGD(learning_rate=0.1, momentum=0.9), shapes=shapes)
    native = compile(graph, target=sys.argv[1])
    stages = lower(graph)
    interpreted = Executable.of(
        graph, stages.optimized, GpuBackend(generate(stages.program), torch.device("cpu"))
    )
    torch.manual_seed(0)
    native.initialize(Xavier())
    native.seed(5)
    interpreted.set_states({name: tensor.clone() for name, tensor in native.states.items()})
    inputs = {item.name for item in native.data_inputs}
    generator = torch.Generator().manual_seed(1)
    worst = 0.0
    for _ in range(STEPS):
        given = {
            "data": torch.rand(BATCH, 1, 8, 8, generator=generator),
            "softmax_label": torch.randint(0, 10, (BATCH,), generator=generator).float(),
            "learning_rate": torch.tensor(0.1),
        }
        results = [
            step.run(**{name: value for name, value in given.items() if name in inputs})
            for step in (native, interpreted)
        ]
        for name, value in results[0].items():
            worst = max(worst, (value - results[1][name]).abs().max().item())
    states = {
        name: (tensor.double() - interpreted.states[name].double()).abs().max().item()
        for name, tensor in native.states.items()
    }
    print(json.dumps({"outputs": worst, "states": states}))


if __name__ == "__main__":
    main()
