"""The way from a Graph to a Program: partition, lower, assign storage, order, bind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from graphc.ir.graph import Graph, InputKind
from graphc.ir.program import Program
from graphc.passes.fusion import cost
from graphc.passes.fusion.bind import Binder, Group, estimated_peak
from graphc.passes.fusion.ends import ends
from graphc.passes.fusion.forms import Forms, Loops
from graphc.passes.fusion.horizontal import fuse_horizontally
from graphc.passes.fusion.order import Task, order, peak
from graphc.passes.fusion.partition import Partition, partition
from graphc.passes.fusion.repeat import Repeater
from graphc.passes.fusion.storage import Storage, aliases, assign
from graphc.passes.gradient import model_outputs
from graphc.passes.limits import FusionOptions
from graphc.passes.recompute import Schedule, Search


def fuse(graph: Graph, options: FusionOptions | None = None) -> Program:
    """The graph's fused kernels, their order and their buffers.

    Where fusion would raise the peak of live memory above that of the unfused graph (symbolic dimensions at their
    assumed size), it is done again more carefully, and the least peak wins. Where the peak is large, the careful way
    is tried too: it keeps a ReLU's mask of a byte an element for its gradient rather than read the result again.
    """
    return _best(graph, options or FusionOptions()).program()


def fuse_again(
    graph: Graph, options: FusionOptions, sizes: Mapping[str, int]
) -> tuple[Program, list[Repeater]]:
    """What `fuse` gives, and the means to let some of its kernels run again: one for each launch order."""
    best = _best(graph, options)
    # Kernels that share a launch wait for each other: under a budget each is better off alone.
    part, groups = best.apart
    sequences = Binder(part, best.storage, best.options).orders(groups)
    distinct = {tuple(group.number for group in sequence): sequence for sequence in sequences}
    return best.program(), [
        Repeater(part, best.storage, sequence, best.options, sizes) for sequence in distinct.values()
    ]


def fuse_lean(graph: Graph, options: FusionOptions, share: float, strategy: str = "optimal") -> Program:
    """What `fuse` gives; in a training step, kernels that memory bounds run again where that lowers a large peak.

    They make what the backward pass reads from what it keeps anyway: normalisations, activations, sums of branches,
    but no contraction. Where a contraction's epilogue makes several such values from one, that one may be stored in
    their stead, and they have kernels of their own, which can run again (`ends.py`).
    share: the most that all this may add to the step's estimated time. strategy: how the arena is planned. Every
    result keeps its bits; small programs (`thrifty_peak`) and those that gain nothing stay as they are.
    """
    best = _best(graph, options)
    if share <= 0 or not options.enabled or best.peak <= options.thrifty_peak or not _trains(graph):
        return best.program()
    repeaters = [_cheap_repeater(best)]
    plain = repeaters[0].schedule()
    alternatives = [(plain, partial(repeaters[0].measure, strategy=strategy))]
    most = int(share * plain.cost)
    apart = _ends(best, plain)
    if apart:
        repeater = _cheap_repeater(_fuse(graph, best.options, best.limit, Forms(), apart))
        schedule = repeater.schedule()
        if schedule.cost - plain.cost <= most:
            repeaters.append(repeater)
            alternatives.append((schedule, partial(repeater.measure, strategy=strategy)))
    search = Search(alternatives, most)
    before, found = search.plain, search.lowest
    if found.planned >= before.planned:
        return best.program()
    repeater = repeaters[found.alternative]
    again = repeater.report(found.arrangement, before.planned)
    return replace(repeater.program(found.arrangement), recomputed=again)


def _cheap_repeater(fused: _Fused) -> Repeater:
    return Repeater(fused.part, fused.storage, fused.sequence, fused.options, {}, cheap=True)


def _ends(fused: _Fused, schedule: Schedule) -> frozenset[str]:
    """Where epilogues had better end, so that what they make of one value can be made again from it."""
    spaces = [space for group in fused.sequence for space in group.spaces]
    sizes = {value.name: cost.nbytes(value, fused.options) for value in fused.part.graph.values()}
    return ends(spaces, schedule, sizes)


def _trains(graph: Graph) -> bool:
    """True for a graph with a backward pass: it updates parameters, or gives gradients."""
    parameters = {item.name for item in graph.inputs if item.kind is InputKind.PARAMETER}
    updated = any(update.target in parameters for update in graph.updates)
    return updated or len(model_outputs(graph)) < len(set(graph.output_names))


def _best(graph: Graph, chosen: FusionOptions) -> _Fused:
    forms = Forms()
    if not chosen.enabled:
        return _fuse(graph, chosen, 0, forms)
    limit = unfused_peak(graph, chosen)
    best = _fuse(graph, chosen, limit, forms)
    careful = replace(chosen, conservative=True)
    for attempt in (careful, replace(careful, merge=False)):
        enough = best.peak if best.peak > limit else best.peak - best.peak // 4
        if best.peak <= limit and (best.peak <= chosen.thrifty_peak or attempt is not careful):
            break
        other = _fuse(graph, attempt, limit, forms)
        if other.peak < enough:
            best = other
    return best


def unfused(graph: Graph) -> Program:
    """Every node its own kernel: the baseline for reports and tests."""
    return fuse(graph, FusionOptions(enabled=False))


@dataclass(frozen=True, slots=True)
class _Fused:
    """An attempt at a program: its kernels in launch order, and what they come from."""

    part: Partition
    storage: Storage
    binder: Binder
    sequence: Sequence[Group]
    apart: tuple[Partition, Sequence[Group]]
    """The same before horizontal fusion."""
    options: FusionOptions
    limit: int
    """The bytes below which horizontal fusion kept the peak."""
    peak: int
    """The most bytes of the arena that are live at one step, symbolic dimensions at their assumed size."""

    def program(self) -> Program:
        return self.binder.shared_program(self.sequence)


def _fuse(
    graph: Graph, options: FusionOptions, limit: int, forms: Forms, apart: frozenset[str] = frozenset()
) -> _Fused:
    """One attempt; horizontal fusion keeps the peak below `limit` bytes. apart: values at which epilogues end."""
    part = partition(graph, options, apart)
    loops = loops_of(part, forms)
    storage, copies = assign(part, loops, options.in_place)
    groups = [Group(number, [space], [loops[number]]) for number, space in part.spaces.items()]
    groups += [Group(number, [space], [forms.loops(space)]) for number, space in copies.items()]

    def estimate(found: list[Group]) -> int:
        return estimated_peak(part, storage, found, options)

    alone = replace(part, reach=part.reach.copy()), list(groups)
    if options.enabled and options.horizontal:
        groups = fuse_horizontally(part, groups, options, estimate, limit)
    binder = Binder(part, storage, options)
    sequence = binder.ordered(groups)
    binder.share(sequence)
    return _Fused(part, storage, binder, sequence, alone, options, limit, binder.live_peak(sequence))


def loops_of(part: Partition, forms: Forms) -> dict[int, Loops]:
    """The nest of each space; a contraction whose epilogue does not fit its result's axes gets a kernel of its own."""
    result: dict[int, Loops] = {}
    for number, space in list(part.spaces.items()):
        result[number] = forms.loops(space)
        if space.anchor is not None and not result[number].fits():
            alone = part.eject_anchor(space)
            result[alone.number] = forms.loops(alone)
            result[number] = forms.loops(space)
    return result


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
