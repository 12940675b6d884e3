"""The rule that finds attention: softmax(scale q kᵀ + bias) v becomes one primitive, which stores no scores.

The scores may be scaled before or after a bias is added, reshaped along the batch, masked by `where`, and hidden by a
mask made of positions, which becomes the primitive's causal rule; the probabilities may go through dropout. Unlike the
other rules this one asks who reads a value: scores or probabilities that are needed for anything else stay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from graphc.ir.graph import Graph, Node, Value
from graphc.passes.rewrite import Rewriter, Rule, on
from graphc.passes.rules.masks import Visible, causal_bias, causal_condition, narrow
from graphc.types import Shape, product, same_dim, same_shape

HIDDEN = -1e8
"""Scores this low are hidden: exp of their distance to any score that means something is 0."""

_SOUND = "each row's maximum, sum and products are taken block by block: rounding; rows all below -1e8 are all hidden"


def attention_rule(graph: Graph) -> Rule:
    """The rule for a graph, whose readers it knows."""

    def apply(rewriter: Rewriter, node: Node) -> Value | None:
        return _Match(rewriter, graph).attention(node)

    return Rule("softmax(scale q kᵀ + bias) v -> attention", _SOUND, on("dot"), apply, exact=False)


@dataclass(frozen=True, slots=True)
class Dropout:
    """Dropout of probabilities: the random node's state and stream, and the share that is kept."""

    state: Value
    stream: int
    keep: float


@dataclass(slots=True)
class _Scores:
    """What is known of the scores, walking from the softmax to q kᵀ: they are factor * (what is left) + terms."""

    factor: float = 1.0
    terms: list[Value] = field(default_factory=list)
    visible: Visible | None = None
    dropout: Dropout | None = None

    def hide(self, found: Visible) -> bool:
        """Take one causal rule; two different ones are not joined."""
        if self.visible is not None and self.visible != found:
            return False
        self.visible = found
        return True


class _Match:
    def __init__(self, rewriter: Rewriter, graph: Graph) -> None:
        self.rewriter, self.graph = rewriter, graph

    def attention(self, node: Node) -> Value | None:
        """The attention that a product is, or None."""
        weights, v = node.inputs
        if node.attributes["transpose_a"] or not v.type.dtype.is_float:
            return None
        known = _Scores()
        scores = self.softmax(*self.dropout(weights, node, known))
        if scores is None:
            return None
        value, reader = scores
        product_node = self.product(value, reader, known)
        if product_node is None:
            return None
        return self.emit(product_node, known, node)

    # Who reads what

    def private(self, value: Value, *readers: Node) -> bool:
        """True when nothing but these nodes reads a value."""
        if value.name in self.graph.results or value.name not in self.graph.readers:
            return False
        outputs = {reader.outputs[0].name for reader in readers}
        return all(reader.outputs[0].name in outputs for reader in self.graph.readers[value.name])

    def inner(self, value: Value, reader: Node, *names: str) -> Node | None:
        """The node of one of these primitives that makes a value for this reader alone."""
        node = self.rewriter.producer(value, *names)
        return node if node is not None and self.private(value, reader) else None

    def stripped(self, value: Value, reader: Node) -> tuple[Value, Node]:
        """What a value is before casts between floats and reshapes of the batch, and who reads that."""
        while True:
            node = self.inner(value, reader, "cast", "reshape")
            if node is None:
                return value, reader
            (operand,) = node.inputs
            if node.primitive == "cast" and not operand.type.dtype.is_float:
                return value, reader
            if node.primitive == "reshape" and not _same_matrix(operand.type.shape, value.type.shape):
                return value, reader
            value, reader = operand, node

    # Dropout

    def dropout(self, value: Value, reader: Node, known: _Scores) -> tuple[Value, Node]:
        """What a value is before dropout, if there is any, and who reads that; `known` says how it drops."""
        value, reader = self.stripped(value, reader)
        node = self.inner(value, reader, "mul")
        for before, factor in (node.inputs, node.inputs[::-1]) if node is not None else ():
            assert node is not None
            known.dropout = self.drawn(factor, node)
            if known.dropout is not None:
                return before, node
        return value, reader

    def drawn(self, factor: Value, reader: Node) -> Dropout | None:
        """The dropout whose factors a value holds: (uniform < keep) / keep, one draw for each element."""
        node = self.inner(factor, reader, "mul")
        for mask, other in (node.inputs, node.inputs[::-1]) if node is not None else ():
            assert node is not None
            number = number_of(self.rewriter, other)
            cast = self.inner(mask, node, "cast")
            kept = self.inner(cast.inputs[0], cast, "lt") if cast is not None else None
            random = self.inner(kept.inputs[0], kept, "random_uniform") if kept is not None else None
            if number is None or kept is None or random is None:
                continue
            keep = number_of(self.rewriter, kept.inputs[1])
            if keep is not None and 0 < keep < 1 and math.isclose(number * keep, 1, rel_tol=1e-2):
                return Dropout(random.inputs[0], random.attributes["stream"], keep)
        return None

    # Softmax

    def softmax(self, value: Value, reader: Node) -> tuple[Value, Node] | None:
        """The scores whose softmax over the last axis a value is, and the node that subtracts from them."""
        value, reader = self.stripped(value, reader)
        quotient = self.inner(value, reader, "div")
        if quotient is None:
            return None
        powers = self.rewriter.producer(quotient.inputs[0], "exp")
        total = self.row(quotient.inputs[1], quotient, "reduce_sum")
        if powers is None or total is None or total.inputs[0].name != powers.output.name:
            return None
        if not self.private(powers.output, quotient, total):
            return None
        shifted = self.inner(powers.inputs[0], powers, "sub")
        if shifted is None:
            return None
        scores = shifted.inputs[0]
        greatest = self.row(shifted.inputs[1], shifted, "reduce_max")
        if greatest is None or greatest.inputs[0].name != scores.name:
            return None
        return (scores, shifted) if self.private(scores, shifted, greatest) else None

    def row(self, value: Value, reader: Node, reduction: str) -> Node | None:
        """The reduction over the last axis whose results a value spreads along that axis."""
        rank = value.type.rank
        spread = self.inner(value, reader, "broadcast")
        if spread is None or tuple(spread.attributes["axes"])[: rank - 1] != tuple(range(rank - 1)):
            return None
        source, reader = spread.inputs[0], spread
        if not same_shape(source.type.shape[: rank - 1], value.type.shape[:-1]):
            return None
        while (step := self.inner(source, reader, "reshape", "stop_gradient")) is not None:
            source, reader = step.inputs[0], step
        found = self.inner(source, reader, reduction)
        if found is None or tuple(found.attributes["axes"]) != (rank - 1,):
            return None
        return found if same_shape(found.output.type.shape, value.type.shape[:-1]) else None

    # Scores

    def product(self, value: Value, reader: Node, known: _Scores) -> Node | None:
        """The product q kᵀ that scores come from; what is done to it on the way goes to `known`."""
        readers = [reader]
        greatest = [n for n in self.graph.readers[value.name] if n.primitive == "reduce_max"]
        readers += greatest
        while True:
            node = self.rewriter.producer(value)
            if node is None or not self.private(value, *readers):
                return None
            if node.primitive == "dot":
                return node
            following = self.step(node, known)
            if following is None:
                return None
            value, readers = following, [node]

    def step(self, node: Node, known: _Scores) -> Value | None:
        """The scores before a node, where it scales, adds to, hides or reshapes them."""
        shape = node.output.type.shape
        match node.primitive:
            case "cast":
                return node.inputs[0] if node.inputs[0].type.dtype.is_float else None
            case "reshape":
                return node.inputs[0] if _same_matrix(node.inputs[0].type.shape, shape) else None
            case "neg":
                known.factor = -known.factor
                return node.inputs[0]
            case "mul" | "div":
                return self.scaled(node, known)
            case "add" | "sub":
                return self.biased(node, known)
            case "where":
                return self.masked(node, known)
        return None

    def scaled(self, node: Node, known: _Scores) -> Value | None:
        sides = [(node.inputs[0], node.inputs[1])]
        if node.primitive == "mul":
            sides.append((node.inputs[1], node.inputs[0]))
        for scores, other in sides:
            number = number_of(self.rewriter, other)
            if number:
                known.factor = known.factor * number if node.primitive == "mul" else known.factor / number
                return scores
        return None

    def biased(self, node: Node, known: _Scores) -> Value | None:
        """Scores plus a bias; of two operands the one that a product leads to is the scores."""
        first, second = node.inputs
        scores, bias = (first, second) if self.leads_to_product(first) else (second, first)
        if not self.leads_to_product(scores) or (node.primitive == "sub" and scores is second):
            return None
        hidden = causal_bias(self.rewriter, bias, -HIDDEN if node.primitive == "sub" else HIDDEN)
        if hidden is not None and known.factor > 0:
            return scores if known.hide(hidden) else None
        if node.primitive == "sub":
            bias = self.rewriter.neg(bias)
        self.add(known, bias)
        return scores

    def masked(self, node: Node, known: _Scores) -> Value | None:
        """Scores where a condition holds, else a number so low that it hides them; or the other way round."""
        condition, x, y = node.inputs
        for scores, other, kept in ((x, y, True), (y, x, False)):
            number = number_of(self.rewriter, other)
            if number is None or not number * known.factor <= HIDDEN or not self.leads_to_product(scores):
                continue
            hidden = causal_condition(self.rewriter, condition, kept)
            if hidden is not None:
                return scores if known.hide(hidden) else None
            small = narrow(self.rewriter, condition)
            type = small.type.with_dtype(scores.type.dtype)
            shown, gone = self.rewriter.full(0, type), self.rewriter.full(float("-inf"), type)
            bias = self.rewriter.where(small, *((shown, gone) if kept else (gone, shown)))
            known.terms.append(self.spread(bias, scores.type.shape))
            return scores
        return None

    def leads_to_product(self, value: Value) -> bool:
        """True when a product is made into this value by what `step` knows."""
        for _ in range(12):
            node = self.rewriter.producer(value)
            if node is None:
                return False
            if node.primitive == "dot":
                return True
            if node.primitive not in ("cast", "reshape", "neg", "mul", "div", "add", "sub", "where"):
                return False
            large = [v for v in node.inputs if self.large(v)]
            if len(large) != 1:
                return len(large) > 1 and any(map(self.leads_to_product, large))
            value = large[0]
        return False

    def large(self, value: Value) -> bool:
        """True for a value that is computed elementwise, not spread from fewer elements."""
        node = self.rewriter.producer(value)
        return node is not None and node.primitive not in ("broadcast", "full", "iota")

    def add(self, known: _Scores, bias: Value) -> None:
        shape = bias.type.shape
        small = narrow(self.rewriter, bias)
        if known.factor != 1.0:
            small = self.rewriter.mul(small, known.factor)
        known.terms.append(self.spread(small, shape))

    def spread(self, small: Value, shape: Shape) -> Value:
        return self.rewriter.broadcast_to(small, shape)

    # The primitive

    def emit(self, scores: Node, known: _Scores, node: Node) -> Value | None:
        r, v = self.rewriter, node.inputs[1]
        q, k = scores.inputs
        if q.type.dtype is not v.type.dtype:
            return None
        batch = v.type.shape[:-2]
        q = _turned(r, q) if scores.attributes["transpose_a"] else q
        k = k if scores.attributes["transpose_b"] else _turned(r, k)
        v = _turned(r, v) if node.attributes["transpose_b"] else v
        q, k = (r.reshape(x, (*batch, *x.type.shape[-2:])) for x in (q, k))
        shape = (*batch, q.type.shape[-2], k.type.shape[-2])
        bias: Value | None = None
        for term in known.terms:
            part = r.reshape(r.cast(term, q.type.dtype), shape)
            bias = part if bias is None else r.add(bias, part)
        causal = known.visible is not None
        offset = known.visible.offset if known.visible is not None else 0
        operands: tuple[Value, ...] = (q, k, v) if bias is None else (q, k, v, bias)
        dropout: dict[str, Any] = {}
        if (drop := known.dropout) is not None:
            operands = (*operands, r.broadcast_to(drop.state, (*batch, 2)))
            dropout = {"keep": drop.keep, "stream": drop.stream}
        out, _ = r.emit_all(
            "attention", *operands, scale=known.factor, causal=causal, offset=offset, **dropout
        )
        return r.cast(out, node.output.type.dtype)


def number_of(rewriter: Rewriter, value: Value) -> float | None:
    """The number that every element of a value is, through casts and broadcasts."""
    while True:
        number = rewriter.splat(value)
        if number is not None:
            return float(number)
        node = rewriter.producer(value, "broadcast", "reshape", "cast")
        if node is None:
            return None
        (value,) = node.inputs


def _turned(rewriter: Rewriter, value: Value) -> Value:
    rank = value.type.rank
    return rewriter.transpose(value, (*range(rank - 2), rank - 1, rank - 2))


def _same_matrix(a: Shape, b: Shape) -> bool:
    """True when a reshape from a to b leaves the last two axes as they are."""
    if len(a) < 2 or len(b) < 2 or not same_shape(a[-2:], b[-2:]):
        return False
    return same_dim(product(a[:-2]), product(b[:-2]))
