"""Recurrent layers as scans over time: the step's product with the hidden weight, and its gates.

With s_t = h_{t-1} weight^T, gates in blocks of H columns, and the products of all inputs with their weight (biases
added) in x:

    rnn_relu, rnn_tanh   h_t = f(x + s)
    lstm   i, f, o = sigmoid(x + s), g = tanh(x + s);  c_t = f c_{t-1} + i g;  h_t = o tanh(c_t);  blocks i f g o
    gru    r, z = sigmoid(x + s), q = s + bias;  n = tanh(x + r q);  h_t = (1 - z) n + z h_{t-1};  blocks r z n

These are cuDNN's equations and order of gates. Sources: S. Hochreiter, J. Schmidhuber, Long short-term memory (1997);
K. Cho et al., Learning phrase representations using RNN encoder-decoder (2014), in the form of cuDNN, where r scales
the product with the weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc.ir.graph import Attributes, Node, Value
from graphc.primitives import rules
from graphc.primitives.declare import AttributeSpec, Kind, Primitive, TypeRuleError, declare
from graphc.primitives.expansion import gradient_by_expansion
from graphc.primitives.recurrence_oracle import gradient_oracle, oracle
from graphc.primitives.recurrence_steps import expand, expand_gradient
from graphc.types import Dim, TensorType, dimension

if TYPE_CHECKING:
    from graphc.primitives.builder import Builder

Gradients = tuple[Value | None, ...]
Types = tuple[TensorType, ...]

GATES = {"rnn_relu": 1, "rnn_tanh": 1, "lstm": 4, "gru": 3}
"""Blocks of columns that a step's product has, by mode."""

ATTRIBUTES = (
    AttributeSpec("mode", "rnn_relu, rnn_tanh, lstm or gru"),
    AttributeSpec("reverse", "run from the last step to the first", required=False, default=False),
    AttributeSpec(
        "clip", "lstm: (low, high), the bounds that hold the cell, or None", required=False, default=None
    ),
)


def _mode(attributes: Attributes) -> str:
    mode, clip = attributes["mode"], attributes["clip"]
    if mode not in GATES:
        raise TypeRuleError(f"mode must be one of {', '.join(GATES)}, got {mode!r}")
    if not isinstance(attributes["reverse"], bool):
        raise TypeRuleError(f"reverse must be a bool, got {attributes['reverse']!r}")
    if clip is not None:
        if mode != "lstm":
            raise TypeRuleError(f"only the cell of an lstm is clipped, the mode is {mode}")
        if not isinstance(clip, tuple) or len(clip) != 2 or not all(isinstance(v, float) for v in clip):
            raise TypeRuleError(f"clip must be two numbers or None, got {clip!r}")
        if not clip[0] <= clip[1]:
            raise TypeRuleError(f"the lower bound of clip must not be above the upper one, got {clip}")
    return str(mode)


def _sizes(mode: str, sequence: TensorType, weight: TensorType) -> tuple[Dim, Dim, int]:
    """(T, N, H) of a sequence [T,N,...] and the hidden weight [gates * H, H]."""
    if sequence.rank != 3:
        raise TypeRuleError(f"a sequence has shape [steps, batch, features], got {sequence}")
    gates = GATES[mode]
    units = weight.shape[1] if weight.rank == 2 else None
    if not isinstance(units, int) or units < 1 or weight.shape[0] != gates * units:
        raise TypeRuleError(f"the hidden weight of {mode} has shape [{gates}*H,H] for known H, got {weight}")
    return sequence.shape[0], sequence.shape[1], units


def _checked(mode: str, types: Types, expected: dict[str, tuple[Dim, ...]], optional: int = 0) -> None:
    """The operands' number, one floating-point type, and shapes."""
    count = len(types) if len(expected) - optional <= len(types) <= len(expected) else len(expected)
    rules.operands(types, count)
    rules.floating(*types)
    rules.one_dtype(*types)
    for type, (name, shape) in zip(types, expected.items(), strict=False):
        rules.shape_is(f"{name} of {mode}", type.shape, shape)


def _infer(types: Types, attributes: Attributes) -> Types:
    mode = _mode(attributes)
    if len(types) < 3:
        rules.operands(types, 4 if mode in ("lstm", "gru") else 3)
    x, weight = types[:2]
    steps, batch, units = _sizes(mode, x, weight)
    expected: dict[str, tuple[Dim, ...]] = {
        "the inputs' product": (steps, batch, GATES[mode] * units),
        "the hidden weight": weight.shape,
        "the first state": (batch, units),
    }
    if mode == "lstm":
        expected["the first cell"] = (batch, units)
    elif mode == "gru":
        expected["the hidden bias"] = (units,)
    _checked(mode, types, expected)
    h = x.with_shape((steps, batch, units))
    saved = x.with_shape((steps, batch, 4 * units))
    return {"lstm": (h, h, saved), "gru": (h, saved)}.get(mode, (h,))


def _infer_gradient(types: Types, attributes: Attributes) -> Types:
    mode = _mode(attributes)
    if len(types) < 2:
        rules.operands(types, {"lstm": 5, "gru": 5}.get(mode, 3))
    dh, weight = types[:2]
    steps, batch, units = _sizes(mode, dh, weight)
    sequence, state = (steps, batch, units), (batch, units)
    expected: dict[str, tuple[Dim, ...]] = {
        "the states' gradient": sequence,
        "the hidden weight": weight.shape,
    }
    saved = (steps, batch, 4 * units)
    if mode == "lstm":
        expected |= {"the first cell": state, "the cells": sequence, "the gates": saved}
        expected["the cells' gradient"] = sequence
    elif mode == "gru":
        expected |= {"the first state": state, "the states": sequence, "the gates": saved}
    else:
        expected["the states"] = sequence
    _checked(mode, types, expected, optional=1 if mode == "lstm" else 0)
    dx, first = dh.with_shape((steps, batch, GATES[mode] * units)), dh.with_shape(state)
    return {"lstm": (dx, first, first), "gru": (dx, dx, first)}.get(mode, (dx, first))


# The gradient: one scan back in time for the steps' gates, then one product a weight over all steps


def _gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    mode, steps = node.attributes["mode"], node.outputs[0].type.shape[0]
    saved = None if mode.startswith("rnn") else heads[-1]
    if all(head is None for head in heads):
        return (None,) * len(node.inputs)
    if saved is not None:  # only the gradient of a gradient has one
        return tuple(gradient_by_expansion(expand)(b, node, heads))
    weight, first = node.inputs[1:3]
    h = node.outputs[0]
    dh = heads[0] if heads[0] is not None else b.full_like(0.0, h)
    if mode == "lstm":
        c, gates = node.outputs[1:]
        cells = () if heads[1] is None else (heads[1],)
        operands = (dh, weight, node.inputs[3], c, gates, *cells)
    elif mode == "gru":
        operands = (dh, weight, first, h, node.outputs[1])
    else:
        operands = (dh, weight, h)
    results = b.emit_all("recurrence_gradient", *operands, **node.attributes)
    ds = results[1] if mode == "gru" else results[0]
    before = _before(b, h, first, steps, node.attributes["reverse"])
    dw = b.dot(_rows(b, ds), _rows(b, before), transpose_a=True)
    if mode == "lstm":
        return results[0], dw, results[1], results[2]
    if mode == "gru":
        units = h.type.shape[2]
        bias = b.sum(b.slice_axis(ds, 2, 2 * units, 3 * units), (0, 1))
        return results[0], dw, results[2], bias
    return results[0], dw, results[1]


def _before(b: Builder, h: Value, first: Value, steps: Dim, reverse: bool) -> Value:
    """The state that each step starts from."""
    start = b.reshape(first, (1, *first.type.shape))
    if reverse:
        return b.emit("concat", b.slice_axis(h, 0, 1, steps), start, axis=0)
    return b.emit("concat", start, b.slice_axis(h, 0, 0, steps - 1), axis=0)


def _rows(b: Builder, sequence: Value) -> Value:
    steps, batch, width = sequence.type.shape
    return b.reshape(sequence, (steps * batch, width))


def _flops(node: Node) -> Dim:
    """The product of each step, and about ten operations a unit for its gates."""
    rows, units = node.inputs[1].type.shape
    steps, batch, _ = node.inputs[0].type.shape
    return dimension(steps * batch * (2 * rows * units + 10 * rows))


declare(
    Primitive(
        "recurrence",
        "a recurrent layer over all steps: (x[T,N,G*H], weight[G*H,H], h0[N,H], lstm: c0[N,H], gru: bias[H]) to the "
        "states h[T,N,H], lstm: the cells c[T,N,H], and, for the gradient, lstm: i f g o, gru: r z n q, [T,N,4*H]",
        Kind.TEMPLATE,
        _infer,
        oracle,
        _gradient,
        attributes=ATTRIBUTES,
        flops=_flops,
        expansion=expand,
    )
)
declare(
    Primitive(
        "recurrence_gradient",
        "the scan back in time: (dh[T,N,H], weight, lstm: c0, c, gates and perhaps dc[T,N,H], gru: h0, h, gates, "
        "rnn: h) to dx[T,N,G*H], gru: the gradient of the product with the weight [T,N,3*H], dh0, lstm: dc0",
        Kind.TEMPLATE,
        _infer_gradient,
        gradient_oracle,
        gradient_by_expansion(expand_gradient),
        attributes=ATTRIBUTES,
        flops=_flops,
        expansion=expand_gradient,
    )
)
