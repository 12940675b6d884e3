"""Outputs stored past the cache straight from registers: a few vectors of a loop are computed, then stored.

    gc_for_streams<64>(count, [&](int64_t lane, int64_t slot, auto& tiles) { tiles[0][slot] = f(x[lane]); }, y);

A tile is so small that a compiler keeps it in registers. Memory then takes a vector as soon as it is known; a copy from
a tile in memory would wait for the tile, and stores would come in bursts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from graphc.codegen.cpp.row_tiles import RowTilePrinter
from graphc.codegen.cpp.scalars import ANCHOR
from graphc.codegen.cpp.writer import Lanes
from graphc.ir.kernel import Store

STREAM_BLOCK, MOST_STREAMS = 64, 4  # elements and outputs that lie in registers together
_BOUNDARY = 64  # bytes of the widest vector, and of the boundary that buffers lie on


class StreamPrinter(RowTilePrinter):
    """Prints lane loops whose results go past the cache."""

    def streams_of(self, stores: Sequence[Store], lanes: Lanes) -> Mapping[int, int]:
        """The place among the loop's tiles of each store, by number, that goes past the cache from registers."""
        blocked = lanes.value != lanes.variable and ANCHOR not in self.env
        found = [number for number, store in enumerate(stores) if store.buffer in self.schedule.streams]
        return (
            {number: place for place, number in enumerate(found)}
            if blocked and len(found) <= MOST_STREAMS
            else {}
        )

    @contextmanager
    def open_streams(self, lanes: Lanes, stores: Sequence[Store], slot: str, tiles: str) -> Iterator[None]:
        """The loop's header; inside, `slot` is where the lane lies in `tiles`."""
        block = self._even_block(lanes, stores)
        loop = f"gc_for_streams_evenly<{block}>" if block else f"gc_for_streams<{STREAM_BLOCK}>"
        step = f"[&](int64_t {lanes.variable}, int64_t {slot}, auto& {tiles}) GC_LAMBDA_INLINE"
        targets = ", ".join(self.start_of(store, lanes.start) for store in stores)
        with self.block(f"{loop}({lanes.count}, {step}", end=f"}}, {targets});"):
            yield

    def _even_block(self, lanes: Lanes, stores: Sequence[Store]) -> int:
        """Elements of a block that divides the loop, where all blocks begin on a vector's boundary; else 0."""
        if not lanes.count.isdigit() or int(lanes.count) == 0:
            return 0
        vectors = [_BOUNDARY // self.analysis.definitions[store.value].dtype.itemsize for store in stores]
        for store, whole in zip(stores, vectors, strict=True):
            (index,) = store.index
            strides = [stride for name, stride in index.terms if name != self.schedule.vector]
            steps = [index.offset, *strides, int(lanes.count)]
            if any(not isinstance(step, int) or step % whole for step in steps):
                return 0
        sizes = range(STREAM_BLOCK, 0, -max(vectors))
        return next((size for size in sizes if int(lanes.count) % size == 0), 0)
