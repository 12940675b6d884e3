"""Horizontal fusion: independent kernels become the nests of one: an optimizer's updates, small bias gradients.

One launch then does the work of many. A set of kernels is joined only where none depends on another, and only where
the values that wait for the joint kernel do not raise the peak of live memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphc.ir.program import Decision
from graphc.passes.fusion.bind import Group
from graphc.passes.fusion.partition import Partition
from graphc.passes.fusion.reach import Reachability
from graphc.passes.limits import FusionOptions

_OPEN_SETS = 8
_MOST_TRIALS = 16

Peak = Callable[[list[Group]], int]
"""Estimated bytes live at the peak when these groups are run in their best order."""


def fuse_horizontally(
    part: Partition, groups: Sequence[Group], options: FusionOptions, peak: Peak, limit: int
) -> list[Group]:
    """The groups, with independent ones joined: all sets at once, or one by one where that costs memory.

    A joint launch may raise the peak by `joint_slack` bytes, though not above `limit`.
    """
    sets, reach = _independent_sets(part, groups, options)
    if not sets:
        return list(groups)
    result = list(groups)
    before = peak(result)
    saved, part.reach = part.reach, reach
    joined = _joined(part, result, sets)
    most = max(before, min(limit, before + options.joint_slack))
    if peak(joined) <= most:
        for members in sets:
            _decide(part, members, 0)
        return joined
    part.reach = saved
    for members in sorted(sets, key=len, reverse=True)[:_MOST_TRIALS]:
        saved = part.reach.copy()
        candidate = _joined(part, result, [members])
        after = peak(candidate)
        _decide(part, members, after - most)
        if after <= most:
            result = candidate
        else:
            part.reach = saved
    return result


def _decide(part: Partition, members: Sequence[Group], cost: int) -> None:
    """Record a set; `cost` is what it holds above the allowed peak."""
    names = [next(iter(group.nests[0].targets), "copy") for group in members]
    reason = "independent kernels share one launch"
    if cost > 0:
        reason = f"waiting for one joint launch would hold {cost:,} bytes too many at the peak"
    part.decisions.append(Decision(names[0], ", ".join(names[1:]), cost <= 0, reason))


def _independent_sets(
    part: Partition, groups: Sequence[Group], options: FusionOptions
) -> tuple[list[list[Group]], Reachability]:
    """Sets of two or more groups, no path between any two of a set nor a cycle through their union, and their union."""
    trial = part.reach.copy()
    sets: dict[bool, list[list[Group]]] = {False: [], True: []}
    for group in groups:
        if not _may_join(group, options):
            continue
        alike = sets[_reduces(group)]
        for members in alike[-_OPEN_SETS:]:
            first = members[0].number
            independent = not trial.reaches(first, group.number) and not trial.reaches(group.number, first)
            if independent and len(members) < options.max_nests:
                trial.merge(first, group.number)
                members.append(group)
                break
        else:
            alike.append([group])
    return [members for members in (*sets[False], *sets[True]) if len(members) > 1], trial


def _may_join(group: Group, options: FusionOptions) -> bool:
    """Elementwise kernels, and reductions that store sums only, too small to be cut into parts."""
    if any(space.anchor is not None for space in group.spaces):
        return False
    return not _reduces(group) or all(
        options.elements(space.extents.values()) <= options.max_joint_reduction
        and not any(space.reduction & sink.access.variables for sink in space.sinks)
        for space in group.spaces
    )


def _reduces(group: Group) -> bool:
    return any(space.reduction for space in group.spaces)


def _joined(part: Partition, groups: Sequence[Group], sets: Sequence[Sequence[Group]]) -> list[Group]:
    """The groups with each set made one group, in `part.reach` too."""
    gone = {group.number for members in sets for group in members}
    result = [group for group in groups if group.number not in gone]
    for members in sets:
        number = members[0].number
        for other in members[1:]:
            number = part.reach.merge(number, other.number)
        spaces = [space for group in members for space in group.spaces]
        result.append(Group(number, spaces, [nest for group in members for nest in group.nests]))
    return result
