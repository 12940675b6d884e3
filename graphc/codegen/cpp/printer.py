"""Prints one lowered nest under its schedule as C++ loops: what threads share, and what is done for each item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphc.codegen.cpp.expressions import TYPES, affine_text, dim_text
from graphc.codegen.cpp.passes import PassPrinter
from graphc.codegen.cpp.scalars import ANCHOR
from graphc.codegen.cpp.schedule import PARALLEL_COST, TURN_LANES, TURN_ROWS, Mode, extent_of, item_axes
from graphc.codegen.cpp.writer import Lanes
from graphc.ir.kernel import Axis, Load


class NestPrinter(PassPrinter):
    """Prints a nest; `buffers` gives the C++ name of each buffer.

    `in_region` says that the caller has opened a parallel region which several nests share.
    """

    def print(self) -> None:
        """Print the whole nest."""
        items = [axis for axis in item_axes(self.nest, self.schedule) if axis.name not in self.env]
        blocked = self.is_blocked()
        with self.scope():
            if not items and not blocked:
                self._print_without_items()
                return
            self._pragma(len(items) + blocked + bool(self.schedule.turned))
            self._open_items(items, blocked)

    def is_blocked(self) -> bool:
        """True when the vector axis of a map or of columns is walked in blocks."""
        vector, block = self.schedule.vector, self.schedule.block
        if vector is None or self.schedule.mode is Mode.ROWS or not block:
            return False
        if self.schedule.turned or self.schedule.streams:
            return True
        extent = extent_of(self.nest, vector)
        return not isinstance(extent, int) or extent > block

    def print_row(
        self, outer: Mapping[str, str], axes: Sequence[Axis], start: str, count: str, sums: str
    ) -> None:
        """Print the nest over part of one row of an anchor's result.

        `outer` is the text of the axes before the row's; `count` results from row-major number `start` on lie in
        `sums`. A row of several axes that do not run as one is unravelled lane by lane.
        """
        lane = self.names.new("lane")
        self.env.update(outer)
        self.env[ANCHOR] = f"{sums}[{lane}]"
        if len(axes) > 1:
            self.unravelled = tuple(axes)
            self.lane_level = self.lane_levels()
        self.outer(0, Lanes(lane, count, f"{start} + {lane}", start))

    def _print_without_items(self) -> None:
        shares_its_loop = self.schedule.mode is Mode.MAP and self.schedule.threaded
        if self.in_region and not shares_its_loop:
            self.out.line("#pragma omp single nowait")
        with self.block(""):
            self.item("")

    def _pragma(self, loops: int) -> None:
        collapse = f" collapse({loops})" if loops > 1 else ""
        if self.in_region:
            text = f"for{collapse} schedule(static) nowait" if self.schedule.threaded else "single nowait"
            self.out.line(f"#pragma omp {text}")
        elif self.schedule.threaded:
            work = self.schedule.work
            condition = "" if isinstance(work, int) else f" if ({dim_text(work)} > {PARALLEL_COST})"
            self.out.line(f"#pragma omp parallel for{collapse} schedule(static){condition}")

    def _open_items(self, items: Sequence[Axis], blocked: bool) -> None:
        """Loops over the items that are left, then over blocks; inside them, the item."""
        if items:
            axis = items[0]
            variable = self.names.new(axis.name)
            self.env[axis.name] = variable
            start, stop = self.bounds.get(axis.name, ("0", dim_text(axis.extent)))
            with self.block(f"for (int64_t {variable} = {start}; {variable} < {stop}; ++{variable})"):
                self._open_items(items[1:], blocked)
        elif self.schedule.turn is not None:
            vector = self.schedule.vector
            assert vector is not None
            with (
                self.block_loop(self.schedule.turn, TURN_ROWS) as turn,
                self.block_loop(vector, TURN_LANES) as start,
            ):
                self._turned_tile(turn, start)
        elif blocked:
            assert self.schedule.vector is not None
            with self.block_loop(self.schedule.vector, self.schedule.block) as start:
                self.item(start)
        else:
            self.item("")

    def _turned_tile(self, turn_start: str, start: str) -> None:
        """One tile of a map whose turned loads are transposed in cache first."""
        vector, turn = self.schedule.vector, self.schedule.turn
        assert vector is not None and turn is not None
        with self.scope():
            lanes = self.block_lanes(start, extent_of(self.nest, vector), TURN_LANES)
            rows = self.block_count(turn_start, extent_of(self.nest, turn), TURN_ROWS)
            row = self.names.new(turn)
            corner = {**self.env, vector: start, turn: turn_start}
            for load in self.nest.body:
                if isinstance(load, Load) and load.name in self.schedule.turned:
                    tile = self.names.new(f"{load.name}_tile")
                    c = TYPES[load.dtype]
                    source = f"{self.buffers[load.buffer]} + {affine_text(load.index[0], corner)}"
                    stride = dim_text(load.index[0].stride(vector))
                    self.out.line(f"alignas(64) {c} {tile}[{TURN_ROWS * TURN_LANES}];")
                    self.out.line(
                        f"gc_transpose<{c}>({lanes.count}, {rows}, {source}, {stride}, {tile}, {TURN_LANES});"
                    )
                    self.env[load.name] = f"{tile}[({row} - {turn_start}) * {TURN_LANES} + {lanes.variable}]"
            self.env[turn] = row
            with self.block(f"for (int64_t {row} = {turn_start}; {row} < {turn_start} + {rows}; ++{row})"):
                self.outer(0, lanes)
