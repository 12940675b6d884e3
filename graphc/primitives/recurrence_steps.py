"""Recurrences step by step in other primitives: what they expand to where a target has no template for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from graphc.ir.graph import Node, Value
from graphc.primitives.declare import TypeRuleError

if TYPE_CHECKING:
    from graphc.primitives.builder import Builder


def expand(b: Builder, node: Node) -> tuple[Value, ...]:
    """The results of a recurrence, one product and its gates a step."""
    mode = node.attributes["mode"]
    x, weight, h, *rest = node.inputs
    states: list[Value] = []
    cells: list[Value] = []
    gates: list[Value] = []
    for t in _times(node, backwards=False):
        now = _step(b, x, t)
        product = b.dot(h, weight, transpose_b=True)
        if mode == "lstm":
            h, rest[0], parts = _lstm(b, b.add(now, product), rest[0], node.attributes["clip"])
            cells.append(rest[0])
            gates.append(b.emit("concat", *parts, axis=1))
        elif mode == "gru":
            h, parts = _gru(b, now, product, rest[0], h)
            gates.append(b.emit("concat", *parts, axis=1))
        else:
            total = b.add(now, product)
            h = b.maximum(total, 0.0) if mode == "rnn_relu" else b.tanh(total)
        states.append(h)
    return tuple(_sequence(b, node, values) for values in (states, cells, gates) if values)


def expand_gradient(b: Builder, node: Node) -> tuple[Value, ...]:
    """The results of a recurrence's gradient, one product a step."""
    mode, weight = node.attributes["mode"], node.inputs[1]
    heads = node.inputs[0]
    dh: Value | None = None
    dc: Value | None = None
    inner: list[Value] = []
    products: list[Value] = []
    for t in _times(node, backwards=True):
        head = _step(b, heads, t)
        total = head if dh is None else b.add(head, dh)
        kept: Value | None = None
        if mode == "lstm":
            dx, dc = _lstm_gradient(b, node, t, total, dc)
        elif mode == "gru":
            dx, ds, kept = _gru_gradient(b, node, t, total)
            products.append(ds)
        else:
            h = _step(b, node.inputs[2], t)
            slope = b.where(b.gt(h, 0.0), 1.0, b.full_like(0.0, h)) if mode == "rnn_relu" else _falling(b, h)
            dx = b.mul(total, slope)
        inner.append(dx)
        back = b.dot(products[-1] if products else dx, weight)
        dh = back if kept is None else b.add(kept, back)
    assert dh is not None
    # The lists run back in time, as the scan did.
    sequences = [_sequence(b, node, values[::-1]) for values in (inner, products) if values]
    return (*sequences, dh) if dc is None else (*sequences, dh, dc)


# Steps in time


def _times(node: Node, backwards: bool) -> Iterator[int]:
    """The steps in the order in which they run; TypeRuleError unless their number is known and above 0."""
    steps = node.inputs[0].type.shape[0]
    if not isinstance(steps, int) or steps < 1:
        raise TypeRuleError(f"to run step by step, a recurrence needs a known number of steps, got {steps}")
    times = range(steps)
    return iter(times if node.attributes["reverse"] == backwards else reversed(times))


def _step(b: Builder, sequence: Value, t: int) -> Value:
    return b.reshape(b.slice_axis(sequence, 0, t, t + 1), sequence.type.shape[1:])


def _previous(b: Builder, node: Node, sequence: Value, first: Value, t: int) -> Value:
    """What a sequence holds one step before `t`, which for the first step is `first`."""
    steps = sequence.type.shape[0]
    before = t + 1 if node.attributes["reverse"] else t - 1
    return _step(b, sequence, before) if isinstance(steps, int) and 0 <= before < steps else first


def _sequence(b: Builder, node: Node, values: Sequence[Value]) -> Value:
    """The steps' values in the order of time, from the order in which a forward scan runs."""
    ordered = values[::-1] if node.attributes["reverse"] else values
    rows = [b.reshape(value, (1, *value.type.shape)) for value in ordered]
    return rows[0] if len(rows) == 1 else b.emit("concat", *rows, axis=0)


def _blocks(b: Builder, value: Value, count: int) -> list[Value]:
    """The blocks of columns of a step's gates."""
    width = value.type.shape[1]
    assert isinstance(width, int)
    units = width // count
    return [b.slice_axis(value, 1, k * units, (k + 1) * units) for k in range(count)]


def _falling(b: Builder, y: Value) -> Value:
    """The derivative of tanh where its value is y."""
    return b.sub(1.0, b.mul(y, y))


def _sigmoid_slope(b: Builder, y: Value) -> Value:
    """The derivative of the sigmoid where its value is y."""
    return b.mul(y, b.sub(1.0, y))


# Cells


def _lstm(
    b: Builder, total: Value, c: Value, clip: tuple[float, float] | None
) -> tuple[Value, Value, tuple[Value, ...]]:
    raw = _blocks(b, total, 4)
    i, f, g, o = b.sigmoid(raw[0]), b.sigmoid(raw[1]), b.tanh(raw[2]), b.sigmoid(raw[3])
    c = b.add(b.mul(f, c), b.mul(i, g))
    if clip is not None:
        c = b.minimum(b.maximum(c, clip[0]), clip[1])
    return b.mul(o, b.tanh(c)), c, (i, f, g, o)


def _lstm_gradient(b: Builder, node: Node, t: int, dh: Value, carried: Value | None) -> tuple[Value, Value]:
    """The gradient of a step's gates, and of the cell before it."""
    _, _, first, cells, gates, *heads = node.inputs
    i, f, g, o = _blocks(b, _step(b, gates, t), 4)
    c, clip = _step(b, cells, t), node.attributes["clip"]
    out = b.tanh(c)
    dc = b.mul(b.mul(dh, o), _falling(b, out))
    for part in (carried, *(_step(b, head, t) for head in heads)):
        dc = dc if part is None else b.add(dc, part)
    if clip is not None:
        inside = b.logical_and(b.gt(c, clip[0]), b.lt(c, clip[1]))
        dc = b.where(inside, dc, b.full_like(0.0, dc))
    before = _previous(b, node, cells, first, t)
    parts = (
        b.mul(b.mul(dc, g), _sigmoid_slope(b, i)),
        b.mul(b.mul(dc, before), _sigmoid_slope(b, f)),
        b.mul(b.mul(dc, i), _falling(b, g)),
        b.mul(b.mul(dh, out), _sigmoid_slope(b, o)),
    )
    return b.emit("concat", *parts, axis=1), b.mul(dc, f)


def _gru(b: Builder, x: Value, product: Value, bias: Value, h: Value) -> tuple[Value, tuple[Value, ...]]:
    inputs, hidden = _blocks(b, x, 3), _blocks(b, product, 3)
    r, z = (b.sigmoid(b.add(inputs[k], hidden[k])) for k in (0, 1))
    q = b.add(hidden[2], bias)
    n = b.tanh(b.add(inputs[2], b.mul(r, q)))
    return b.add(b.mul(b.sub(1.0, z), n), b.mul(z, h)), (r, z, n, q)


def _gru_gradient(b: Builder, node: Node, t: int, dh: Value) -> tuple[Value, Value, Value]:
    """The gradients of a step's inputs and of its product with the weight, and what passes the step by."""
    _, _, first, states, gates = node.inputs
    r, z, n, q = _blocks(b, _step(b, gates, t), 4)
    before = _previous(b, node, states, first, t)
    dz = b.mul(b.mul(dh, b.sub(before, n)), _sigmoid_slope(b, z))
    dn = b.mul(b.mul(dh, b.sub(1.0, z)), _falling(b, n))
    dr = b.mul(b.mul(dn, q), _sigmoid_slope(b, r))
    dx = b.emit("concat", dr, dz, dn, axis=1)
    return dx, b.emit("concat", dr, dz, b.mul(dn, r), axis=1), b.mul(dh, z)
