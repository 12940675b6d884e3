"""Declaring, inferring and saving symbols needs none of the heavy libraries."""

import subprocess
import sys

HEAVY = {"torch", "triton", "numpy", "sympy", "networkx"}

PROGRAM = """
import sys
import graphc as mx

net = mx.sym.FullyConnected(mx.sym.Variable("data", dtype="float16"), num_hidden=3, name="fc")
net = mx.sym.Cast(net, dtype="float32") + mx.sym.ones((2, 3))
net = mx.sym.SoftmaxOutput(net, name="softmax")
net.infer_shape(data=(2, 5))
mx.sym.load_json(net.tojson())
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_symbols_are_light() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    assert not HEAVY & set(result.stdout.split())
