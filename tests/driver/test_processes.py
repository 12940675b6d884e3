"""A program beside other threads and processes: forks, few cores, Ctrl-C. Each in a process of its own."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, threading, torch
import graphc as mx

net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=256, name="fc1")
net = mx.sym.SoftmaxOutput(mx.sym.Activation(net, act_type="relu"), name="softmax")
shapes = {"data": (64, 512), "softmax_label": (64,)}
step = mx.training_step(net, mx.optimizer.SGD(learning_rate=0.0), shapes=shapes)
generator = torch.Generator().manual_seed(0)
step.set_states({n: torch.randn(s.shape, generator=generator) for n, s in step.states.items()})
data, label = torch.randn(64, 512, generator=generator), torch.zeros(64)
expected = step(data=data, softmax_label=label).clone()


def right() -> bool:
    return all(torch.equal(step(data=data, softmax_label=label), expected) for _ in range(5))


assert right()
"""


def run(script: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM + script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_runs_what_its_parent_ran() -> None:
    # The parent's OpenMP threads do not exist in the child, which must not wait for them.
    run(
        """
child = os.fork()
if not child:
    signal.alarm(30)
    os._exit(0 if right() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert right()
""",
        OMP_NUM_THREADS="2",
    )


THREADS = """
print(len(os.listdir("/proc/self/task")))
print(expected.flatten().view(torch.int32).tolist())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs an affinity mask, and /proc")
def test_few_cores_are_honoured_and_change_no_bit() -> None:
    one_core = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    script = one_core + PROGRAM + THREADS
    unbounded = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    masked = subprocess.run(
        [sys.executable, "-c", script], env=unbounded, capture_output=True, text=True, timeout=120, check=True
    )
    one, several = (run(THREADS, OMP_NUM_THREADS=threads).split("\n", 1) for threads in ("1", "3"))
    tasks, bits = masked.stdout.split("\n", 1)
    assert bits == one[1] == several[1]
    assert tasks == one[0], "no thread is started that has no core"
    assert int(several[0]) > int(one[0])


def test_ctrl_c_ends_after_the_step_and_leaves_the_program_usable() -> None:
    run(
        """
version = step.states["fc1_weight"]._version
timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
timer.start()
calls = 0
try:
    while True:
        step(data=data, softmax_label=label)
        calls += 1
except KeyboardInterrupt:
    pass
assert calls and step.states["fc1_weight"]._version - version in (calls, calls + 1)
assert right()
""",
        OMP_NUM_THREADS="2",
    )
