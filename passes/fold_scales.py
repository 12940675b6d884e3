"""Fold what a normalization does at inference into the weights of the contraction before it.

A convolution or product followed by additions and multiplications with one constant number a channel is
s[c] * (w[c] x) + t[c] = (s[c] * w[c]) x + t[c]: the scale goes into the weight, the shift is one addition. With
constant statistics (`is_train=False` or `use_global_stats`) that is a BatchNorm; `passes/constants.py` then computes
the scaled weight once. A sum over windows in between is linear too, while nothing was added before it. All this
changes rounding, so it belongs to level 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from graphc.ir.graph import Graph, Node, Value, merge_origins
from graphc.passes.constants import constants
from graphc.passes.prune import Prune
from graphc.primitives.builder import Builder, Scalar
from graphc.types import Dim, DType

_PRECISE = (DType.F32, DType.F64)
"""Types in which a scaled weight loses no more than the scaled result would."""

_SUMS = ("add", "sub")
_PRODUCTS = ("mul", "div")
_WINDOWS = "window_sum"

Factor = Value | Scalar | None
"""A number a channel, one number, or the neutral element."""


class _Weight(NamedTuple):
    """The constant operand of a contraction: its position, and the axis of it and of the result with the channels."""

    operand: int
    axis: int
    result_axis: int


class _Chain(NamedTuple):
    """A contraction and the sums over windows, additions and multiplications that follow it.

    Each is the only reader of the one before, and no sum over windows follows an addition.
    """

    contraction: Node
    weight: _Weight
    steps: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class FoldScales:
    """Multiply the weights of contractions by the constant scales that follow them."""

    name: ClassVar[str] = "fold_scales"
    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, graph: Graph) -> Graph:
        fixed = constants(graph)
        found = [chain for node in graph.nodes if (chain := _chain(graph, node, fixed)) is not None]
        return _Folding(graph, found).run() if found else graph


def _weight(node: Node, fixed: frozenset[str]) -> _Weight | None:
    """The constant operand of a contraction that has one channel for each channel of the result."""
    rank, attributes = node.outputs[0].type.rank, node.attributes
    match node.primitive:
        case "convolution":
            places = [_Weight(1, 0, 1)]
        case "convolution_data_gradient" if attributes["groups"] == 1:
            places = [_Weight(1, 1, 1)]
        case "dot":
            columns, rows = rank - 1 - attributes["transpose_b"], rank - 2 + attributes["transpose_a"]
            places = [_Weight(1, columns, rank - 1), _Weight(0, rows, rank - 2)]
        case _:
            return None
    return next((place for place in places if node.inputs[place.operand].name in fixed), None)


def _chain(graph: Graph, node: Node, fixed: frozenset[str]) -> _Chain | None:
    weight = _weight(node, fixed)
    if weight is None or node.output.type.dtype not in _PRECISE:
        return None
    if all(value.name in fixed for value in node.inputs):
        return None
    steps: list[Node] = []
    current = node
    while (after := _next(graph, current, weight.result_axis, fixed)) is not None:
        if after.primitive == _WINDOWS and any(step.primitive in _SUMS for step in steps):
            break
        steps.append(after)
        current = after
    while steps and steps[-1].primitive == _WINDOWS:
        steps.pop()
    scaled = any(step.primitive in _PRODUCTS for step in steps)
    return _Chain(node, weight, tuple(steps)) if scaled else None


def _next(graph: Graph, node: Node, axis: int, fixed: frozenset[str]) -> Node | None:
    """The only reader of a node, if it adds, subtracts, multiplies or divides by a constant a channel."""
    name = node.output.name
    readers = graph.readers[name]
    if len(readers) != 1 or name in graph.results:
        return None
    (reader,) = readers
    if reader.primitive == _WINDOWS:
        # Windows over the trailing axes leave the channels apart.
        return reader if axis < node.output.type.rank - len(reader.attributes["kernel"]) else None
    position = next((k for k, value in enumerate(reader.inputs) if value.name == name), 0)
    if reader.primitive not in (*_SUMS, *_PRODUCTS) or reader.inputs[0].name == reader.inputs[1].name:
        return None
    if position == 1 and reader.primitive in ("sub", "div"):
        return None
    return reader if _is_factor(graph, reader.inputs[1 - position], axis, fixed) else None


def _is_factor(graph: Graph, value: Value, axis: int, fixed: frozenset[str]) -> bool:
    """True for one number, and for a constant that varies along the axis of channels only."""
    node = graph.producers.get(value.name)
    if node is None or node.primitive == "full":
        return node is not None
    if node.primitive != "broadcast" or node.inputs[0].name not in fixed:
        return False
    shape, axes = node.inputs[0].type.shape, node.attributes["axes"]
    return all(dim == 1 or place == axis for dim, place in zip(shape, axes, strict=True))


class _Folding:
    """Rebuilds the graph with each chain replaced where its last step stood."""

    def __init__(self, graph: Graph, chains: list[_Chain]) -> None:
        self.graph = graph
        self.ends = {chain.steps[-1].output.name: chain for chain in chains}
        self.inside = {
            node.output.name for chain in chains for node in (chain.contraction, *chain.steps[:-1])
        }
        self.builder = Builder.extend(graph)
        self.instead: dict[str, Value] = {}

    def run(self) -> Graph:
        self.builder.nodes = []
        for node in self.graph.nodes:
            name = node.outputs[0].name
            if name in self.inside:
                continue
            inputs = tuple(self.instead.get(value.name, value) for value in node.inputs)
            if name in self.ends:
                chain = self.ends[name]
                origins = merge_origins(chain.contraction.origins, *(step.origins for step in chain.steps))
                with self.builder.at(origins, name):
                    self.instead[name] = self.fold(chain)
            else:
                self.builder.nodes.append(node if inputs == node.inputs else replace(node, inputs=inputs))
        whole = replace(self.graph, nodes=tuple(self.builder.nodes))
        return Prune()(whole.substitute(lambda value: self.instead.get(value.name, value)))

    def fold(self, chain: _Chain) -> Value:
        """(scale * weight) x + shift."""
        node, weight = chain.contraction, chain.weight
        scale, shift = self.factors(chain)
        operands = [self.instead.get(value.name, value) for value in node.inputs]
        operand = operands[weight.operand]
        operands[weight.operand] = self.builder.mul(operand, self.along(scale, operand, weight.axis))
        result = self.builder.emit(node.primitive, *operands, **node.attributes)
        for step in chain.steps:
            if step.primitive == _WINDOWS:
                result = self.builder.emit(step.primitive, result, **step.attributes)
        if shift is None:
            return result
        return self.builder.add(result, self.along(shift, result, weight.result_axis))

    def along(self, factor: Factor, like: Value, axis: int) -> Value | Scalar:
        """A factor spread over a tensor, varying along one axis."""
        assert factor is not None
        return (
            self.builder.broadcast(factor, like.type.shape, [axis]) if isinstance(factor, Value) else factor
        )

    def factors(self, chain: _Chain) -> tuple[Factor, Factor]:
        """The scale and the shift that the steps come to."""
        scale: Factor = None
        shift: Factor = None
        made = chain.contraction.output.name
        extent = chain.contraction.output.type.shape[chain.weight.result_axis]
        for step in chain.steps:
            if step.primitive == _WINDOWS:
                made = step.output.name
                continue
            position = 1 - next(k for k, value in enumerate(step.inputs) if value.name == made)
            factor = self.factor(step.inputs[position], extent)
            if step.primitive in _PRODUCTS:
                scale = self.apply(step.primitive, scale, factor, 1.0)
                shift = None if shift is None else self.apply(step.primitive, shift, factor, 0.0)
            else:
                shift = self.apply(step.primitive, shift, factor, 0.0)
            made = step.output.name
        return scale, shift

    def factor(self, value: Value, extent: Dim) -> Value | Scalar:
        """The constant as a vector over the channels, or as a number."""
        node = self.graph.producers[value.name]
        if node.primitive == "full":
            number: Scalar = node.attributes["value"]
            return number
        source = node.inputs[0]
        one = self.builder.reshape(source, (source.type.size,))
        return one if source.type.size == extent else self.builder.broadcast(one, (extent,), [0])

    def apply(self, primitive: str, left: Factor, right: Value | Scalar, neutral: float) -> Value | Scalar:
        """Left (by default the neutral element) and right; two numbers give a number."""
        if left is None:
            if primitive in ("add", "mul"):
                return right
            left = neutral
        if isinstance(left, Value) or isinstance(right, Value):
            result: Value = getattr(self.builder, primitive)(left, right)
            return result
        match primitive:
            case "add":
                return left + right
            case "sub":
                return left - right
            case "mul":
                return left * right
            case _:
                return left / right if right else left * float("inf")
