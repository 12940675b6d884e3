"""Recurrent layers as compiled programs: symbolic sizes, results that nobody reads, weights packed once."""

from dataclasses import replace
from typing import Any

import pytest
import torch

import graphc as mx
from graphc.driver.compile import compile
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph
from graphc.operators.recurrent import layout
from graphc.passes.gradient import gradient
from graphc.passes.prune import Prune
from graphc.symbol.trace import trace
from support.recurrent_cases import MODULES

STEPS, ROWS, WIDTH, UNITS = 4, 5, 3, 19


def layers(**parameters: Any) -> tuple[mx.Symbol, dict[str, tuple[Any, ...]]]:
    """One RNN operator of each mode on the same data, and the shapes of all variables but data."""
    parameters = {"num_layers": 1, "bidirectional": True, "state_outputs": True, **parameters}
    data, outputs, shapes = mx.sym.Variable("data"), [], {}
    states = parameters["num_layers"] * (1 + parameters["bidirectional"])
    for mode in MODULES:
        names = ["parameters", "state", *(["state_cell"] if mode == "lstm" else [])]
        inputs = {name: mx.sym.Variable(f"{mode}_{name}") for name in names}
        outputs.append(mx.sym.RNN(data, **inputs, state_size=UNITS, mode=mode, name=mode, **parameters))
        pieces = layout(mode, WIDTH, UNITS, parameters["num_layers"], parameters["bidirectional"])
        shapes[f"{mode}_parameters"] = (pieces[-1].stop,)
        shapes |= {f"{mode}_{name}": (states, ROWS, UNITS) for name in names[1:]}
    return mx.sym.Group(outputs), shapes


def values(shapes: dict[str, tuple[Any, ...]], **sizes: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    found = {}
    for name, shape in shapes.items():
        known = [sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in shape]
        scale = 0.3 if name.endswith("parameters") else 1.0
        found[name] = scale * torch.randn(known, generator=generator)
    return found


def check(graph: Graph, inputs: dict[str, torch.Tensor]) -> None:
    """The compiled program against the oracles in float64."""
    given = {name: value for name, value in inputs.items() if name in graph.input_by_name}
    executable = compile(graph, target="cpu")
    found = executable.run(**given)
    for name, wanted in run_reference(graph, given).outputs.items():
        limit = 2e-4 * max(1.0, float(wanted.abs().max()))
        torch.testing.assert_close(
            found[name].double(), wanted, rtol=2e-4, atol=limit, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_training_with_symbolic_steps_and_batch() -> None:
    symbol, shapes = layers(bidirectional=False)
    shapes = {name: tuple("N" if dim == ROWS else dim for dim in shape) for name, shape in shapes.items()}
    shapes["data"] = ("T", "N", WIDTH)
    graph = gradient(trace(symbol, shapes), list(shapes))
    executable = compile(graph, target="cpu")
    assert "gc_recurrence_gradient<float>" in "".join(executable.backend.sources.values())
    for steps, rows in ((3, 2), (1, 1), (2, 9)):
        inputs = values(shapes, T=steps, N=rows)
        found = executable.run(**inputs)
        for name, wanted in run_reference(graph, inputs).outputs.items():
            limit = 2e-4 * max(1.0, float(wanted.abs().max()))
            torch.testing.assert_close(found[name].double(), wanted, rtol=2e-4, atol=limit)


def test_gradients_of_first_states_alone() -> None:
    """Nobody reads the gradient of the inputs then, but the scan does."""
    symbol, shapes = layers(num_layers=1, bidirectional=False)
    shapes["data"] = (STEPS, ROWS, WIDTH)
    wanted = [name for name in shapes if "_state" in name]
    graph = gradient(trace(symbol, shapes), wanted)
    gradients = graph.outputs[-len(wanted) :]
    graph = Prune()(replace(graph, outputs=gradients, output_names=tuple(f"{n}_grad" for n in wanted)))
    check(graph, values(shapes))


def test_the_last_cell_alone() -> None:
    """Nobody reads the states then, but the scan does."""
    inputs = {name: mx.sym.Variable(name) for name in ("data", "parameters", "state", "state_cell")}
    symbol = mx.sym.RNN(**inputs, state_size=UNITS, num_layers=1, mode="lstm", state_outputs=True, name="rnn")
    shapes = {
        "data": (STEPS, ROWS, WIDTH),
        "parameters": (layout("lstm", WIDTH, UNITS, 1)[-1].stop,),
        "state": (1, ROWS, UNITS),
        "state_cell": (1, ROWS, UNITS),
    }
    check(trace(symbol[2], shapes), values(shapes))


@pytest.mark.parametrize("units", [UNITS, 64])
def test_constant_weights_are_packed_once(units: int) -> None:
    data, outputs = mx.sym.Variable("data"), []
    shapes: dict[str, tuple[int, ...]] = {"data": (STEPS, ROWS, WIDTH)}
    for mode in MODULES:
        states = {name: mx.sym.Variable(f"{mode}_{name}") for name in ("state", "state_cell")}
        chosen = states if mode == "lstm" else {"state": states["state"]}
        shapes |= {f"{mode}_{name}": (1, ROWS, units) for name in chosen}
        layer = mx.sym.RNN(data, **chosen, state_size=units, num_layers=1, mode=mode, name=mode)
        outputs.append(layer)
    executable = compile(mx.sym.Group(outputs), shapes=shapes, target="cpu")
    weights = {f"{mode}_parameters": (layout(mode, WIDTH, units, 1)[-1].stop,) for mode in MODULES}
    for seed in (1, 2):  # a change of the parameters packs again
        torch.manual_seed(seed)
        inputs = {name: torch.randn(shape) for name, shape in shapes.items()}
        learned = {name: 0.2 * torch.randn(shape) for name, shape in weights.items()}
        executable.set_states(learned)
        found = executable.run(**inputs)
        graph = executable.graph
        for name, wanted in run_reference(graph, {**inputs, **learned}).outputs.items():
            torch.testing.assert_close(found[name].double(), wanted, rtol=2e-5, atol=2e-5)
    main = "".join(executable.backend.sources.values())
    assert main.count("}, nullptr, (float*)") == 4
