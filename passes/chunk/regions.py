"""Steps that may run part by part: those that touch a tensor too large to be stored whole, and all between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from graphc.ir.kernel import Access
from graphc.ir.program import Program, Role
from graphc.passes.chunk.rows import RefusalError, Rows, rows_of, writes


@dataclass(frozen=True, slots=True)
class Region:
    """Steps to run part by part, `before` and `after` them the others, each in order.

    rows: the use of rows of each step. along: the buffers that run along them and are written here. count: the rows
    as the finest of the kernels counts them, which come in whole groups of `group`; row: how many of those are a row
    of the region's products.
    """

    steps: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    rows: tuple[Rows, ...]
    along: frozenset[int]
    count: int
    group: int
    row: int


def large_buffers(program: Program, nbytes: int) -> list[list[int]]:
    """The intermediates of at least that many bytes, those that meet in a kernel together, largest first."""
    sizes = {
        index: size
        for index, buffer in enumerate(program.buffers)
        if buffer.role is Role.INTERMEDIATE and isinstance(size := buffer.type.nbytes, int) and size >= nbytes
    }
    root = {index: index for index in sizes}

    def find(index: int) -> int:
        while root[index] != index:
            index = root[index]
        return index

    for step in program.steps:
        met = [index for index in step.arguments if index in sizes]
        for index in met[1:]:
            root[find(index)] = find(met[0])
    groups: dict[int, list[int]] = {}
    for index in sizes:
        groups.setdefault(find(index), []).append(index)
    return sorted(groups.values(), key=lambda group: -max(sizes[index] for index in group))


def region_around(program: Program, seeds: Sequence[int]) -> Region:
    """The region that these buffers ask for; RefusalError says why there is none."""
    steps, before, after = _closed(program, seeds)
    along = set(seeds)
    while True:
        rows = []
        grown = set(along)
        for number in steps:
            step = program.steps[number]
            kernel = program.kernels[step.kernel]
            names = [p.name for p in kernel.parameters]
            found = rows_of(kernel, [n for n, b in zip(names, step.arguments, strict=True) if b in along])
            rows.append(found)
            outputs = found.parameters & writes(kernel)
            grown |= {b for n, b in zip(names, step.arguments, strict=True) if n in outputs}
        if grown == along:
            break
        along = grown
    _check_order(program, steps, rows, along)
    extents = {extent for found in rows for _, extent in found.extents}
    count = max(extents)
    if any(extent == 0 or count % extent for extent in extents):
        raise RefusalError("its rows are grouped in different ways")
    group = math.lcm(*(count // extent for extent in extents))
    anchored = [
        extent
        for number, found in zip(steps, rows, strict=True)
        if program.kernels[program.steps[number].kernel].anchor is not None
        for _, extent in found.extents
    ]
    row = count // max(anchored or [min(extents)])
    return Region(steps, before, after, tuple(rows), frozenset(along), count, group, row)


def _closed(
    program: Program, seeds: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The steps that touch the seeds and those that lie on a way between them; the others before and after."""
    wanted = set(seeds)
    touching = [n for n, step in enumerate(program.steps) if wanted & set(step.arguments)]
    needs = _dependencies(program)
    follows = set(touching)
    for number in range(len(program.steps)):
        if any(other in follows for other in needs[number]):
            follows.add(number)
    leads = set(touching)
    for number in reversed(range(len(program.steps))):
        if number in leads:
            leads.update(needs[number])
    inside = follows & leads
    first, last = min(inside), max(inside)
    others = [n for n in range(len(program.steps)) if n not in inside]
    before = [n for n in others if n < first or (n < last and n in leads)]
    after = [n for n in others if n not in set(before)]
    return tuple(sorted(inside)), tuple(before), tuple(after)


def _dependencies(program: Program) -> list[set[int]]:
    """For each step the earlier ones that it must follow, through what they write and read (nearest ones only)."""
    writer: dict[int, int] = {}
    readers: dict[int, set[int]] = {}
    needs: list[set[int]] = []
    for number, step in enumerate(program.steps):
        found: set[int] = set()
        parameters = program.kernels[step.kernel].parameters
        for parameter, buffer in zip(parameters, step.arguments, strict=True):
            if buffer in writer:
                found.add(writer[buffer])
            if parameter.access is not Access.IN:
                found |= readers.get(buffer, set())
        found.discard(number)
        for parameter, buffer in zip(parameters, step.arguments, strict=True):
            if parameter.access is Access.IN:
                readers.setdefault(buffer, set()).add(number)
            else:
                writer[buffer] = number
                readers[buffer] = {number}
        needs.append(found)
    return needs


def _check_order(program: Program, steps: Sequence[int], rows: Sequence[Rows], along: set[int]) -> None:
    """Refuse when a step reads across rows what the region writes, or needs a sum before all rows are in it."""
    summed: set[int] = set()
    for number, found in zip(steps, rows, strict=True):
        step = program.steps[number]
        kernel = program.kernels[step.kernel]
        if step.offsets:
            raise RefusalError(f"{kernel.name} works on a part already")
        along_here = {
            b for p, b in zip(kernel.parameters, step.arguments, strict=True) if p.name in found.parameters
        }
        for parameter, buffer in zip(kernel.parameters, step.arguments, strict=True):
            if buffer in summed:
                raise RefusalError(f"{kernel.name} needs a sum over all rows")
            if buffer in along | along_here and parameter.name not in found.parameters:
                raise RefusalError(f"{kernel.name} reads {parameter.name} across rows")
            if buffer not in along and parameter.access is not Access.IN and parameter.name not in found.sums:
                raise RefusalError(f"{kernel.name} writes {parameter.name} in every part")
        summed |= {
            buffer
            for parameter, buffer in zip(kernel.parameters, step.arguments, strict=True)
            if parameter.name in found.sums
        }
