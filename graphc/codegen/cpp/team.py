"""Runs of small kernels in one parallel region, so that none pays for a region, or a barrier, that it does not need.

A region costs half a microsecond on two threads, and kernels without one leave cores idle: the training step of a small
network is a dozen kernels of one to twenty. Inside a region that all of them share, kernels too small for a region of
their own are shared out too, and threads wait for each other only where a kernel meets what another has touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphc.codegen.cpp.nests import lower
from graphc.codegen.cpp.packing import uses_packets
from graphc.codegen.cpp.schedule import PARALLEL_COST, Schedule, decide, shape_nests
from graphc.codegen.cpp.scratch import SCRATCH, Scratch
from graphc.codegen.cpp.target import CpuTarget
from graphc.codegen.cpp.together import TOGETHER
from graphc.ir.kernel import Access, Kernel, Nest
from graphc.ir.program import Program, Role
from graphc.types import DType, product

SMALL_COST = 1 << 23  # vector additions or multiply-adds of the largest kernel that runs in a team
SHARED_COST = PARALLEL_COST // 16  # of the smallest loop nest that a team shares out
PRODUCT_COST = 500_000  # multiply-adds for which a product alone opens a region (gc_threads_for in gemm.h)


@dataclass(frozen=True, slots=True)
class Team:
    """Steps `first` to `last` of a program, run in one region; after those in `waits` the threads wait."""

    first: int
    last: int
    waits: frozenset[int]


def team_runs(program: Program, target: CpuTarget) -> list[tuple[int, int]]:
    """First and last step of each run of small kernels among which several pay for threads."""
    pays = [_pays(kernel, target) for kernel in program.kernels]
    runs, first = [], 0
    for position in range(len(program.steps) + 1):
        if position < len(program.steps) and pays[program.steps[position].kernel] is not None:
            continue
        if sum(bool(pays[step.kernel]) for step in program.steps[first:position]) > 1:
            runs.append((first, position - 1))
        first = position + 1
    return runs


def _pays(kernel: Kernel, target: CpuTarget) -> bool | None:
    """Whether a small kernel alone would open a parallel region; None where it cannot run in a team."""
    if kernel.anchor is not None:
        return _product_pays(kernel, target)
    if TOGETHER in kernel.attributes or "threads" in kernel.attributes or kernel.symbols:
        return None
    nests = [part for nest in kernel.nests for part in shape_nests(lower(nest, kernel), target)]
    schedules = [decide(nest, kernel, target) for nest in nests]
    works = [schedule.work for schedule in schedules]
    if any(schedule.streams for schedule in schedules):
        return None
    total = sum(work for work in works if isinstance(work, int))
    if total > SMALL_COST or not all(isinstance(work, int) for work in works):
        return None
    return total >= PARALLEL_COST


def _product_pays(kernel: Kernel, target: CpuTarget) -> bool | None:
    """As `_pays`, for products that gc_contract_many shares out; other templates open regions of their own."""
    anchor = kernel.anchor
    assert anchor is not None
    if anchor.primitive != "dot" or anchor.accumulator not in (DType.F32, DType.F64):
        return None
    types = [kernel.parameter(name).type for name in anchor.operands]
    dims = [*anchor.result.shape, *(dim for type in types for dim in type.shape)]
    if not all(isinstance(dim, int) for dim in dims) or 1 in anchor.result.shape[-2:]:
        return None
    if any(type.dtype is not anchor.accumulator for type in types) or uses_packets(
        types[0].dtype, types[1].dtype, target
    ):
        return None
    depth = types[0].shape[-2 if anchor.attributes.get("transpose_a", False) else -1]
    work = int(product((*anchor.result.shape, depth)))
    return work >= PRODUCT_COST if work <= SMALL_COST else None


def shared_schedule(nest: Nest, schedule: Schedule) -> Schedule:
    """The schedule of a nest in a team: what is worth it is shared out, by a loop that costs no barrier."""
    shared = bool(nest.parallel) and isinstance(schedule.work, int) and schedule.work >= SHARED_COST
    return replace(schedule, threaded=shared)


def teams(program: Program, runs: Sequence[tuple[int, int]], scratch: Sequence[Scratch]) -> list[Team]:
    """Where the threads of each run must wait; `scratch` is that of each kernel."""
    lives = _lives(program)
    found = []
    for first, last in runs:
        waits: set[int] = set()
        pending: list[int] = []
        for position in range(first, last + 1):
            if any(_meet(program, earlier, position, scratch, lives) for earlier in pending):
                waits.add(position - 1)
                pending = []
            pending.append(position)
        found.append(Team(first, last, frozenset(waits)))
    return found


def _lives(program: Program) -> dict[int, tuple[int, int]]:
    """The first and the last step that touches each buffer of the arena."""
    lives: dict[int, tuple[int, int]] = {}
    for position, step in enumerate(program.steps):
        for index in step.arguments:
            if program.buffers[index].role in (Role.INTERMEDIATE, Role.WORKSPACE):
                lives[index] = lives.get(index, (position, position))[0], position
    return lives


def _meet(
    program: Program,
    earlier: int,
    later: int,
    scratch: Sequence[Scratch],
    lives: dict[int, tuple[int, int]],
) -> bool:
    """True when the later step must not start before all threads have finished the earlier one."""
    (reads, writes), (reads_later, writes_later) = (_touched(program, step) for step in (earlier, later))
    if writes & (reads_later | writes_later) or reads & writes_later:
        return True
    # What begins to live in the arena may take the place of what no longer does, or ends at the same step.
    begins = any(lives[index][0] == later for index in program.steps[later].arguments if index in lives)
    if begins and any(lives[i][1] <= later for i in program.steps[earlier].arguments if i in lives):
        return True
    # Shares of one thread's own, unless they are cut differently.
    one, other = (scratch[program.steps[step].kernel] for step in (earlier, later))
    return bool(one) and bool(other) and one != other


def _touched(program: Program, position: int) -> tuple[set[int], set[int]]:
    """The buffers that a step reads, and those that it writes; its scratch, a share a thread, is neither."""
    step = program.steps[position]
    kernel = program.kernels[step.kernel]
    reads, writes = set(), set()
    for index, parameter in zip(step.arguments, kernel.parameters, strict=True):
        if parameter.name == SCRATCH:
            continue
        if parameter.access is not Access.OUT:
            reads.add(index)
        if parameter.access is not Access.IN:
            writes.add(index)
    return reads, writes
