"""What a mask hides: masks made of positions are read as a rule on positions, others are kept as small as they are.

An index that is an integer combination of positions is followed through views, casts and arithmetic with numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from graphc.ir.graph import Node, Value
from graphc.ir.kernel import Affine
from graphc.passes.fusion import index as ix
from graphc.passes.rewrite import Rewriter
from graphc.primitives.declare import Kind, primitive
from graphc.types import Dim, dimension

QUERY, KEY = "query", "key"
_COMPARISONS = {"le": (1, 0), "lt": (1, -1), "ge": (-1, 0), "gt": (-1, -1)}
"""Name: (sign, offset) of `sign * (a - b) <= offset`, for integers."""
_DEEPEST = 64
"""Longest chain of nodes that is followed; a mask takes about ten."""


@dataclass(frozen=True, slots=True)
class Visible:
    """Query i sees the keys up to i + offset."""

    offset: Dim


def causal_condition(rewriter: Rewriter, value: Value, kept: bool) -> Visible | None:
    """The causal rule that a bool [*, S, T] states; `kept` tells whether true means visible."""
    choice = _Choice(rewriter)
    pair = choice.pair(value)
    if pair is None or pair[0] == pair[1]:
        return None
    return choice.rule(value, kept == (pair[1] == 1))


def causal_bias(rewriter: Rewriter, value: Value, hidden: float) -> Visible | None:
    """The causal rule of a bias that is 0 for visible keys and beyond `hidden`, away from 0, for the others."""
    choice = _Choice(rewriter)
    pair = choice.pair(value)
    if pair is None or choice.comparison is None:
        return None
    for kept in (True, False):
        shown, gone = pair[kept], pair[not kept]
        if shown == 0 and (gone <= hidden if hidden < 0 else gone >= hidden):
            return choice.rule(value, kept)
    return None


def narrow(rewriter: Rewriter, value: Value) -> Value:
    """A value of the same rank that broadcasts to this one, of as few elements as can be had without work."""
    node = rewriter.producer(value)
    if node is None:
        return value
    shape = value.type.shape
    kind = primitive(node.primitive).kind
    if kind is Kind.CONSTANT and node.primitive == "full":
        return rewriter.full(node.attributes["value"], value.type.with_shape((1,) * len(shape)))
    if node.primitive == "broadcast":
        (source,) = node.inputs
        axes = tuple(node.attributes["axes"])
        small: list[Dim] = [1] * len(shape)
        for axis, dim in zip(axes, source.type.shape, strict=True):
            small[axis] = dim
        return rewriter.reshape(source, small)
    if kind is not Kind.ELEMENTWISE:
        return value
    parts = [narrow(rewriter, operand) for operand in node.inputs]
    joint = [next((p.type.shape[k] for p in parts if p.type.shape[k] != 1), 1) for k in range(len(shape))]
    if tuple(joint) == tuple(shape):
        return value
    return rewriter.emit(node.primitive, *(rewriter.broadcast_to(p, joint) for p in parts), **node.attributes)


# Comparisons of positions


def _positions(rank: int) -> tuple[Affine, ...]:
    """The index of an element of the scores."""
    return (*(Affine.axis(f"batch{k}") for k in range(rank - 2)), Affine.axis(QUERY), Affine.axis(KEY))


def _rule_of(rewriter: Rewriter, node: Node, index: tuple[Affine, ...], kept: bool) -> Visible | None:
    """The rule that a comparison states of the element at `index`."""
    a, b = (_position(rewriter, value, index, 0) for value in node.inputs)
    if a is None or b is None:
        return None
    sign, offset = _COMPARISONS[node.primitive]
    difference = (a + b.scale(-1)).scale(sign)
    limit = dimension(offset - difference.offset)
    if not kept:  # what is hidden satisfies d <= limit, so what is visible has -d <= -limit - 1
        difference, limit = difference.scale(-1), dimension(-limit - 1)
    if len(difference.terms) != 2 or difference.stride(KEY) != 1 or difference.stride(QUERY) != -1:
        return None
    return Visible(limit)


def _position(rewriter: Rewriter, value: Value, index: tuple[Affine, ...], depth: int) -> Affine | None:
    """The element at `index` as an integer combination of the index's variables."""
    node = rewriter.producer(value)
    if node is None or depth > _DEEPEST:
        return None
    kind = primitive(node.primitive).kind
    if node.primitive == "full":
        number = node.attributes["value"]
        return Affine(int(number)) if math.isfinite(number) and number == int(number) else None
    if node.primitive == "dim":
        return Affine(dimension(node.attributes["value"]))
    if node.primitive == "iota":
        axis: int = node.attributes["axis"]
        return index[axis]
    if kind in (Kind.VIEW, Kind.RESHAPE):
        moved = _moved(node, index)
        return None if moved is None else _position(rewriter, moved[0], moved[1], depth + 1)
    if node.primitive in ("cast", "stop_gradient"):
        return _position(rewriter, node.inputs[0], index, depth + 1)
    if node.primitive not in ("add", "sub", "mul", "neg"):
        return None
    parts = [_position(rewriter, operand, index, depth + 1) for operand in node.inputs]
    a, b = parts[0], parts[-1]
    if a is None or b is None:
        return None
    match node.primitive:
        case "add":
            return a + b
        case "sub":
            return a + b.scale(-1)
        case "neg":
            return a.scale(-1)
    return b.scale(a.offset) if not a.terms else a.scale(b.offset) if not b.terms else None


def _moved(node: Node, index: tuple[Affine, ...]) -> tuple[Value, tuple[Affine, ...]] | None:
    """The operand's element that a view's element is; None where it may be another one, or padding."""
    declared = primitive(node.primitive)
    if declared.kind is Kind.RESHAPE:
        (operand,) = node.inputs
        extents = {
            name: dim for p, dim in zip(index, node.output.type.shape, strict=True) for name in p.variables
        }
        try:
            return operand, ix.reshape_index(index, node.output.type.shape, operand.type.shape, extents)
        except (ix.NotAffineError, ix.SplitNeededError):
            return None
    assert declared.view is not None
    sources = declared.view(node, index)
    if len(sources) != 1 or sources[0].guards:
        return None
    return node.inputs[sources[0].operand], sources[0].index


# Biases that are numbers chosen by one comparison


class _Choice:
    """What a value is where the one comparison that it is computed from is false, and where it is true."""

    def __init__(self, rewriter: Rewriter) -> None:
        self.rewriter = rewriter
        self.comparison: Node | None = None
        self._known: dict[str, tuple[float, float] | None] = {}

    def pair(self, value: Value, depth: int = 0) -> tuple[float, float] | None:
        """(where false, where true), the same for every element; None for what is computed from anything else."""
        if value.name not in self._known:
            self._known[value.name] = None if depth > _DEEPEST else self._computed(value, depth)
        return self._known[value.name]

    def _computed(self, value: Value, depth: int) -> tuple[float, float] | None:
        import torch

        node = self.rewriter.producer(value)
        if node is None:
            return None
        if node.primitive in _COMPARISONS:
            if self.comparison is not None and self.comparison is not node:
                return None
            self.comparison = node
            return 0.0, 1.0
        declared = primitive(node.primitive)
        if node.primitive == "full":
            return (float(node.attributes["value"]),) * 2
        if declared.kind in (Kind.VIEW, Kind.RESHAPE) and len(node.inputs) == 1 and declared.fill is None:
            return self.pair(node.inputs[0], depth + 1)
        if declared.kind is not Kind.ELEMENTWISE:
            return None
        pairs = []
        for operand in node.inputs:
            found = self.pair(operand, depth + 1)
            if found is None:
                return None
            pairs.append(found)
        operands = tuple(
            torch.tensor(pair, dtype=v.type.dtype.torch) for pair, v in zip(pairs, node.inputs, strict=True)
        )
        (result,) = declared.oracle(operands, node, ((2,),))
        return float(result[0]), float(result[1])

    def rule(self, value: Value, kept: bool) -> Visible | None:
        """The rule that the comparison states on the last two axes of a value of more than one axis."""
        comparison = self.comparison
        if comparison is None or value.type.rank < 2:
            return None
        index = _positions(value.type.rank)
        while value.name != comparison.output.name:
            node = self.rewriter.producer(value)
            assert node is not None
            if primitive(node.primitive).kind in (Kind.VIEW, Kind.RESHAPE):
                moved = _moved(node, index)
                if moved is None:
                    return None
                value, index = moved
            else:
                value = next(v for v in node.inputs if self._depends(v))
        return _rule_of(self.rewriter, comparison, index, kept)

    def _depends(self, value: Value) -> bool:
        pair = self._known.get(value.name)
        return pair is not None and pair[0] != pair[1]
