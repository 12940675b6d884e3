"""Horizontal fusion: independent elementwise kernels become the nests of one, such as all updates of an optimizer.

One launch then does the work of many. A set of kernels is joined only where none depends on another, and only where
the values that wait for the joint kernel do not raise the peak of live memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphc.ir.program import Decision
from graphc.passes.fusion.bind import Group
from graphc.passes.fusion.options import FusionOptions
from graphc.passes.fusion.partition import Partition

_OPEN_SETS = 8

Peak = Callable[[Sequence[Group]], int]
"""Estimated bytes live at the peak when these groups are run in their best order."""


def fuse_horizontally(
    part: Partition, groups: Sequence[Group], options: FusionOptions, peak: Peak
) -> list[Group]:
    """The groups, with independent elementwise ones joined."""
    result = list(groups)
    before = peak(result)
    for members in _independent_sets(part, groups, options):
        saved = part.reach.copy()
        joined = _join(part, members)
        candidate = [group for group in result if group not in members] + [joined]
        names = [_name(group) for group in members]
        after = peak(candidate)
        accepted = after <= before
        reason = "independent elementwise kernels share one launch"
        if not accepted:
            part.reach = saved
            reason = f"waiting for one joint launch would hold {after - before:,} more bytes at the peak"
        else:
            result, before = candidate, after
        part.decisions.append(Decision(names[0], ", ".join(names[1:]), accepted, reason))
    return result


def _independent_sets(part: Partition, groups: Sequence[Group], options: FusionOptions) -> list[list[Group]]:
    """Sets of two or more elementwise groups, no path between any two of a set nor a cycle through their union."""
    trial = part.reach.copy()
    sets: list[list[Group]] = []
    for group in groups:
        if not _is_elementwise(group):
            continue
        for members in sets[-_OPEN_SETS:]:
            first = members[0].number
            independent = not trial.reaches(first, group.number) and not trial.reaches(group.number, first)
            if independent and len(members) < options.max_nests:
                trial.merge(first, group.number)
                members.append(group)
                break
        else:
            sets.append([group])
    return [members for members in sets if len(members) > 1]


def _is_elementwise(group: Group) -> bool:
    return all(space.anchor is None and not space.reduction for space in group.spaces)


def _join(part: Partition, members: Sequence[Group]) -> Group:
    number = members[0].number
    for other in members[1:]:
        number = part.reach.merge(number, other.number)
    return Group(
        number,
        [space for group in members for space in group.spaces],
        [nest for group in members for nest in group.nests],
    )


def _name(group: Group) -> str:
    return next(iter(group.nests[0].targets), "copy")
