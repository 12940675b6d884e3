"""Cases of recurrent layers and of sequences."""

from typing import Any

import torch

from graphc.operators.recurrent import layout, unpack_weights
from support.cases import Case, Oracle, Tensor

MODULES = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn_relu": torch.nn.RNN, "rnn_tanh": torch.nn.RNN}
TORCH_NAMES = {
    "i2h_weight": "weight_ih",
    "h2h_weight": "weight_hh",
    "i2h_bias": "bias_ih",
    "h2h_bias": "bias_hh",
    "h2r_weight": "weight_hr",
}


def torch_name(piece: str) -> str:
    """What torch calls a piece: r1_h2h_bias is bias_hh_l1_reverse."""
    place, kind = piece.split("_", 1)
    return f"{TORCH_NAMES[kind]}_l{place[1:]}" + ("_reverse" if place[0] == "r" else "")


def recurrent_oracle(
    mode: str, width: int, units: int, layers: int, bidirectional: bool, projection: int | None = None
) -> Oracle:
    """torch's module on packed weights: all outputs of an RNN operator with state_outputs."""
    options: dict[str, Any] = {"nonlinearity": mode[4:]} if mode.startswith("rnn") else {}
    options |= {"proj_size": projection} if projection else {}
    module = MODULES[mode](width, units, layers, bidirectional=bidirectional, **options).double()
    pieces = layout(mode, width, units, layers, bidirectional, projection)

    def run(data: Tensor, parameters: Tensor, state: Tensor, cell: Tensor | None = None) -> Any:
        weights = {torch_name(k): v for k, v in unpack_weights(parameters, pieces).items()}
        first = state if cell is None else (state, cell)
        output, last = torch.func.functional_call(module, weights, (data, first))
        return (output, *last) if isinstance(last, tuple) else (output, last)

    return run


def recurrent_case(
    mode: str,
    steps: int,
    batch: int,
    width: int,
    units: int,
    layers: int = 1,
    bidirectional: bool = False,
    projection: int | None = None,
) -> Case:
    states = layers * (2 if bidirectional else 1)
    shapes = {
        "data": (steps, batch, width),
        "parameters": (layout(mode, width, units, layers, bidirectional, projection)[-1].stop,),
        "state": (states, batch, projection or units),
    }
    if mode == "lstm":
        shapes["state_cell"] = (states, batch, units)
    return Case(
        "RNN",
        shapes,
        recurrent_oracle(mode, width, units, layers, bidirectional, projection),
        {
            "mode": mode,
            "state_size": units,
            "num_layers": layers,
            "bidirectional": bidirectional,
            "state_outputs": True,
            **({"projection_size": projection} if projection else {}),
        },
        {"parameters": (-0.7, 0.7)},
        symbolic=False,
    )


def _lengths(x: Tensor, n: Tensor) -> Tensor:
    """Whether each element of x [T, N, ...] lies inside its sequence."""
    steps = torch.arange(x.shape[0])[:, None] < n
    return steps.reshape(*steps.shape, *[1] * (x.dim() - 2))


def _reversed(x: Tensor, n: Tensor) -> Tensor:
    parts = []
    for k, size in enumerate(n.long().tolist()):
        parts.append(torch.cat((x[:size, k].flip(0), x[size:, k])))
    return torch.stack(parts, 1)


def recurrent_cases() -> list[Case]:
    use = {"use_sequence_length": True}
    pair = {"data": (4, 3, 2), "sequence_length": (3,)}
    turned = {"data": (3, 4), "sequence_length": (3,)}
    draw = {"sequence_length": 5}
    return [
        *(recurrent_case(mode, 3, 2, 4, 3, 2, True) for mode in MODULES),
        *(recurrent_case(mode, 1, 1, 2, 5) for mode in MODULES),
        recurrent_case("lstm", 4, 3, 1, 1, 3),
        recurrent_case("lstm", 3, 2, 4, 5, 2, True, 3),
        recurrent_case("lstm", 1, 1, 2, 3, projection=1),
        Case(
            "SequenceMask",
            pair,
            lambda x, n: torch.where(_lengths(x, n), x, torch.tensor(-1.5, dtype=x.dtype)),
            {**use, "value": -1.5},
            draw,
        ),
        Case("SequenceMask", turned, lambda x, n: x * _lengths(x.T, n).T, {**use, "axis": 1}, draw),
        Case("SequenceMask", {"data": (2, 3)}, lambda x: x),
        Case("SequenceLast", {"data": (4, 3, 2)}, lambda x: x[-1], symbolic=False),
        Case("SequenceLast", {"data": (3, 4)}, lambda x: x[:, -1], {"axis": 1}),
        Case("SequenceReverse", {"data": (4, 3, 2)}, lambda x: x.flip(0)),
        Case("SequenceReverse", pair, _reversed, use, draw),
        Case("SequenceReverse", turned, lambda x, n: _reversed(x.T, n).T, {**use, "axis": 1}, draw),
    ]
