"""The way from a Graph to a Program: partition, lower, assign storage, order, bind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from graphc.ir.graph import Graph
from graphc.ir.program import Program
from graphc.passes.fusion import cost
from graphc.passes.fusion.anchors import epilogue_fits
from graphc.passes.fusion.bind import Binder, Group, bind, estimated_peak
from graphc.passes.fusion.horizontal import fuse_horizontally
from graphc.passes.fusion.lower import Lowered, lower
from graphc.passes.fusion.names import Scope
from graphc.passes.fusion.options import FusionOptions
from graphc.passes.fusion.order import Task, order, peak
from graphc.passes.fusion.partition import Partition, partition
from graphc.passes.fusion.repeat import Repeater
from graphc.passes.fusion.space import Space
from graphc.passes.fusion.storage import Storage, aliases, assign
from graphc.passes.plan import buffer_lifetimes


def fuse(graph: Graph, options: FusionOptions | None = None) -> Program:
    """The graph's fused kernels, their order and their buffers.

    Where fusion would raise the peak of live memory above that of the unfused graph (symbolic dimensions at their
    assumed size), it is done again more carefully, and the least peak wins. Where the peak is large, the careful way
    is tried too: it keeps a ReLU's mask of a byte an element for its gradient rather than read the result again.
    """
    return _best(graph, options or FusionOptions()).program


def fuse_again(
    graph: Graph, options: FusionOptions, sizes: Mapping[str, int]
) -> tuple[Program, list[Repeater]]:
    """What `fuse` gives, and the means to let some of its kernels run again: one for each launch order."""
    best = _best(graph, options)
    # Kernels that share a launch wait for each other: under a budget each is better off alone.
    part, groups = best.apart
    sequences = Binder(part, best.storage, best.options).orders(groups)
    distinct = {tuple(group.number for group in sequence): sequence for sequence in sequences}
    return best.program, [
        Repeater(part, best.storage, sequence, best.options, sizes) for sequence in distinct.values()
    ]


def _best(graph: Graph, chosen: FusionOptions) -> _Fused:
    if not chosen.enabled:
        return _fuse(graph, chosen, 0)
    limit = unfused_peak(graph, chosen)
    best = _fuse(graph, chosen, limit)
    least = live_peak(best.program, chosen)
    careful = replace(chosen, conservative=True)
    for attempt in (careful, replace(careful, merge=False)):
        enough = least if least > limit else least - least // 4
        if least <= limit and (least <= chosen.thrifty_peak or attempt is not careful):
            break
        other = _fuse(graph, attempt, limit)
        if live_peak(other.program, chosen) < enough:
            best, least = other, live_peak(other.program, chosen)
    return best


def unfused(graph: Graph) -> Program:
    """Every node its own kernel: the baseline for reports and tests."""
    return fuse(graph, FusionOptions(enabled=False))


@dataclass(frozen=True, slots=True)
class _Fused:
    """A program, and what it was bound from."""

    part: Partition
    storage: Storage
    groups: Sequence[Group]
    apart: tuple[Partition, Sequence[Group]]
    """The same before horizontal fusion."""
    options: FusionOptions
    program: Program


def _fuse(graph: Graph, options: FusionOptions, limit: int) -> _Fused:
    """One attempt; horizontal fusion keeps the peak below `limit` bytes."""
    part = partition(graph, options)
    lowered = lower_spaces(part)
    storage, copies = assign(part, lowered, options.in_place)
    groups = [Group(number, [space], [lowered[number]]) for number, space in part.spaces.items()]
    groups += [Group(number, [space], [_lower(space)]) for number, space in copies.items()]

    def estimate(found: list[Group]) -> int:
        return estimated_peak(part, storage, found, options)

    apart = replace(part, reach=part.reach.copy()), list(groups)
    if options.enabled and options.horizontal:
        groups = fuse_horizontally(part, groups, options, estimate, limit)
    return _Fused(part, storage, groups, apart, options, bind(part, storage, groups, options))


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


def _lower(space: Space) -> Lowered:
    return lower(space, Scope())


def live_peak(program: Program, options: FusionOptions) -> int:
    """The most bytes of the arena that are live at one step, symbolic dimensions at their assumed size."""
    change = [0] * (len(program.steps) + 1)
    for index, lifetime in buffer_lifetimes(program).items():
        type = program.buffers[index].type
        nbytes = options.elements(type.shape) * type.dtype.itemsize
        change[lifetime.first] += nbytes
        change[lifetime.last + 1] -= nbytes
    return max(accumulate(change))


def unfused_peak(graph: Graph, options: FusionOptions) -> int:
    """Estimated bytes live at the peak when every node is a kernel of its own, in the best order found."""
    root = aliases(graph)
    outputs = {root[name] for name in graph.results}
    sizes = {
        value.name: cost.nbytes(value, options)
        for node in graph.nodes
        for value in node.outputs
        if root[value.name] == value.name and value.name not in outputs
    }
    maker: dict[str, int] = {}
    tasks: list[Task] = []
    for number, node in enumerate(graph.nodes):
        made = tuple(value.name for value in node.outputs if root[value.name] == value.name)
        if not made:
            continue
        maker.update(dict.fromkeys(made, number))
        read = tuple(dict.fromkeys(root[value.name] for value in node.inputs))
        after = tuple(dict.fromkeys(maker[name] for name in read if name in maker))
        tasks.append(Task(number, number, read, made, after))
    return peak(tasks, order(tasks, sizes), sizes)
