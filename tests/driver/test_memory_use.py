"""What a program really takes from the machine is what its plan said."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json
from pathlib import Path

import torch

import graphc as mx

def resident():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return 1024 * int(line.split()[1])

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


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="resident memory is read from Linux's /proc"
)
def test_the_arena_is_all_that_a_run_takes() -> None:
    # A process of its own: what other tests freed would hide what this one takes.
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    planned = found["planned"] + found["output"]
    assert planned > 60e6
    assert abs(found["grown"] - planned) <= 0.05 * planned
    assert found["later"] <= 0.01 * planned
