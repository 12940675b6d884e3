"""Recurrent layers in Triton, step by step: interpreted on small shapes, compiled for sm_90 as a training step."""

import pytest
import torch

import graphc as mx
from graphc.codegen.triton import generate
from graphc.driver.compile import lower
from graphc.driver.reference import run_reference
from graphc.operators.recurrent import layout
from graphc.optimizer import SGD
from graphc.passes.gradient import gradient
from graphc.runtime.gpu import compile_for
from graphc.runtime.gpu.interpreter import Interpreter
from graphc.symbol.trace import trace
from graphc.training import training_graph
from support.recurrent_cases import MODULES
from support.triton_programs import run_graphs

SPILLS = 16


@pytest.mark.parametrize("mode", MODULES)
def test_values_and_gradients(mode: str, interpreter: Interpreter) -> None:
    names = ["data", "parameters", "state", *(["state_cell"] if mode == "lstm" else [])]
    inputs = {name: mx.sym.Variable(name) for name in names}
    symbol = mx.sym.RNN(**inputs, state_size=3, num_layers=1, mode=mode, bidirectional=True, name="rnn")
    shapes = {"data": (2, 2, 4), "parameters": (layout(mode, 4, 3, 1, True)[-1].stop,)}
    shapes |= dict.fromkeys(names[2:], (2, 2, 3))
    graph = gradient(trace(symbol, shapes), names)
    torch.manual_seed(3)
    values = {name: 0.5 * torch.randn(shape) for name, shape in shapes.items()}
    program = lower(graph, target="gpu").program
    assert all(k.anchor is None or not k.anchor.results for k in program.kernels)
    (found,) = run_graphs([program], [values], {}, interpreter.run)
    for name, wanted in run_reference(graph, values).outputs.items():
        torch.testing.assert_close(found[name].reshape(wanted.shape).double(), wanted, rtol=1e-4, atol=1e-5)


def test_a_training_step_compiles() -> None:
    data = mx.sym.Embedding(mx.sym.Variable("data"), input_dim=100, output_dim=64, name="embed")
    states = {name: mx.sym.Variable(name) for name in ("state", "state_cell")}
    result = mx.sym.RNN(data, **states, state_size=64, num_layers=1, mode="lstm", name="rnn")
    scores = mx.sym.FullyConnected(mx.sym.Reshape(result, shape=(-1, 64)), num_hidden=100, name="fc")
    loss = mx.sym.SoftmaxOutput(scores, mx.sym.Reshape(mx.sym.Variable("label"), shape=(-1,)))
    shapes = {"data": (3, 16), "label": (3, 16), "state": (1, 16, 64), "state_cell": (1, 16, 64)}
    graph = training_graph(loss, SGD(learning_rate=0.1), shapes=shapes)
    for report in compile_for(generate(lower(graph, target="gpu").program)):
        assert report.spills <= SPILLS, report
