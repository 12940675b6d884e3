"""Plan the arena: an offset, a size and a lifetime for every intermediate buffer of a program.

Offsets are found greedily over buffers in several orders (Pisarchyk and Lee, Efficient Memory Management for Deep
Neural Net Inference, 2020, arXiv:2001.03288: greedy by size; also by size times lifetime, by first use and by the
breadth of the steps), the smallest arena wins. A kernel's result that took over an operand's memory shares its buffer
since fusion, so one lifetime covers both.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.diagnostics import fail
from graphc.ir.program import Buffer, Lifetime, Placement, Plan, Program, Role
from graphc.types import evaluate

ALIGNMENT = 64
ARENA_ROLES = (Role.INTERMEDIATE, Role.WORKSPACE)


@dataclass(frozen=True, slots=True)
class _Block:
    """A buffer to be placed: rounded size in bytes, steps from first to last."""

    buffer: int
    size: int
    nbytes: int
    first: int
    last: int


def plan(program: Program, sizes: Mapping[str, int] | None = None) -> Plan:
    """The arena for given sizes of the symbolic dimensions; error G602 when one is missing or not positive."""
    values = _checked(program, sizes or {})
    lifetimes = buffer_lifetimes(program)
    blocks = []
    for index, lifetime in sorted(lifetimes.items()):
        nbytes = buffer_nbytes(program.buffers[index], values)
        blocks.append(_Block(index, _aligned(nbytes), nbytes, lifetime.first, lifetime.last))
    offsets = _best(blocks)
    size = max((offsets[block.buffer] + block.size for block in blocks), default=0)
    placements = tuple(
        Placement(block.buffer, offsets[block.buffer], block.nbytes, lifetimes[block.buffer])
        for block in blocks
    )
    return Plan(
        tuple((name, values[name]) for name in program.symbols),
        ALIGNMENT,
        placements,
        size,
        sum(block.size for block in blocks),
        max(live_bytes(blocks, len(program.steps)), default=0),
    )


def _checked(program: Program, sizes: Mapping[str, int]) -> dict[str, int]:
    for name in program.symbols:
        if name not in sizes:
            raise fail(
                "G602", f"the plan of {program.name} needs the size of dimension {name}", name=program.name
            )
    return {name: int(sizes[name]) for name in program.symbols}


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def buffer_nbytes(buffer: Buffer, sizes: Mapping[str, int]) -> int:
    """Bytes of a buffer under sizes of the symbolic dimensions."""
    count = buffer.type.dtype.itemsize
    for dim in buffer.type.shape:
        count *= evaluate(dim, sizes)
    return count


def buffer_lifetimes(program: Program) -> dict[int, Lifetime]:
    """First and last step of each arena buffer that a step touches."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    arena = [buffer.role in ARENA_ROLES for buffer in program.buffers]
    for number, step in enumerate(program.steps):
        for index in step.arguments:
            if arena[index]:
                first.setdefault(index, number)
                last[index] = number
    return {index: Lifetime(first[index], last[index]) for index in first}


def live_bytes(blocks: Sequence[_Block], steps: int) -> list[int]:
    """The sum of live sizes at each step."""
    change = [0] * (steps + 1)
    for block in blocks:
        change[block.first] += block.size
        change[block.last + 1] -= block.size
    result, live = [], 0
    for difference in change[:steps]:
        live += difference
        result.append(live)
    return result


# Offsets


def _best(blocks: Sequence[_Block]) -> dict[int, int]:
    """Offsets by buffer: the best of several greedy orders, stopping at the lower bound."""
    if not blocks:
        return {}
    live = live_bytes(blocks, max(block.last for block in blocks) + 1)
    bound = max(live)
    orders: list[Callable[[_Block], tuple[float, ...]]] = [
        lambda block: (-block.size, block.first),
        lambda block: (-block.size * (block.last - block.first + 1), block.first),
        lambda block: (block.first, -block.size),
        lambda block: (-max(live[block.first], live[block.last]), -block.size, block.first),
        lambda block: (block.first - block.last, -block.size),
    ]
    best: dict[int, int] = {}
    least = -1
    for order in orders:
        offsets = _greedy(sorted(blocks, key=order))
        size = max(offsets[block.buffer] + block.size for block in blocks)
        if least < 0 or size < least:
            best, least = offsets, size
        if least == bound:
            break
    return best


def _greedy(blocks: Sequence[_Block]) -> dict[int, int]:
    """Place blocks in order, each at the lowest offset of the tightest gap between placed ones alive with it."""
    offsets: dict[int, int] = {}
    placed = _IntervalIndex(max(block.last for block in blocks) + 1)
    for block in blocks:
        end = 0
        best, gap = -1, -1
        for offset, stop in placed.overlapping(block.first, block.last):
            room = offset - end
            if room >= block.size and (gap < 0 or room < gap):
                best, gap = end, room
            end = max(end, stop)
        offsets[block.buffer] = best if best >= 0 else end
        placed.add(block.first, block.last, offsets[block.buffer], offsets[block.buffer] + block.size)
    return offsets


class _IntervalIndex:
    """Placed blocks by the steps over which they live: a segment tree of sorted lists."""

    def __init__(self, steps: int) -> None:
        self._size = 1 << max(0, (steps - 1).bit_length())
        self._cover: list[list[tuple[int, int]]] = [[] for _ in range(2 * self._size)]
        self._inside: list[list[tuple[int, int]]] = [[] for _ in range(2 * self._size)]

    def _nodes(self, first: int, last: int) -> list[int]:
        low, high = first + self._size, last + self._size + 1
        nodes = []
        while low < high:
            if low & 1:
                nodes.append(low)
                low += 1
            if high & 1:
                high -= 1
                nodes.append(high)
            low >>= 1
            high >>= 1
        return nodes

    def add(self, first: int, last: int, offset: int, stop: int) -> None:
        """Record memory from offset to stop in use over these steps."""
        ancestors: set[int] = set()
        for node in self._nodes(first, last):
            bisect.insort(self._cover[node], (offset, stop))
            while node > 1:
                node >>= 1
                ancestors.add(node)
        for node in ancestors:
            bisect.insort(self._inside[node], (offset, stop))

    def overlapping(self, first: int, last: int) -> list[tuple[int, int]]:
        """Memory in use at any of these steps, by offset; a block may occur twice."""
        lists: list[list[tuple[int, int]]] = []
        seen: set[int] = set()
        for node in self._nodes(first, last):
            lists += [self._cover[node], self._inside[node]]
            while node > 1:
                node >>= 1
                if node in seen:
                    break
                seen.add(node)
                lists.append(self._cover[node])
        return list(heapq.merge(*(entries for entries in lists if entries)))


# Reports


def memory_report(program: Program, made: Plan) -> dict[str, Any]:
    """Bytes by role, the arena beside its bounds, and what is live at the peak: JSON-ready."""
    sizes = dict(made.sizes)
    by_role = dict.fromkeys((role.value for role in Role), 0)
    for buffer in program.buffers:
        by_role[buffer.role.value] += buffer_nbytes(buffer, sizes)
    blocks = [
        _Block(p.buffer, _aligned(p.size), p.size, p.lifetime.first, p.lifetime.last) for p in made.placements
    ]
    live = live_bytes(blocks, len(program.steps))
    peak = max(range(len(live)), key=live.__getitem__, default=0)
    alive = [p for p in made.placements if p.lifetime.first <= peak <= p.lifetime.last]
    alive.sort(key=lambda placement: (-placement.size, program.buffers[placement.buffer].name))
    rows = [_live_row(program, placement) for placement in alive]
    kernel = program.kernels[program.steps[peak].kernel].name if program.steps else ""
    return {
        "schema": 1,
        "program": program.name,
        "sizes": sizes,
        "bytes": by_role,
        "arena": {"naive": made.naive, "planned": made.size, "lower_bound": made.lower_bound},
        "peak": {"step": peak, "kernel": kernel, "live": rows},
    }


def _live_row(program: Program, placement: Placement) -> dict[str, Any]:
    buffer = program.buffers[placement.buffer]
    origin = buffer.origins[0] if buffer.origins else None
    return {
        "buffer": buffer.name,
        "type": str(buffer.type),
        "bytes": placement.size,
        "offset": placement.offset,
        "first": placement.lifetime.first,
        "last": placement.lifetime.last,
        "operator": f"{origin.operator} {origin.name}" if origin else "",
        "line": str(origin.location) if origin and origin.location else "",
    }


def memory_text(program: Program, made: Plan) -> str:
    """`memory_report` for people."""
    report = memory_report(program, made)
    arena, peak = report["arena"], report["peak"]
    sizes = ", ".join(f"{name}={value}" for name, value in report["sizes"].items())
    lines = [f"memory of {program.name}" + (f" for {sizes}" if sizes else "")]
    lines += [f"  {role:<13}{count:>16,} bytes" for role, count in report["bytes"].items() if count]
    lines.append(
        f"  arena: {arena['planned']:,} bytes planned, {arena['naive']:,} without reuse, "
        f"{arena['lower_bound']:,} at least"
    )
    if peak["live"]:
        lines.append(f"  live at the peak, step {peak['step']} ({peak['kernel']}):")
    for row in peak["live"]:
        place = "  ".join(part for part in (row["operator"], row["line"]) if part)
        lines.append(f"    {row['bytes']:>16,}  {row['buffer']}: {row['type']}  {place}".rstrip())
    return "\n".join(lines) + "\n"
