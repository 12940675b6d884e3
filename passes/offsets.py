"""Where blocks of memory lie: five strategies, from none to the best offsets in one arena.

none, inplace   every block has a place of its own; in place, fusion has let results take over operands before
coshare, both   freed places wait in a list ordered by size and serve later blocks, in linear time (Chen et al.,
                MXNet, 2015, arXiv:1512.01274); both: after fusion's take-over
optimal         offsets found greedily over blocks in several orders (Pisarchyk and Lee, Efficient Memory
                Management for Deep Neural Net Inference, 2020, arXiv:2001.03288: greedy by size; also by size
                times lifetime, by first use and by the breadth of the steps); the smallest arena wins
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy
import numpy.typing

from graphc.ir.program import Placement

MATCH_RANGE = 16
"""A freed place serves a block of at most 16 times its size, and at least a sixteenth."""

EFFORT = 6000
"""Blocks placed in search of better offsets, beyond one round of every order; about a tenth of a second."""
MOST_PLACED = 20000
"""A program of very many buffers tries the two best orders alone: about a second for 10,000."""
NEAR_ENOUGH = 1.005
"""No search when the arena is within half a percent of the lower bound."""


@dataclass(frozen=True, slots=True)
class Block:
    """A buffer to be placed: rounded size in bytes, steps from first to last."""

    buffer: int
    size: int
    nbytes: int
    first: int
    last: int


IntArray: TypeAlias = "numpy.typing.NDArray[numpy.int64]"
Offsets = dict[int, int]
"""By buffer."""


def live_bytes(blocks: Sequence[Block], steps: int) -> list[int]:
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


def live_at(placements: Sequence[Placement], steps: int, alignment: int) -> list[int]:
    """The bytes of an arena that are in use at each step."""
    blocks = [
        Block(p.buffer, -(-p.size // alignment) * alignment, p.size, p.lifetime.first, p.lifetime.last)
        for p in placements
    ]
    return live_bytes(blocks, steps)


def separate(blocks: Sequence[Block]) -> Offsets:
    """No reuse: one after the other."""
    offsets, end = {}, 0
    for block in blocks:
        offsets[block.buffer] = end
        end += block.size
    return offsets


def share_freed(blocks: Sequence[Block]) -> Offsets:
    """Reuse of whole places: the smallest freed one that is large enough, else the largest, which grows."""
    sizes: list[int] = []
    place: dict[int, int] = {}
    free: list[tuple[int, int]] = []
    """(size, place)"""
    ending: dict[int, list[int]] = {}
    step = -1
    for block in sorted(blocks, key=lambda block: block.first):
        while step < block.first - 1:
            step += 1
            for found in ending.pop(step, ()):
                bisect.insort(free, (sizes[found], found))
        place[block.buffer] = found = _request(block.size, free, sizes)
        ending.setdefault(block.last, []).append(found)
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    return {buffer: starts[found] for buffer, found in place.items()}


def _request(size: int, free: list[tuple[int, int]], sizes: list[int]) -> int:
    low = bisect.bisect_left(free, (-(-size // MATCH_RANGE), 0))
    middle = bisect.bisect_left(free, (size, 0))
    high = bisect.bisect_left(free, (size * MATCH_RANGE + 1, 0))
    at = middle if middle < high else middle - 1
    if low <= at < high:
        _, found = free.pop(at)
        sizes[found] = max(sizes[found], size)
        return found
    sizes.append(size)
    return len(sizes) - 1


# Greedy offsets


def best_offsets(blocks: Sequence[Block]) -> Offsets:
    """Offsets by buffer: the best of several greedy orders, each improved while there is hope and effort is left.

    What lies on top of the arena is placed first in the next round, where it can lie low.
    """
    if not blocks:
        return {}
    live = live_bytes(blocks, max(block.last for block in blocks) + 1)
    bound = max(live)
    orders: list[Callable[[Block], tuple[float, ...]]] = [
        lambda block: (-block.size * (block.last - block.first + 1), block.first),
        lambda block: (block.first - block.last, -block.size),
        lambda block: (-block.size, block.first),
        lambda block: (block.first, -block.size),
        lambda block: (-max(live[block.first], live[block.last]), -block.size, block.first),
    ][: max(2, MOST_PLACED // len(blocks))]
    sequences = [sorted(blocks, key=order) for order in orders]
    best: Offsets = {}
    least = -1
    for turn in range(max(1, EFFORT // (len(blocks) * len(orders)))):
        if turn and least <= bound * NEAR_ENOUGH:
            break
        for number, sequence in enumerate(sequences):
            offsets = _greedy(sequence)
            size = max(offsets[block.buffer] + block.size for block in blocks)
            if least < 0 or size < least:
                best, least = offsets, size
            if least == bound:
                return best
            top = {block.buffer for block in sequence if offsets[block.buffer] + block.size == size}
            # A stable sort: those on top first, all others as they were.
            sequences[number] = sorted(sequence, key=lambda block: block.buffer not in top)
    return best


def _greedy(blocks: Sequence[Block]) -> Offsets:
    """Place blocks in order, each at the lowest offset of the tightest gap between placed ones alive with it."""
    first = numpy.array([block.first for block in blocks])
    last = numpy.array([block.last for block in blocks])
    start = numpy.empty(len(blocks), dtype=numpy.int64)
    stop = numpy.empty(len(blocks), dtype=numpy.int64)
    for at, block in enumerate(blocks):
        alive = numpy.flatnonzero((first[:at] <= block.last) & (last[:at] >= block.first))
        start[at] = _tightest_gap(start[alive], stop[alive], block.size)
        stop[at] = start[at] + block.size
    return {block.buffer: offset for block, offset in zip(blocks, start.tolist(), strict=True)}


def _tightest_gap(start: IntArray, stop: IntArray, size: int) -> int:
    """Where `size` bytes fit best between the ranges of memory in use, behind them all when no gap is large enough."""
    if not start.size:
        return 0
    order = start.argsort()
    ends = numpy.maximum.accumulate(stop[order])
    # The gap before each range begins where all before it end, the first one at 0.
    begins = numpy.concatenate(([0], ends[:-1]))
    gaps = start[order] - begins
    fits = numpy.flatnonzero(gaps >= size)
    return int(begins[fits[gaps[fits].argmin()]] if fits.size else ends[-1])


STRATEGIES: Mapping[str, Callable[[Sequence[Block]], Offsets]] = {
    "none": separate,
    "inplace": separate,
    "coshare": share_freed,
    "both": share_freed,
    "optimal": best_offsets,
}
TAKE_OVER = ("inplace", "both", "optimal")
"""The strategies that let a kernel write its result over an operand; fusion decides where."""
