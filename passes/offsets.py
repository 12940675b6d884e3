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

from graphc.ir.program import Placement

MATCH_RANGE = 16
"""A freed place serves a block of at most 16 times its size, and at least a sixteenth."""

EFFORT = 6000
"""Blocks placed in search of better offsets, beyond one round of every order; about a third of a second."""
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
    offsets: Offsets = {}
    placed = _IntervalIndex(max(block.last for block in blocks) + 1)
    for block in blocks:
        size, end = block.size, 0
        best, gap = -1, -1
        for offset, stop in placed.overlapping(block.first, block.last):
            if offset - end >= size and (gap < 0 or offset - end < gap):
                best, gap = end, offset - end
            if stop > end:
                end = stop
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
        found: list[tuple[int, int]] = []
        seen: set[int] = set()
        for node in self._nodes(first, last):
            found += self._cover[node]
            found += self._inside[node]
            while node > 1:
                node >>= 1
                if node in seen:
                    break
                seen.add(node)
                found += self._cover[node]
        # Runs that are sorted already: merged, not sorted from scratch.
        found.sort()
        return found


STRATEGIES: Mapping[str, Callable[[Sequence[Block]], Offsets]] = {
    "none": separate,
    "inplace": separate,
    "coshare": share_freed,
    "both": share_freed,
    "optimal": best_offsets,
}
TAKE_OVER = ("inplace", "both", "optimal")
"""The strategies that let a kernel write its result over an operand; fusion decides where."""
