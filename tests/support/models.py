"""A model file as users write it, for tests of the command line."""

from pathlib import Path

NET = """\
import graphc as mx

data = mx.sym.Variable("data")
fc1 = mx.sym.FullyConnected(data, num_hidden=4, name="fc1")
relu1 = mx.sym.Activation(fc1, act_type="relu", name="relu1")
fc2 = mx.sym.FullyConnected(relu1, num_hidden=3, name="fc2")
net = mx.sym.SoftmaxOutput(fc2, name="softmax", normalization="batch")
shapes = {"data": (2, 5)}
"""

DOUBLE = """\
graph double(%x: f32[4]) -> (%y) {
  %y: f32[4] = add(%x, %x)
}
"""


def write_models(folder: Path) -> None:
    """Write net.py, whose only whole model is `net`, and double.graph, a graph of one node."""
    (folder / "net.py").write_text(NET)
    (folder / "double.graph").write_text(DOUBLE)
