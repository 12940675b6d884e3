"""What a program really takes from the machine is what its plan said.

Anonymous memory counts: pages of a library's code that a first call touches are the file's, shared and droppable.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="resident memory is read from Linux's /proc"
)

RESIDENT = """
import gc, json
from pathlib import Path

import torch

import graphc as mx

def resident():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon:"))
    return 1024 * int(line.split()[1])

"""

PROGRAM = (
    RESIDENT
    + """
result = mx.sym.Variable("data")
for number in range(3):
    wide = mx.sym.FullyConnected(result, num_hidden=8192, name=f"wide{number}")
    active = mx.sym.Activation(wide, act_type="tanh", name=f"tanh{number}")
    result = mx.sym.FullyConnected(active, num_hidden=32, name=f"narrow{number}")
program = mx.compile(result, shapes={"data": (2048, 32)})
program.initialize(mx.init.Uniform(0.1))
data = torch.ones(2048, 32)
before = resident()
output = program(data=data)
after = resident()
program(data=data)
again = resident()
report = program.memory()
print(json.dumps({
    "planned": report["arena"]["planned"],
    "output": report["bytes"]["output"] + report["bytes"]["constant"],
    "grown": after - before, "later": again - after,
}))
"""
)


def measured(program: str) -> dict[str, int]:
    """What a program printed, in a process of its own: what other tests freed would hide what it takes."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    result: dict[str, int] = json.loads(done.stdout)
    return result


def test_the_arena_is_all_that_a_run_takes() -> None:
    found = measured(PROGRAM)
    planned = found["planned"] + found["output"]
    assert planned > 60e6
    assert abs(found["grown"] - planned) <= 0.05 * planned
    assert found["later"] <= 0.01 * planned


STEP = """
step = mx.training_step(net, mx.optimizer.SGD(0.1, momentum=0.9), shapes=shapes)
step.initialize(mx.init.Xavier())
for state in step.states.values():
    state.mul_(1.0)
inputs = {name: torch.ones(shape) for name, shape in shapes.items()}
# Threads, and what a first call imports, are there before.
other = mx.compile(mx.sym.exp(mx.sym.Variable("x")), shapes={"x": (1 << 20,)})
other(x=torch.ones(1 << 20))
gc.collect()
before = resident()
output = step(**inputs)
after = resident()
step(**inputs)
again = resident()
report = step.memory()
"""

LENET = (
    RESIDENT
    + """
net = mx.sym.Variable("data")
for number, filters in enumerate((20, 50)):
    net = mx.sym.Convolution(net, num_filter=filters, kernel=(5, 5), name=f"conv{number}")
    net = mx.sym.Activation(net, act_type="tanh", name=f"tanh{number}")
    net = mx.sym.Pooling(net, pool_type="max", kernel=(2, 2), stride=(2, 2), name=f"pool{number}")
net = mx.sym.FullyConnected(mx.sym.Flatten(net), num_hidden=10, name="fc")
net = mx.sym.SoftmaxOutput(net, name="softmax")
shapes = {"data": (64, 1, 28, 28), "softmax_label": (64,)}
"""
    + STEP
    + """print(json.dumps({
    "planned": report["arena"]["planned"] + report["categories"]["outputs"]["total"],
    "grown": after - before, "later": again - after, "workspace": report["categories"]["workspace"]["total"],
}))
"""
)


def test_a_small_convolution_program_takes_its_plan_with_all_scratch() -> None:
    found = measured(LENET)
    assert found["workspace"] > 0
    # All of its scratch need not be touched, and a thread may touch a page of its stack for the first time.
    assert found["grown"] <= 1.05 * found["planned"]
    assert found["grown"] >= 0.75 * found["planned"]
    assert found["later"] <= 0.01 * found["planned"]


LARGE = (
    RESIDENT
    + """
net = mx.sym.Variable("data")
for number in range(3):
    net = mx.sym.FullyConnected(net, num_hidden=512, name=f"fc{number}")
    net = mx.sym.BatchNorm(net, fix_gamma=False, name=f"bn{number}")
    net = mx.sym.Activation(net, act_type="relu", name=f"relu{number}")
net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, num_hidden=10, name="head"), name="softmax")
shapes = {"data": (16384, 512), "softmax_label": (16384,)}
"""
    + STEP
    + """print(json.dumps({
    "planned": report["arena"]["planned"] + report["categories"]["outputs"]["total"],
    "plain": report["recompute"]["plain_arena"], "grown": after - before, "later": again - after,
}))
"""
)


def test_a_large_training_step_takes_its_plan() -> None:
    """Normalisations are made again in the backward pass; what is measured is the smaller arena."""
    found = measured(LARGE)
    assert 100e6 < found["planned"] < 0.95 * found["plain"]
    assert abs(found["grown"] - found["planned"]) <= 0.05 * found["planned"]
    assert found["later"] <= 0.01 * found["planned"]
