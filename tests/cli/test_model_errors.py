"""Every mistake in a model is one diagnostic with the operator, the rule and the user's line; never a traceback."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

HEAD = 'import graphc as mx\ndata = mx.sym.Variable("data")\nshapes = {"data": (4, 6)}\n'

MISTAKES = {
    "wrong shape": (
        'w = mx.sym.Variable("w", shape=(3, 5))\nnet = mx.sym.FullyConnected(data, weight=w, num_hidden=3, name="fc")',
        ["error[G203] FullyConnected 'fc'", "net.py:5", "[3,5]", "[3,6]"],
    ),
    "wrong type": (
        'other = mx.sym.Variable("other", dtype="float16", shape=(4, 6))\n'
        'also = mx.sym.Variable("also", dtype="float32", shape=(4, 6))\nnet = mx.sym.elemwise_add(other, also)',
        ["error[G206]", "net.py:6"],
    ),
    "unknown operator": ("net = mx.sym.FullyConected(data, num_hidden=3)", ["error[G", "FullyConnected", "net.py:4"]),
    "unknown parameter": (
        'net = mx.sym.Activation(data, act_typ="relu")', ["error[G102]", "act_type", "net.py:4"],
    ),
    "wrong value": ('net = mx.sym.Activation(data, act_type="rleu")', ["error[G104]", "relu", "net.py:4"]),
    "missing parameter": ('net = mx.sym.FullyConnected(data, name="fc")', ["error[G103]", "num_hidden", "net.py:4"]),
    "not a symbol": ("net = mx.sym.FullyConnected(3.5, num_hidden=3)", ["error[G109]", "net.py:4"]),
    "NaN in a shape": (
        'net = mx.sym.Variable("w", shape=(float("nan"), 3)) + data', ["error[G207]", "nan", "net.py:4"],
    ),
    "negative size": ('net = mx.sym.Variable("w", shape=(-4, 3)) + data', ["error[G", "-4", "net.py:4"]),
    "empty group": ("net = mx.sym.Group([])", ["error[G111]", "net.py:4"]),
    "name used twice": (
        'net = mx.sym.Variable("w") + mx.sym.Variable("w") + data', ["error[G107]", "'w'", "net.py:4"],
    ),
    "unknown shape": (
        'net = mx.sym.broadcast_add(data, mx.sym.Variable("offset"))', ["error[G205]", "offset", "net.py:4"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_one_diagnostic(graphc: Command, folder: Path, mistake: str) -> None:
    text, told = MISTAKES[mistake]
    (folder / "net.py").write_text(HEAD + text + "\n")
    result = graphc("run", "net.py:net")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error[G")
    assert result.err.count("error[") == 1
    for words in told:
        assert words in result.err


CYCLE = """{"nodes": [
  {"op": "null", "name": "data", "inputs": []},
  {"op": "elemwise_add", "name": "a", "inputs": [[0, 0, 0], [2, 0, 0]]},
  {"op": "elemwise_add", "name": "b", "inputs": [[1, 0, 0], [0, 0, 0]]}
], "arg_nodes": [0], "heads": [[2, 0, 0]]}
"""


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("cycle.json", CYCLE, "error[G311]"),
        ("nothing.graph", "graph g(%x: f32[4]) -> () {\n}\n", "error[G307]"),
        ("undefined.graph", "graph g(%x: f32[4]) -> (%y) {\n  %y: f32[4] = add(%x, %z)\n}\n", "error[G3"),
        (
            "primitive.graph",
            "graph g(%x: f32[4]) -> (%y) {\n  %y: f32[4] = tanhh(%x)\n}\n",
            "did you mean 'tanh'",
        ),
        ("type.graph", "graph g(%x: f32[4]) -> (%y) {\n  %y: f32[5] = tanh(%x)\n}\n", "error[G305]"),
        ("cut.graph", "graph g(%x: f32[4]) -> (%y) {\n  %y: f32[4] = tanh(%x\n", "error[G310]"),
    ],
)
def test_broken_data_file_is_one_diagnostic(
    graphc: Command, folder: Path, name: str, text: str, told: str
) -> None:
    (folder / name).write_text(text)
    result = graphc("run", name)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error[G")
    assert told in result.err
