"""Recurrences in numpy, one unit after another, for comparison with the oracles."""

import math
from typing import Any

import numpy

Array = Any


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def order(steps: int, backwards: bool) -> list[tuple[int, int | None]]:
    """Pairs of a step and the one that ran before it."""
    times = list(range(steps))[:: -1 if backwards else 1]
    return list(zip(times, [None, *times[:-1]], strict=True))


def recurrence(x: Array, weight: Array, first: Array, *rest: Any) -> tuple[Array, ...]:
    *extra, a, _ = rest
    (steps, batch, _), units = x.shape, weight.shape[1]
    h, c = numpy.zeros((steps, batch, units), x.dtype), numpy.zeros((steps, batch, units), x.dtype)
    gates = numpy.zeros((steps, batch, 4 * units), x.dtype)
    for t, p in order(steps, a["reverse"]):
        for n in range(batch):
            before = first[n] if p is None else h[p, n]
            product = [float(row @ before) for row in weight]
            for k in range(units):
                place = [k + block * units for block in range(4)]
                sums = [x[t, n, j] + product[j] for j in place if j < weight.shape[0]]
                if a["mode"] == "lstm":
                    i, f, g, o = sigmoid(sums[0]), sigmoid(sums[1]), math.tanh(sums[2]), sigmoid(sums[3])
                    cell = f * (extra[0][n, k] if p is None else c[p, n, k]) + i * g
                    c[t, n, k] = cell if a["clip"] is None else min(max(cell, a["clip"][0]), a["clip"][1])
                    h[t, n, k] = o * math.tanh(c[t, n, k])
                    gates[t, n, place] = i, f, g, o
                elif a["mode"] == "gru":
                    r, z, q = sigmoid(sums[0]), sigmoid(sums[1]), product[place[2]] + extra[0][k]
                    new = math.tanh(x[t, n, place[2]] + r * q)
                    h[t, n, k] = (1 - z) * new + z * before[k]
                    gates[t, n, place] = r, z, new, q
                else:
                    h[t, n, k] = max(sums[0], 0) if a["mode"] == "rnn_relu" else math.tanh(sums[0])
    return {"lstm": (h, c, gates), "gru": (h, gates)}.get(a["mode"], (h,))


def recurrence_gradient(dh: Array, weight: Array, *rest: Any) -> tuple[Array, ...]:
    """Chain rule over single units: each step's sums, what they were made of, and the state before."""
    *saved, a, _ = rest
    steps, batch, units = dh.shape
    dx, ds = (numpy.zeros((steps, batch, weight.shape[0]), dh.dtype) for _ in range(2))
    state, cell = numpy.zeros((batch, units), dh.dtype), numpy.zeros((batch, units), dh.dtype)
    following = dict(order(steps, a["reverse"]))
    for t, _ in order(steps, not a["reverse"]):
        for n in range(batch):
            kept = numpy.zeros(units, dh.dtype)
            for k in range(units):
                place = [k + block * units for block in range(4)]
                d, p = dh[t, n, k] + state[n, k], following[t]
                if a["mode"] == "lstm":
                    first, cells, gates, *more = saved
                    (i, f, g, o), out = gates[t, n, place], math.tanh(cells[t, n, k])
                    dc = cell[n, k] + d * o * (1 - out**2) + (more[0][t, n, k] if more else 0)
                    if a["clip"] is not None and not a["clip"][0] < cells[t, n, k] < a["clip"][1]:
                        dc = 0
                    before = first[n, k] if p is None else cells[p, n, k]
                    dx[t, n, place] = (
                        dc * g * i * (1 - i), dc * before * f * (1 - f), dc * i * (1 - g**2), d * out * o * (1 - o)
                    )  # fmt: skip
                    cell[n, k] = dc * f
                elif a["mode"] == "gru":
                    first, states, gates = saved
                    r, z, new, q = gates[t, n, place]
                    before = first[n, k] if p is None else states[p, n, k]
                    dn = d * (1 - z) * (1 - new**2)
                    dx[t, n, place[:3]] = dn * q * r * (1 - r), d * (before - new) * z * (1 - z), dn
                    ds[t, n, place[:3]] = dx[t, n, place[0]], dx[t, n, place[1]], dn * r
                    kept[k] = d * z
                else:
                    h = saved[0][t, n, k]
                    dx[t, n, k] = d * (float(h > 0) if a["mode"] == "rnn_relu" else 1 - h**2)
            state[n] = kept + (ds if a["mode"] == "gru" else dx)[t, n] @ weight
    return {"lstm": (dx, state, cell), "gru": (dx, ds, state)}.get(a["mode"], (dx, state))
