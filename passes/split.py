"""Split a graph with gradients in two programs: forward, which also returns what backward needs, and backward."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from graphc.diagnostics import closest, fail
from graphc.ir.graph import Graph, Input, Node, Update, Value
from graphc.passes.gradient import SUFFIX
from graphc.passes.prune import Prune
from graphc.passes.strip_markers import StripMarkers
from graphc.primitives.declare import Kind, primitive
from graphc.types import Dim


class Split(NamedTuple):
    """Two graphs; an input of `backward` is an input of the joint graph or, by name, a further output of `forward`."""

    forward: Graph
    backward: Graph


def split(
    joint: Graph, forward_outputs: Sequence[str], forward_updates: Collection[str] | None = None
) -> Split:
    """Split a joint graph, for an executor that reads the outputs before it asks for gradients.

    Forward returns `forward_outputs`, in their order, then the values that backward reads ("residuals"), each under
    its own name or, where that is taken, with `_saved` appended. Backward returns the other outputs.
    `forward_updates` names the inputs whose updates belong to forward; default: all but the sums of gradients that
    `gradient` makes. Constants and views are computed again in backward rather than kept.
    Error G403 for an output that the graph lacks.
    """
    joint = StripMarkers()(joint)
    outputs = dict(zip(joint.output_names, joint.outputs, strict=True))
    for name in forward_outputs:
        if name not in outputs:
            raise fail(
                "G403", f"the graph has no output {name!r}", name=name, help=closest(name, tuple(outputs))
            )
    updates = {
        update
        for update in joint.updates
        if (
            update.target in forward_updates
            if forward_updates is not None
            else not update.target.endswith(SUFFIX)
        )
    }
    forward = _part(joint, {name: outputs[name] for name in forward_outputs}, updates)
    rest = {name: value for name, value in outputs.items() if name not in forward_outputs}
    backward = _part(joint, rest, set(joint.updates) - updates)
    made = {value.name for node in forward.nodes for value in node.outputs}
    nodes, residuals = _cut(backward, made, {update.target for update in updates})
    saved = {value.name: _saved_name(value, joint, outputs) for value in residuals}

    def rename(value: Value) -> Value:
        return Value(saved[value.name], value.type) if value.name in saved else value

    backward = _prune_inputs(replace(backward, nodes=nodes).substitute(rename), map(rename, residuals))
    return Split(_with_outputs(forward, {saved[value.name]: value for value in residuals}), backward)


def _part(joint: Graph, outputs: dict[str, Value], updates: Collection[Update]) -> Graph:
    """The nodes of the joint graph that these outputs and updates need."""
    kept = tuple(update for update in joint.updates if update in updates)
    part = replace(joint, outputs=tuple(outputs.values()), output_names=tuple(outputs), updates=kept)
    return Prune(drop_inputs=True)(part)


def _cut(backward: Graph, made: set[str], overwritten: set[str]) -> tuple[tuple[Node, ...], list[Value]]:
    """The nodes that backward computes itself, and what it takes over from forward.

    A value that forward makes is taken over, but constants are made again and views are followed to their operand
    where that is no larger. An input that forward overwrites is taken over too: backward needs its old content.
    """
    needed = dict.fromkeys(backward.results)
    kept: list[Node] = []
    taken: dict[str, Value] = {}
    for node in reversed(backward.nodes):
        read = [value for value in node.outputs if value.name in needed]
        if not read:
            continue
        if all(value.name not in made for value in node.outputs) or _is_cheap(node):
            kept.append(node)
            needed.update(dict.fromkeys(value.name for value in node.inputs))
        else:
            taken.update((value.name, value) for value in read)
    for item in backward.inputs:
        if item.name in needed and item.name in overwritten:
            taken[item.name] = item.value
    return tuple(reversed(kept)), list(reversed(taken.values()))


def _is_cheap(node: Node) -> bool:
    kind = primitive(node.primitive).kind
    if kind is Kind.CONSTANT:
        return True
    if kind not in (Kind.VIEW, Kind.RESHAPE) or len(node.inputs) != 1:
        return False
    return _is_at_most(node.inputs[0].type.size, node.output.type.size)


def _is_at_most(a: Dim, b: Dim) -> bool:
    """True when a <= b; of symbolic sizes when b is a multiple of a for every size of the named dimensions."""
    if isinstance(a, int) and isinstance(b, int):
        return a <= b
    from sympy import sympify

    ratio = sympify(b) / sympify(a)
    return bool(ratio.is_integer and ratio.is_positive)


def _saved_name(value: Value, joint: Graph, outputs: dict[str, Value]) -> str:
    taken = value.name in outputs or value.name in joint.input_by_name
    return f"{value.name}_saved" if taken else value.name


def _with_outputs(graph: Graph, more: dict[str, Value]) -> Graph:
    return replace(
        graph,
        outputs=(*graph.outputs, *more.values()),
        output_names=(*graph.output_names, *more),
    )


def _prune_inputs(graph: Graph, residuals: Iterable[Value]) -> Graph:
    whole = replace(graph, inputs=(*graph.inputs, *(Input(value) for value in residuals)))
    return Prune(drop_inputs=True)(whole)
