"""RNN: sequences of different lengths, a clipped cell, dropout, packed weights, and what is refused."""

from typing import Any

import numpy
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import graphc as mx
from graphc.diagnostics import GraphcError
from graphc.driver.reference import run_reference
from graphc.operators.recurrent import layout, pack_weights, unpack_weights
from graphc.passes.expand import Expand
from graphc.passes.gradient import gradient
from graphc.passes.manager import PassManager
from graphc.primitives import primitive
from graphc.symbol.trace import trace
from support.recurrent_cases import MODULES, recurrent_case, torch_name


def rnn(*more: str, **parameters: Any) -> mx.Symbol:
    """The operator on variables named as its inputs; one layer unless said otherwise."""
    names = ["data", "parameters", "state", *(["state_cell"] if parameters["mode"] == "lstm" else []), *more]
    inputs = {name: mx.sym.Variable(name) for name in names}
    return mx.sym.RNN(**inputs, name="rnn", **{"num_layers": 1, **parameters})


@pytest.mark.parametrize("mode", MODULES)
def test_sequences_of_different_lengths(mode: str) -> None:
    """As torch's packed sequences: states stop at each sequence's end, the output is 0 behind it."""
    case = recurrent_case(mode, 4, 3, 2, 3, 2, True)
    inputs, lengths = case.inputs(), torch.tensor([2, 4, 1])
    module = MODULES[mode](2, 3, 2, bidirectional=True, **({"nonlinearity": mode[4:]} if "_" in mode else {}))
    weights = unpack_weights(inputs["parameters"], layout(mode, 2, 3, 2, True))
    packed = pack_padded_sequence(inputs["data"], lengths, enforce_sorted=False)
    first = (inputs["state"], inputs["state_cell"]) if mode == "lstm" else inputs["state"]
    named = {torch_name(k): v for k, v in weights.items()}
    output, last = torch.func.functional_call(module.double(), named, (packed, first))
    wanted = [pad_packed_sequence(output)[0], *(last if mode == "lstm" else [last])]
    symbol = rnn("sequence_length", use_sequence_length=True, **case.parameters)
    shapes = {**case.shapes, "sequence_length": (3,)}
    graph = trace(symbol, shapes)
    found = run_reference(graph, {**inputs, "sequence_length": lengths.double()}).outputs
    for name, value in zip(graph.output_names, wanted, strict=True):
        torch.testing.assert_close(found[name], value.detach(), msg=lambda text, name=name: f"{name}: {text}")


def test_a_clipped_cell() -> None:
    case = recurrent_case("lstm", 5, 2, 3, 4)
    inputs = {name: 3 * value for name, value in case.inputs().items()}
    weights = unpack_weights(inputs["parameters"], layout("lstm", 3, 4, 1))
    h, c = inputs["state"][0], inputs["state_cell"][0]
    clipped = 0
    for x in inputs["data"]:
        sums = x @ weights["l0_i2h_weight"].T + weights["l0_i2h_bias"] + weights["l0_h2h_bias"]
        i, f, g, o = (sums + h @ weights["l0_h2h_weight"].T).chunk(4, 1)
        free = f.sigmoid() * c + i.sigmoid() * g.tanh()
        c = free.clamp(-0.25, 0.5)
        clipped += int((free != c).sum())
        h = o.sigmoid() * c.tanh()
    assert 5 < clipped < 40
    symbol = rnn(lstm_state_clip_min=-0.25, lstm_state_clip_max=0.5, **case.parameters)
    found = run_reference(trace(symbol, case.shapes), inputs).outputs
    torch.testing.assert_close(found["rnn_state"][0], h)
    torch.testing.assert_close(found["rnn_state_cell"][0], c)


def test_dropout_between_layers_in_training_only() -> None:
    def uniform_draws(layers: int, is_train: bool, p: float) -> int:
        symbol = rnn(mode="gru", state_size=3, num_layers=layers, p=p)
        graph = trace(symbol, {"data": (2, 4, 5)}, is_train=is_train)
        return sum(node.primitive == "random_uniform" for node in graph.nodes)

    assert uniform_draws(3, True, 0.5) == 2
    assert uniform_draws(3, False, 0.5) == uniform_draws(1, True, 0.5) == uniform_draws(3, True, 0.0) == 0


def test_shapes_follow_from_data() -> None:
    symbol = rnn(mode="lstm", state_size=650, num_layers=2, state_outputs=True)
    arguments, outputs, _ = symbol.infer_shape(data=(35, 20, 650))
    size = 2 * (2 * 2600 * 650 + 2 * 2600)
    assert arguments == [(35, 20, 650), (size,), (2, 20, 650), (2, 20, 650)]
    assert outputs == [(35, 20, 650), (2, 20, 650), (2, 20, 650)]
    assert symbol.list_outputs() == ["rnn_output", "rnn_state", "rnn_state_cell"]


def test_packing_is_undone_by_unpacking() -> None:
    pieces = layout("gru", 3, 2, 2, bidirectional=True)
    assert [piece.name for piece in pieces][:5] == [
        "l0_i2h_weight", "l0_h2h_weight", "r0_i2h_weight", "r0_h2h_weight", "l1_i2h_weight"
    ]  # fmt: skip
    assert pieces[4].shape == (6, 4) and pieces[-1].name == "r1_h2h_bias"
    vector = numpy.arange(float(pieces[-1].stop))
    assert numpy.array_equal(pack_weights(unpack_weights(vector, pieces), pieces, vector * 0), vector)


@pytest.mark.parametrize(
    ("mode", "parameters", "words"),
    [
        ("gru", {"lstm_state_clip_min": 0, "lstm_state_clip_max": 1}, "only an lstm has a cell to clip"),
        ("lstm", {"lstm_state_clip_min": 0}, "clipped at both ends"),
        ("lstm", {"lstm_state_clip_min": 1, "lstm_state_clip_max": 0}, "must not be above"),
        (
            "lstm",
            {"lstm_state_clip_min": 0, "lstm_state_clip_max": 1, "lstm_state_clip_nan": True},
            "NaN passes through",
        ),
        ("gru", {"projection_size": 2}, "only an lstm has a projected state"),
    ],
)
def test_what_cannot_be_computed_is_refused(mode: str, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(GraphcError, match=words):
        trace(rnn(mode=mode, state_size=2, **parameters), {"data": (3, 2, 2)})


def test_wrong_shapes_are_refused() -> None:
    for shapes, words in (
        ({"data": (3, 2)}, "steps, batch, features"),
        ({"data": (3, 2, 4), "parameters": (99,)}, "parameters holds 64 numbers"),
        ({"data": (3, 2, 4), "state": (1, 5, 2)}, "data and state have one batch|layers \\* directions"),
    ):
        with pytest.raises(GraphcError, match=words):
            trace(rnn(mode="lstm", state_size=2), shapes)


@pytest.mark.parametrize("mode", MODULES)
def test_expansion_gives_the_same(mode: str) -> None:
    """Step by step, in other primitives, forward and backward."""
    case = recurrent_case(mode, 3, 2, 4, 3, 2, True)
    inputs = case.inputs()
    graph = trace(rnn(**case.parameters), case.shapes)
    graph = gradient(graph, list(case.shapes))
    expanded, _ = PassManager([Expand()], verify=True).run(graph)
    assert all(primitive(node.primitive).expansion is None for node in expanded.nodes)
    wanted, found = run_reference(graph, inputs).outputs, run_reference(expanded, inputs).outputs
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")
    assert Expand()(expanded) is expanded
    assert Expand(lambda node: True)(graph) is graph


def test_a_symbolic_number_of_steps_cannot_be_expanded() -> None:
    graph = trace(rnn(mode="gru", state_size=3), {"data": ("T", 2, 4), "state": (1, 2, 3)})
    with pytest.raises(
        GraphcError, match=r"G406.*no template for recurrence: .*known number of steps, got T"
    ):
        Expand()(graph)


@pytest.mark.parametrize("mode", MODULES)
def test_a_training_graph_keeps_the_gates_and_inference_does_not(mode: str) -> None:
    """Only the gradient reads them; a result that nobody reads is no parameter of the kernel."""
    from graphc.passes.fusion import fuse

    graph = trace(rnn(mode=mode, state_size=3), {"data": (4, 2, 5)})
    (kernel,) = [k for k in fuse(graph).kernels if k.anchor and k.anchor.primitive == "recurrence"]
    assert kernel.anchor is not None and [bool(name) for name in kernel.anchor.results][1:] == [False] * (
        len(kernel.anchor.results) - 1
    )
    learned = gradient(graph, ["parameters"])
    (kernel,) = [k for k in fuse(learned).kernels if k.anchor and k.anchor.primitive == "recurrence"]
    assert kernel.anchor is not None and all(kernel.anchor.results)
