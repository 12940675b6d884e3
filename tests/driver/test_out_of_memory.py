"""An allocation that fails says how much was needed and for what, and leaves the program usable."""

import json
import subprocess
import sys

import pytest

# Address space is limited once the program is compiled: what fits is small sizes only.
PROGRAM = """
import json, resource
from pathlib import Path

import torch

import graphc as mx
from graphc.diagnostics import GraphcError

wide = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=4096, name="wide")
hidden = mx.sym.Activation(wide, act_type="tanh", name="hidden")
narrow = mx.sym.FullyConnected(hidden, num_hidden=NARROW, name="narrow")
program = mx.compile(narrow, shapes={"data": ("N", 16)})
program.initialize(mx.init.Uniform(0.1))
small = torch.ones(64, 16)
before = program(data=small)
big = torch.ones(ROWS, 16)
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (96 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
found = {}
try:
    program(data=big)
except GraphcError as error:
    found = {"code": error.diagnostic.code, "text": str(error)}
after = program(data=small)
larger = program(data=torch.ones(128, 16))
found["same"] = bool(torch.equal(before, after)) and bool(torch.equal(larger[:64], before))
found["planned"] = program.plan(N=ROWS).size
print(json.dumps(found))
"""


def run(rows: int, narrow: int) -> dict[str, object]:
    """What a process of its own, short of memory, says."""
    text = PROGRAM.replace("ROWS", str(rows)).replace("NARROW", str(narrow))
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are enforced on Linux")
def test_an_arena_that_does_not_fit() -> None:
    found = run(rows=16384, narrow=1)
    assert found["code"] == "G606"
    assert f"{found['planned']:,} bytes" in str(found["text"])
    assert "the largest is hidden with 268,435,456 bytes" in str(found["text"])
    assert found["same"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are enforced on Linux")
def test_an_output_that_does_not_fit() -> None:
    found = run(rows=4096, narrow=8192)
    assert found["code"] == "G606"
    assert "no memory for output 'narrow_output' of narrow: f32[N,8192] takes 134,217,728 bytes" in str(
        found["text"]
    )
    assert found["same"]
