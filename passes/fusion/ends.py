"""Where the epilogue of a contraction had better end, so that what follows need not be kept for the backward pass."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from graphc.ir.graph import Node, Value
from graphc.passes.fusion.space import Space
from graphc.passes.recompute import Schedule
from graphc.primitives.declare import primitive


def ends(spaces: Collection[Space], schedule: Schedule, sizes: Mapping[str, int]) -> frozenset[str]:
    """Values of which an epilogue makes several that the backward pass reads, and that are smaller than these together.

    A contraction never runs again, so that whatever its epilogue stores is kept: a GELU and its derivative. Where it
    ends at the value from which both follow, that one alone must be kept. spaces: those of the schedule's units, in
    their order. sizes: bytes of the graph's values.
    """
    found = set()
    for space, unit in zip(spaces, schedule.units, strict=True):
        if space.anchor is None or not space.sinks or unit.step >= schedule.turn:
            continue
        late = [name for name in unit.writes if _is_late(schedule, name)]
        if len(late) < 2:
            continue
        end = _source(space, space.anchor)
        if end is not None and sizes[end.name] < sum(schedule.nbytes[name] for name in late):
            found.add(end.name)
    return frozenset(found)


def _is_late(schedule: Schedule, place: str) -> bool:
    """True for a place of the arena that is read after the step's turn."""
    return any(step >= schedule.turn for step in schedule.readers.get(place, ()))


def _source(space: Space, anchor: Node) -> Value | None:
    """The last value that memory keeps exactly and through which all that a space stores follows from its contraction.

    16-bit floats are wider within a kernel than in memory.
    """
    stored = {sink.value.name for sink in space.sinks}
    for node in reversed(space.members.values()):
        if not (node is anchor or primitive(node.primitive).rounded):
            continue
        dtype = node.output.type.dtype
        if dtype is dtype.compute and not stored & _reached(space, anchor, without=node):
            return node.output
    return None


def _reached(space: Space, anchor: Node, without: Node) -> set[str]:
    """What follows from a contraction within a space other than through one node."""
    found = set() if anchor is without else {anchor.output.name}
    for node in space.members.values():
        if node is not without and any(value.name in found for value in node.inputs):
            found.update(value.name for value in node.outputs)
    return found
