"""RNN: stacked recurrent layers over a sequence, their weights packed in one vector as cuDNN has them.

The vector holds, layer by layer and direction by direction, the weights of the inputs [G*H, I] and of the state
[G*H, H]; then, in the same order, the two biases [G*H] of each. I is the width of data in the first layer and
directions * H in the others; the G blocks of H rows are i f g o (lstm), r z n (gru). With projection_size = P the state
of an lstm is its hidden values times a weight h2r [P, H], which stands behind that of the state, [G*H, P] then (Sak,
Senior, Beaufays 2014, arXiv:1402.1128).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphc.ir.graph import Value
from graphc.operators.declare import Composition, Context, Operator, declare
from graphc.operators.inference import BrokenRuleError, ShapeFrame, is_known, same_dtype_but
from graphc.operators.parameters import (
    INTEGER,
    NUMBER,
    Parameter,
    Parameters,
    boolean,
    choice,
    integer,
    number,
    optional,
)
from graphc.operators.random import dropped
from graphc.operators.sequence import last_of_sequences, masked, reversed_sequences
from graphc.primitives.builder import Builder
from graphc.primitives.recurrence import GATES
from graphc.types import Dim, dimension


@dataclass(frozen=True, slots=True)
class Piece:
    """A weight or bias in the packed vector: its name as in FusedRNNCell, its shape, and where it starts."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        size = 1
        for extent in self.shape:
            size *= extent
        return self.start + size


def layout(
    mode: str, width: int, units: int, layers: int, bidirectional: bool = False, projection: int | None = None
) -> tuple[Piece, ...]:
    """The pieces of the packed vector in order: l0_i2h_weight, l0_h2h_weight, r0_i2h_weight ... r1_h2h_bias."""
    rows, state = GATES[mode] * units, projection or units
    sides = ("l", "r") if bidirectional else ("l",)
    pieces: list[Piece] = []
    for kind in ("weight", "bias"):
        for layer in range(layers):
            inputs = width if layer == 0 else len(sides) * state
            for side in sides:
                shapes = {"i2h": (rows, inputs), "h2h": (rows, state)}
                if projection and kind == "weight":
                    shapes["h2r"] = (projection, units)
                for name, shape in shapes.items():
                    start = pieces[-1].stop if pieces else 0
                    pieces.append(
                        Piece(f"{side}{layer}_{name}_{kind}", shape if kind == "weight" else (rows,), start)
                    )
    return tuple(pieces)


def unpack_weights(vector: Any, pieces: tuple[Piece, ...]) -> dict[str, Any]:
    """The pieces of a packed vector (an array or a tensor) by name, as views of it."""
    return {piece.name: vector[piece.start : piece.stop].reshape(piece.shape) for piece in pieces}


def pack_weights(weights: Mapping[str, Any], pieces: tuple[Piece, ...], vector: Any) -> Any:
    """Write weights by name into a packed vector, which is returned."""
    for piece in pieces:
        vector[piece.start : piece.stop] = weights[piece.name].reshape(-1)
    return vector


# Shapes


def _layout(parameters: Parameters, width: int) -> tuple[Piece, ...]:
    return layout(
        parameters.mode,
        width,
        parameters.state_size,
        parameters.num_layers,
        parameters.bidirectional,
        parameters.projection_size,
    )


def _arguments(parameters: Parameters) -> tuple[str, ...]:
    cell = ("state_cell",) if parameters.mode == "lstm" else ()
    length = ("sequence_length",) if parameters.use_sequence_length else ()
    return ("data", "parameters", "state", *cell, *length)


def _outputs(parameters: Parameters) -> tuple[str, ...]:
    if not parameters.state_outputs:
        return ("output",)
    return ("output", "state", "state_cell") if parameters.mode == "lstm" else ("output", "state")


def _check(parameters: Parameters) -> None:
    """BrokenRuleError for what there is no computation for."""
    if parameters.projection_size is not None and parameters.mode != "lstm":
        raise BrokenRuleError(
            f"only an lstm has a projected state, not {parameters.mode}", help="use mode='lstm'"
        )
    bounds = (parameters.lstm_state_clip_min, parameters.lstm_state_clip_max)
    if (bounds[0] is None) != (bounds[1] is None):
        raise BrokenRuleError("the cell is clipped at both ends", help="give lstm_state_clip_min and _max")
    if bounds[0] is None:
        return
    if parameters.mode != "lstm":
        raise BrokenRuleError(
            f"only an lstm has a cell to clip, not {parameters.mode}", help="use mode='lstm'"
        )
    if bounds[0] > bounds[1]:
        raise BrokenRuleError("lstm_state_clip_min must not be above lstm_state_clip_max")
    if parameters.lstm_state_clip_nan:
        raise BrokenRuleError("NaN passes through the clip", help="leave lstm_state_clip_nan out")


def _shapes(frame: ShapeFrame) -> None:
    parameters = frame.parameters
    _check(parameters)
    sides = 2 if parameters.bidirectional else 1
    data, state = frame["data"], frame["state"]
    units, layers = parameters.state_size, parameters.num_layers
    state_width = parameters.projection_size or units
    if data is not None and len(data) != 3:
        raise BrokenRuleError("data has the axes steps, batch, features", {"data": (0, 0, 0)})
    steps, batch, width = data if data is not None else (0, 0, 0)
    if not is_known(batch) and state is not None and len(state) == 3:
        batch = state[1]
    if is_known(width):
        if not isinstance(width, int):
            raise BrokenRuleError("the width of data, its last axis, must be known", {"data": data})
        size = _layout(parameters, width)[-1].stop
        frame.expect("parameters", (size,), f"parameters holds {size} numbers: all weights, then all biases")
    first, cell = (layers * sides, batch, state_width), (layers * sides, batch, units)
    rule = "a state has the axes layers * directions, batch, state_size (projection_size where there is one)"
    frame.expect("state", first, rule)
    frame.expect("state_cell", cell, "a cell has the axes layers * directions, batch, state_size")
    frame.expect("data", (0, batch, 0), "data and state have one batch")
    frame.expect("sequence_length", (batch,), "there is one length for each sequence of the batch")
    if is_known(batch) and is_known(steps):
        frame.expect_output((steps, batch, sides * state_width))
        for index, shape in enumerate((first, cell)[: len(frame.outputs) - 1], 1):
            frame.expect_output(shape, index)


# Composition


@dataclass(slots=True)
class _Layers:
    """What all layers of one operator share."""

    builder: Builder
    parameters: Parameters
    weights: Mapping[str, Value]
    length: Value | None

    def run(
        self, data: Value, name: str, first: Value, cell: Value | None
    ) -> tuple[Value, Value, Value | None]:
        """One layer in one direction: its states at all steps, the last state and the last cell."""
        b, length, reverse = self.builder, self.length, name[0] == "r"
        if length is not None and reverse:
            data = reversed_sequences(b, data, length)
        outputs = self.scan(data, name, first, cell, reverse and length is None)
        states, cells = outputs[0], outputs[1] if cell is not None else None
        if length is None:
            last = [_at(b, value, 0 if reverse else -1) for value in (states, cells) if value is not None]
        else:
            last = [last_of_sequences(b, v, length) for v in (states, cells) if v is not None]
            states = masked(b, reversed_sequences(b, states, length) if reverse else states, length, 0.0)
        return states, last[0], last[1] if cells is not None else None

    def scan(
        self, data: Value, name: str, first: Value, cell: Value | None, reverse: bool
    ) -> tuple[Value, ...]:
        """The product of all inputs at once, then the steps."""
        b, mode, units = self.builder, self.parameters.mode, self.parameters.state_size
        steps, batch, width = data.type.shape
        weight, bias = self.weights[f"{name}_i2h_weight"], self.weights[f"{name}_i2h_bias"]
        hidden, hidden_bias = self.weights[f"{name}_h2h_weight"], self.weights[f"{name}_h2h_bias"]
        rest: tuple[Value, ...] = () if cell is None else (cell,)
        if mode == "gru":  # the reset gate scales the last block of the state's product, its bias included
            rest = (b.slice_axis(hidden_bias, 0, 2 * units, 3 * units),)
            folded = b.slice_axis(hidden_bias, 0, 0, 2 * units)
            hidden_bias = b.emit("pad", folded, low=(0,), high=(units,), value=0.0)
        flat = b.reshape(data, (steps * batch, width))
        product = b.add(b.dot(flat, weight, transpose_b=True), b.add(bias, hidden_bias))
        x = b.reshape(product, (steps, batch, hidden.type.shape[0]))
        projected = self.weights.get(f"{name}_h2r_weight")
        if projected is not None:
            x, hidden, first = _unprojected(b, x, hidden, projected, first, reverse)
        low, high = self.parameters.lstm_state_clip_min, self.parameters.lstm_state_clip_max
        clip = None if low is None else (low, high)
        found = b.emit_all("recurrence", x, hidden, first, *rest, mode=mode, reverse=reverse, clip=clip)
        if projected is None:
            return found
        states = b.dot(b.reshape(found[0], (steps * batch, units)), projected, transpose_b=True)
        return (b.reshape(states, (steps, batch, projected.type.shape[0])), *found[1:])


def _unprojected(
    b: Builder, x: Value, hidden: Value, projected: Value, first: Value, reverse: bool
) -> tuple[Value, Value, Value]:
    """Inputs, state's weight and first state of a recurrence whose state is hidden values before their projection.

    W (P h) = (W P) h, so both weights are one, and all projections are one product after the scan. The first state is
    given projected: its product goes to the inputs of the first step, and the scan starts from zeros.
    """
    steps, batch, rows = x.type.shape
    start = b.reshape(b.dot(first, hidden, transpose_b=True), (1, batch, rows))
    others: Dim = dimension(steps - 1)
    low, high = ((others, 0, 0), (0, 0, 0)) if reverse else ((0, 0, 0), (others, 0, 0))
    x = b.add(x, b.emit("pad", start, low=low, high=high, value=0.0))
    zeros = b.full(0, first.type.with_shape((batch, projected.type.shape[1])))
    return x, b.dot(hidden, projected), zeros


def _at(b: Builder, sequence: Value, step: int) -> Value:
    """One step, counted from the end where negative, as [1, N, H]."""
    start: Dim = dimension(sequence.type.shape[0] + step) if step < 0 else step
    return b.slice_axis(sequence, 0, start, start + 1)


def _rnn(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Composition:
    named = dict(zip(_arguments(parameters), inputs, strict=True))
    data = named["data"]
    batch, width = data.type.shape[1:]
    if not isinstance(width, int):
        raise BrokenRuleError("the width of data, its last axis, must be known")
    pieces = _layout(parameters, width)
    vector = named["parameters"]
    weights = {
        piece.name: builder.reshape(builder.slice_axis(vector, 0, piece.start, piece.stop), piece.shape)
        for piece in pieces
    }
    layers = _Layers(builder, parameters, weights, named.get("sequence_length"))
    sides = ("l", "r") if parameters.bidirectional else ("l",)
    lasts: list[Value] = []
    cells: list[Value] = []

    def first(name: str) -> Value:
        return builder.reshape(_at(builder, named[name], len(lasts)), (batch, named[name].type.shape[2]))

    for layer in range(parameters.num_layers):
        if layer and context.is_train:
            data = dropped(builder, data, parameters.p, context)
        results: list[Value] = []
        for side in sides:
            cell = first("state_cell") if parameters.mode == "lstm" else None
            states, last, last_cell = layers.run(data, f"{side}{layer}", first("state"), cell)
            results.append(states)
            lasts.append(last)
            cells += [] if last_cell is None else [last_cell]
        data = _joined(builder, results, 2)
    found = [data]
    if parameters.state_outputs:
        found += [_joined(builder, values, 0) for values in (lasts, cells) if values]
    return Composition(tuple(found))


def _joined(b: Builder, values: list[Value], axis: int) -> Value:
    return values[0] if len(values) == 1 else b.emit("concat", *values, axis=axis)


declare(
    Operator(
        "RNN",
        "Stacked recurrent layers over data [steps, batch, features], with the weights packed in one vector.\n\n"
        "Modes rnn_relu, rnn_tanh, lstm and gru have cuDNN's equations. The vector holds the weights of inputs and "
        "state, layer by layer and direction by direction, then the biases in the same order.",
        _rnn,
        parameters=(
            integer("state_size", "Number of units of each layer and direction.", minimum=1),
            integer("num_layers", "Number of layers.", minimum=1),
            choice("mode", "The kind of unit.", ("rnn_relu", "rnn_tanh", "lstm", "gru")),
            boolean("bidirectional", "Run over the sequence in both directions and join the results.", False),
            number("p", "Probability of dropout between layers, in training.", 0.0, minimum=0.0, maximum=1.0),
            boolean("state_outputs", "Give the last states as outputs too.", False),
            Parameter(
                "projection_size", optional(INTEGER), "Width of an lstm's projected state.", None, minimum=1
            ),
            Parameter("lstm_state_clip_min", optional(NUMBER), "Least value of an lstm's cell.", None),
            Parameter("lstm_state_clip_max", optional(NUMBER), "Greatest value of an lstm's cell.", None),
            boolean("lstm_state_clip_nan", "Replace NaN in the cell when it is clipped.", False),
            boolean("use_sequence_length", "Take the length of each sequence as an input.", False),
        ),
        arguments=_arguments,
        outputs=_outputs,
        shapes=_shapes,
        dtypes=same_dtype_but("sequence_length"),
    )
)
