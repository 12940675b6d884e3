"""Every mistake gives one diagnostic: the operator, the shapes, the rule, the user's line, help."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

import graphc as mx
from graphc.symbol.trace import trace

PRELUDE = """import graphc as mx
from graphc.symbol.trace import trace

data, b = mx.sym.Variable("data"), mx.sym.Variable("b")
"""

MISTAKES = {
    "unknown operator": "net = mx.sym.FullyConected(data, num_hidden=3)",
    "unknown parameter": 'net = mx.sym.FullyConnected(data, num_hiden=3, name="fc1")',
    "missing parameter": 'net = mx.sym.FullyConnected(data, name="fc1")',
    "value out of range": 'net = mx.sym.FullyConnected(data, num_hidden=0, name="fc1")',
    "value of a wrong kind": 'net = mx.sym.FullyConnected(data, num_hidden="many", name="fc1")',
    "value that is no choice": 'net = mx.sym.Activation(data, act_type="rlu", name="act")',
    "no input": 'net = mx.sym.Concat(name="all")',
    "unknown argument": 'net = mx.sym.FullyConnected(data, wieght=b, num_hidden=3, name="fc1")',
    "argument twice": 'net = mx.sym.FullyConnected(data, data=b, num_hidden=3, name="fc1")',
    "too many arguments": 'net = mx.sym.exp(data, b, name="e")',
    "no symbol": 'net = mx.sym.FullyConnected(5, num_hidden=3, name="fc1")',
    "no symbol by name": 'net = mx.sym.FullyConnected(data=5, num_hidden=3, name="fc1")',
    "symbol as parameter": 'net = mx.sym.FullyConnected(data, num_hidden=b, name="fc1")',
    "several outputs": 'net = mx.sym.exp(mx.sym.SliceChannel(data, num_outputs=2, name="cut"), name="e")',
    "computed state": 'net = mx.sym.BatchNorm(data, moving_mean=data + 1, name="bn")',
    "string beside a symbol": 'net = data + "x"',
    "array beside a symbol": "import numpy\nnet = numpy.ones(3) * data",
    "empty group": "net = mx.sym.Group([])",
    "group of no symbols": "net = mx.sym.Group([data, 3])",
    "truth value": "if data == b:\n    pass",
    "unknown output": 'net = mx.sym.SoftmaxOutput(data, name="softmax")["sofmax_output"]',
    "output out of range": "net = data[3]",
    "composition with an unknown name": "net = (data + 1)(dat=b)",
    "name of a variable": "net = mx.sym.Variable(3)",
    "name of an operator": "net = mx.sym.exp(data, name=3)",
    "attribute that is no string": 'net = mx.sym.Variable("x", attr={"lr": 3})',
    "attribute named as a parameter": 'net = mx.sym.exp(data, name="e").clip(0, 1, attr={"a_min": "3"}, name="c")',
    "NaN in a shape": 'net = mx.sym.Variable("x", shape=(2, float("nan")))',
    "negative dimension": "(data + 1).infer_shape(data=(2, -3))",
    "fractional dimension": "(data + 1).infer_shape(data=(2, 1.5))",
    "shape that is no tuple": "(data + 1).infer_shape(data=7)",
    "element type": 'net = mx.sym.Variable("x", dtype="complex64")',
    "shape for an unknown name": "(data + 1).infer_shape(dta=(2, 3))",
    "two variables of one name": '(mx.sym.Variable("a") + mx.sym.Variable("a")).infer_shape(a=(2,))',
    "weight of a wrong shape": (
        'w = mx.sym.Variable("w", shape=(10, 100))\n'
        'relu1 = mx.sym.Activation(data, act_type="relu", name="relu1")\n'
        'fc2 = mx.sym.FullyConnected(relu1, weight=w, num_hidden=10, name="fc2")\n'
        "fc2.infer_shape(data=(64, 128))"
    ),
    "weight of a wrong shape, traced": (
        'w = mx.sym.Variable("w", shape=(10, 100))\n'
        'fc2 = mx.sym.FullyConnected(data, weight=w, num_hidden=10, name="fc2")\n'
        'trace(fc2, {"data": ("N", 128)})'
    ),
    "shapes of a sum": 'net = mx.sym.exp(data, name="e") + b\nnet.infer_shape(data=(2, 3), b=(2, 4))',
    "types of a sum": 'net = mx.sym.exp(data, name="e") + b\nnet.infer_type(data="float32", b="float16")',
    "broadcast": 'net = mx.sym.broadcast_mul(data, b, name="m")\nnet.infer_shape(data=(2, 3), b=(4, 3))',
    "product": 'net = mx.sym.dot(data, b, name="d")\nnet.infer_shape(data=(2, 3), b=(4, 5))',
    "joined": 'net = mx.sym.Concat(data, b, dim=1, name="c")\nnet.infer_shape(data=(2, 3), b=(4, 5))',
    "reshape": 'net = mx.sym.Reshape(data, shape=(7, -1), name="r")\nnet.infer_shape(data=(2, 3))',
    "axis": 'net = mx.sym.sum(data, axis=4, name="s")\nnet.infer_shape(data=(2, 3))',
    "axes of a kernel": (
        'net = mx.sym.Convolution(data, kernel=(3, 3), num_filter=2, name="c")\nnet.infer_shape(data=(2, 3))'
    ),
    "window beyond the image": (
        'net = mx.sym.Pooling(data, kernel=(9, 9), name="p")\nnet.infer_shape(data=(2, 3, 5, 5))'
    ),
    "parts": 'net = mx.sym.SliceChannel(data, num_outputs=4, name="p")\nnet.infer_shape(data=(2, 6))',
    "label": 'net = mx.sym.SoftmaxOutput(data, b, name="s")\nnet.infer_shape(data=(2, 6), b=(3,))',
    "unknown shape": 'trace(mx.sym.FullyConnected(data, num_hidden=2, name="f"), {})',
    "readers disagree": (
        'w = mx.sym.Variable("w")\n'
        'one = mx.sym.FullyConnected(data, weight=w, num_hidden=2, no_bias=True, name="one")\n'
        'two = mx.sym.FullyConnected(b, weight=w, num_hidden=2, no_bias=True, name="two")\n'
        "mx.sym.Group([one, two]).infer_shape(data=(5, 3), b=(5, 4))"
    ),
}


def diagnostic_of(program: str, folder: Path) -> str:
    file = folder / "model.py"
    file.write_text(PRELUDE + program + "\n", encoding="utf-8")
    with mx.name.NameManager(), pytest.raises(mx.GraphcError) as caught:
        runpy.run_path(str(file))
    return str(caught.value)


def test_mistakes(golden: Callable[[str, str], None], tmp_path_factory: pytest.TempPathFactory) -> None:
    texts = []
    for mistake, program in MISTAKES.items():
        found = diagnostic_of(program, tmp_path_factory.mktemp("mistake"))
        assert "Traceback" not in found
        texts.append(f"# {mistake}\n{program}\n\n{found}\n")
    golden("symbol/mistakes.txt", "\n".join(texts))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_name_the_line(mistake: str, tmp_path: Path) -> None:
    """Shapes given to a call stand in no operator's line, but every diagnostic shows one of the program."""
    text = diagnostic_of(MISTAKES[mistake], tmp_path)
    assert text.startswith("error[G")
    assert "model.py:" in text


def test_python_knows_the_kinds_of_errors() -> None:
    data = mx.sym.Variable("data")
    with pytest.raises(IndexError):
        data[1]
    with pytest.raises(AttributeError):
        mx.sym.NoSuchOperator  # noqa: B018 - reading it is the test
    with pytest.raises(TypeError):
        data + "x"


def test_first_missing_shape_is_named() -> None:
    net = mx.sym.dot(mx.sym.Variable("a"), mx.sym.Variable("b"))
    with pytest.raises(mx.GraphcError, match="'b': its shape is not given"):
        trace(net, {"a": (2, 3)})
