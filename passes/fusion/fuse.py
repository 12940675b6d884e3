"""The way from a Graph to a Program: partition, lower, assign storage, order, bind."""

from __future__ import annotations

from graphc.ir.graph import Graph
from graphc.ir.program import Program
from graphc.passes.fusion.bind import Group, bind
from graphc.passes.fusion.horizontal import fuse_horizontally
from graphc.passes.fusion.lower import Lowered, lower
from graphc.passes.fusion.names import Scope
from graphc.passes.fusion.options import FusionOptions
from graphc.passes.fusion.partition import partition
from graphc.passes.fusion.space import Space
from graphc.passes.fusion.storage import assign


def fuse(graph: Graph, options: FusionOptions | None = None) -> Program:
    """The graph's fused kernels, their order and their buffers."""
    chosen = options or FusionOptions()
    part = partition(graph, chosen)
    lowered = {number: _lower(space) for number, space in part.spaces.items()}
    storage, copies = assign(part, lowered, chosen.in_place)
    groups = [Group(number, [space], [lowered[number]]) for number, space in part.spaces.items()]
    groups += [Group(number, [space], [_lower(space)]) for number, space in copies.items()]
    if chosen.enabled and chosen.horizontal:
        groups = fuse_horizontally(part, groups, chosen)
    return bind(part, storage, groups, chosen)


def unfused(graph: Graph) -> Program:
    """Every node its own kernel: the baseline for reports and tests."""
    return fuse(graph, FusionOptions(enabled=False))


def _lower(space: Space) -> Lowered:
    return lower(space, Scope())
