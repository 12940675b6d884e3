"""Recurrences in torch, one step after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphc.ir.graph import Node

if TYPE_CHECKING:
    import torch

Tensors = tuple["torch.Tensor", ...]


def oracle(operands: Tensors, node: Node, shapes: Any) -> Tensors:
    """All results of a recurrence."""
    import torch

    mode, clip = node.attributes["mode"], node.attributes["clip"]
    x, weight, h, *rest = operands
    results = [x.new_zeros(shape) for shape in shapes]
    for t in _times(x.shape[0], node, backwards=False):
        product = h @ weight.mT
        if mode == "lstm":
            i, f, g, o = (x[t] + product).chunk(4, 1)
            i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
            rest[0] = f * rest[0] + i * g
            if clip is not None:
                rest[0] = rest[0].clamp(*clip)
            h = o * torch.tanh(rest[0])
            results[1][t], results[2][t] = rest[0], torch.cat((i, f, g, o), 1)
        elif mode == "gru":
            inputs, hidden = x[t].chunk(3, 1), product.chunk(3, 1)
            r, z = (torch.sigmoid(inputs[k] + hidden[k]) for k in (0, 1))
            q = hidden[2] + rest[0]
            n = torch.tanh(inputs[2] + r * q)
            h = (1 - z) * n + z * h
            results[1][t] = torch.cat((r, z, n, q), 1)
        else:
            h = torch.relu(x[t] + product) if mode == "rnn_relu" else torch.tanh(x[t] + product)
        results[0][t] = h
    return tuple(results)


def gradient_oracle(operands: Tensors, node: Node, shapes: Any) -> Tensors:
    """All results of a recurrence's gradient."""
    import torch

    mode, clip = node.attributes["mode"], node.attributes["clip"]
    head, weight, *rest = operands
    results = [head.new_zeros(shape) for shape in shapes]
    dh = dc = torch.zeros_like(results[-1])
    for t in _times(head.shape[0], node, backwards=True):
        total = head[t] + dh
        if mode == "lstm":
            first, cells, gates, *more = rest
            i, f, g, o = gates[t].chunk(4, 1)
            out = torch.tanh(cells[t])
            dc = dc + total * o * (1 - out * out) + (more[0][t] if more else 0.0)
            if clip is not None:
                dc = torch.where((cells[t] > clip[0]) & (cells[t] < clip[1]), dc, torch.zeros_like(dc))
            before = _previous(cells, first, t, node)
            parts = (dc * g * i * (1 - i), dc * before * f * (1 - f), dc * i * (1 - g * g))
            results[0][t] = torch.cat((*parts, total * out * o * (1 - o)), 1)
            dc, dh = dc * f, results[0][t] @ weight
        elif mode == "gru":
            first, states, gates = rest
            r, z, n, q = gates[t].chunk(4, 1)
            dz = total * (_previous(states, first, t, node) - n) * z * (1 - z)
            dn = total * (1 - z) * (1 - n * n)
            dr = dn * q * r * (1 - r)
            results[0][t], results[1][t] = torch.cat((dr, dz, dn), 1), torch.cat((dr, dz, dn * r), 1)
            dh = total * z + results[1][t] @ weight
        else:
            h = rest[0][t]
            results[0][t] = total * ((h > 0).to(h.dtype) if mode == "rnn_relu" else 1 - h * h)
            dh = results[0][t] @ weight
    if mode == "lstm":
        return results[0], dh, dc
    return (*results[:-1], dh)


def _times(steps: int, node: Node, *, backwards: bool) -> range:
    """The steps in the order in which they run."""
    times = range(steps)
    return times if node.attributes["reverse"] == backwards else times[::-1]


def _previous(sequence: torch.Tensor, first: torch.Tensor, t: int, node: Node) -> torch.Tensor:
    before = t + 1 if node.attributes["reverse"] else t - 1
    return sequence[before] if 0 <= before < sequence.shape[0] else first
