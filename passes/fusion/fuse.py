"""The way from a Graph to a Program: partition, lower, assign storage, order, bind."""

from __future__ import annotations

from graphc.ir.graph import Graph
from graphc.ir.program import Program
from graphc.passes.fusion.anchors import epilogue_fits
from graphc.passes.fusion.bind import Group, bind, estimated_peak
from graphc.passes.fusion.horizontal import fuse_horizontally
from graphc.passes.fusion.lower import Lowered, lower
from graphc.passes.fusion.names import Scope
from graphc.passes.fusion.options import FusionOptions
from graphc.passes.fusion.partition import Partition, partition
from graphc.passes.fusion.space import Space
from graphc.passes.fusion.storage import assign


def fuse(graph: Graph, options: FusionOptions | None = None) -> Program:
    """The graph's fused kernels, their order and their buffers."""
    chosen = options or FusionOptions()
    part = partition(graph, chosen)
    lowered = lower_spaces(part)
    storage, copies = assign(part, lowered, chosen.in_place)
    groups = [Group(number, [space], [lowered[number]]) for number, space in part.spaces.items()]
    groups += [Group(number, [space], [_lower(space)]) for number, space in copies.items()]
    if chosen.enabled and chosen.horizontal:
        groups = fuse_horizontally(
            part, groups, chosen, lambda found: estimated_peak(part, storage, found, chosen)
        )
    return bind(part, storage, groups, chosen)


def lower_spaces(part: Partition) -> dict[int, Lowered]:
    """The nest of each space; a contraction whose epilogue does not fit its result's axes gets a kernel of its own."""
    result: dict[int, Lowered] = {}
    for number, space in list(part.spaces.items()):
        result[number] = _lower(space)
        if space.anchor is not None and not epilogue_fits(result[number], space.anchor):
            alone = part.eject_anchor(space)
            result[alone.number] = _lower(alone)
            result[number] = _lower(space)
    return result


def unfused(graph: Graph) -> Program:
    """Every node its own kernel: the baseline for reports and tests."""
    return fuse(graph, FusionOptions(enabled=False))


def _lower(space: Space) -> Lowered:
    return lower(space, Scope())
