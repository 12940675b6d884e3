"""Passes over the reduction axes: accumulators, values kept between passes, and the scalars known after each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from graphc.codegen.cpp.accumulators import POSITIONS, AccumulatorPrinter
from graphc.codegen.cpp.costs import KEEP_COST, statement_cost
from graphc.codegen.cpp.expressions import LANE_TYPES, TYPES, Names, affine_text, dim_factor, dim_text
from graphc.codegen.cpp.schedule import (
    Mode,
    Schedule,
    extent_of,
    prefetched_rows,
    row_lanes,
    rows_apart,
)
from graphc.codegen.cpp.writer import Lanes, Writer
from graphc.ir.kernel import (
    Affine,
    Axis,
    Compute,
    Constant,
    Definition,
    IndexValue,
    Load,
    Nest,
    Reduce,
    Store,
)
from graphc.types import Dim, DType, dimension, product

STACK_SCRATCH = 32 << 10  # larger scratch comes from the thread's share of the kernel's
# Rows that one lane loop of columns takes at once, and the most loads a row for which that pays: each is a
# stream of its own.
ROW_GROUP, GROUPED_LOADS = 4, 4


class PassPrinter(AccumulatorPrinter):
    """Prints what happens for one item: outer scalars and stores, and each pass between them."""

    def __init__(
        self,
        writer: Writer,
        nest: Nest,
        schedule: Schedule,
        buffers: Mapping[str, str],
        names: Names,
        in_region: bool = False,
    ) -> None:
        super().__init__(writer, nest, schedule, buffers, names, in_region)
        ends = [self.analysis.phase[reduce.name] for reduce in self.reduces]
        ends += [1 + self.analysis.phase_of(store) for store in self.stores if self.is_inner(store)]
        self.pass_count = max(ends, default=0)
        self.scratch: dict[str, str] = {}

    def item(self, start: str) -> None:
        """All passes for one item (and one block of the vector axis, which begins at `start`)."""
        with self.scope():
            lanes = self._lanes(start)
            self.turn_rows(lanes)
            self._declare_scratch()
            self.outer(0, lanes)
            for number in range(self.pass_count):
                if self.schedule.mode is Mode.ROWS:
                    self._row_pass(number)
                else:
                    assert lanes is not None
                    self._column_pass(number, lanes)
                self.outer(number + 1, lanes)
            self.turn_back(lanes)

    def _lanes(self, start: str) -> Lanes | None:
        """The lane loop of maps and columns; rows make their own in each pass."""
        vector = self.schedule.vector
        if vector is None or self.schedule.mode is Mode.ROWS:
            return None
        extent = extent_of(self.nest, vector)
        if not start:
            variable = self.names.new(vector)
            return Lanes(variable, dim_text(extent), variable, "0")
        return self.block_lanes(start, extent, self.schedule.block)

    def outer(self, phase: int, lanes: Lanes | None) -> None:
        """Scalars and stores outside the reduction axes that are known after `phase` passes."""
        mine = [
            s.name
            for s in self.nest.body
            if not isinstance(s, (Store, Reduce))
            and not self.analysis.inner[s.name]
            and not self.lane_level[s.name]
            and self.analysis.phase[s.name] == phase
        ]
        self.define(mine)
        stores = [s for s in self.stores if not self.is_inner(s) and self.analysis.phase_of(s) == phase]
        for store in stores:
            if not self.is_lane_store(store):
                self.store(store)
        lane_stores = [s for s in stores if self.is_lane_store(s)]
        kept = self._outer_kept(phase) if lanes is not None and self.schedule.mode is Mode.COLUMNS else []
        if lanes is not None and (lane_stores or kept):
            self._outer_lanes(lanes, lane_stores, kept)

    def _outer_kept(self, phase: int) -> list[Definition]:
        """Lane-level outer scalars, dearer than a load, that loops over the reduction axes read."""
        kept: list[Definition] = []
        for statement in self.nest.body:
            if isinstance(statement, (Store, Reduce, Load, Constant, IndexValue)):
                continue
            if self.analysis.inner[statement.name] or not self.lane_level[statement.name]:
                continue
            if self.analysis.phase[statement.name] == phase and self._read_inside(statement.name):
                kept.append(statement)
        return kept

    def _read_inside(self, name: str) -> bool:
        """True when a store or scalar at every point of the reduction axes, or a reduce, reads the value."""
        for statement in self.nest.body:
            if name in self.analysis.reads(statement):
                if isinstance(statement, Store):
                    if self.is_inner(statement):
                        return True
                elif isinstance(statement, Reduce) or self.analysis.inner[statement.name]:
                    return True
        return False

    def _outer_lanes(self, lanes: Lanes, stores: Sequence[Store], kept: Sequence[Definition]) -> None:
        arrays = {}
        for statement in kept:
            arrays[statement.name] = self.names.new(f"{statement.name}_lanes")
            c = LANE_TYPES[statement.dtype]
            self.out.line(f"alignas(64) {c} {arrays[statement.name]}[{self.schedule.block}];")
        roots = [name for store in stores for name in self.analysis.reads(store)] + list(arrays)
        with self.lane_loop(lanes, roots, stores):
            for statement in kept:
                self.out.line(f"{arrays[statement.name]}[{lanes.variable}] = {self.env[statement.name]};")
        for name, array in arrays.items():
            self.env[name] = f"{array}[{lanes.variable}]"

    def _declare_scratch(self) -> None:
        """Arrays for inner values that outlive their pass."""
        kept = [s for s in self.nest.body if not isinstance(s, Store) and s.name in self.schedule.kept]
        if not kept:
            return
        points = product(axis.extent for axis in self.nest.reductions)
        if self.schedule.mode is Mode.COLUMNS:
            points = product((points, self.schedule.block))
        nbytes = product((points, sum(map(lane_bytes, kept))))
        on_stack = isinstance(nbytes, int) and nbytes <= STACK_SCRATCH
        if not on_stack:
            arena = self.names.new("scratch")
            wanted = dimension(nbytes + 64 * len(kept))
            self.out.scratch.append(wanted)
            self.out.line("const gc_scratch_scope share(team, omp_get_thread_num());")
            self.out.line(f"char* {arena} = gc_scratch({dim_text(wanted)});")
        for statement in kept:
            array = self.names.new(f"{statement.name}_kept")
            self.scratch[statement.name] = array
            c = LANE_TYPES[statement.dtype]
            if on_stack:
                self.out.line(f"alignas(64) {c} {array}[{dim_text(points)}];")
            else:
                self.out.line(f"{c}* const {array} = ({c}*){arena};")
                self.out.line(f"{arena} += gc_round_up({dim_factor(points)} * {lane_bytes(statement)}, 64);")

    def _kept_index(self, lane: str) -> str:
        """Where the current point of the reduction axes lies in a scratch array."""
        vector = self.schedule.vector
        order = [a for a in self.nest.reductions if a.name != vector]
        if self.schedule.mode is Mode.ROWS:
            order += [a for a in self.nest.reductions if a.name == vector]
        index, stride = Affine(), 1 if self.schedule.mode is Mode.ROWS else self.schedule.block
        running: Dim = stride
        for axis in reversed(order):
            index = index + Affine.axis(axis.name, running)
            running = product((running, axis.extent))
        text = affine_text(index, self.env)
        if self.schedule.mode is Mode.ROWS:
            return text
        return lane if text == "0" else f"{text} + {lane}"

    def _load_kept(self, number: int, lane: str) -> None:
        """Make the values that earlier passes kept known at the current point."""
        for name, array in self.scratch.items():
            if self.analysis.phase[name] < number:
                self.env[name] = f"{array}[{self._kept_index(lane)}]"

    def _save_kept(self, kept: Sequence[str], lane: str) -> None:
        for name in kept:
            self.out.line(f"{self.scratch[name]}[{self._kept_index(lane)}] = {self.env[name]};")

    def _pass_work(self, number: int) -> tuple[list[Reduce], list[Store], list[str]]:
        """(reduces, stores, inner values to keep) of a pass."""
        reduces = [r for r in self.reduces if self.analysis.phase[r.name] == number + 1]
        stores = [s for s in self.stores if self.is_inner(s) and self.analysis.phase_of(s) == number]
        kept = [name for name in self.scratch if self.analysis.phase[name] == number]
        return reduces, stores, kept

    @contextmanager
    def _row_loops(self, first: tuple[str, str] | None = None, inmost: bool = True) -> Iterator[None]:
        """The reduction axes except the vector axis; `first` bounds the outermost of them.

        Without `inmost` the last of them is left to the caller.
        """
        axes = self._row_axes()
        with self.scope(), ExitStack() as loops:
            for axis in axes if inmost else axes[:-1]:
                variable = self.names.new(axis.name)
                self.env[axis.name] = variable
                start, stop = first if first and axis is axes[0] else ("0", dim_text(axis.extent))
                header = f"for (int64_t {variable} = {start}; {variable} < {stop}; ++{variable})"
                loops.enter_context(self.block(header))
            yield

    def _row_axes(self) -> list[Axis]:
        return [axis for axis in self.nest.reductions if axis.name != self.schedule.vector]

    def _row_scalars(self, roots: Iterable[str]) -> None:
        """Inner scalars that do not change along the lanes."""
        self.define(name for name in self.needed(roots) if not self.lane_level[name])

    def _roots(self, reduces: Sequence[Reduce], stores: Sequence[Store], kept: Sequence[str]) -> list[str]:
        return [
            *(reduce.argument for reduce in reduces),
            *(name for store in stores for name in self.analysis.reads(store)),
            *kept,
        ]

    def _column_pass(self, number: int, lanes: Lanes) -> None:
        """One pass in which every lane is an output of its own."""
        reduces, _, _ = self._pass_work(number)
        self.declare_accumulators(reduces, self.schedule.block)
        with self.cascade(reduces) as first:
            self._column_rows(number, lanes, first)
        self._name_columns(reduces, lanes)

    def _column_rows(self, number: int, lanes: Lanes, first: tuple[str, str] | None) -> None:
        """The loops over rows of a pass; `first` bounds the outermost."""
        reduces, stores, kept = self._pass_work(number)
        roots = self._roots(reduces, stores, kept)
        grouped = not stores and not kept and self._rows_in_groups(number, reduces)
        with self._row_loops(first, inmost=not grouped):
            if grouped:
                self._row_groups(number, lanes, first, roots, reduces)
            else:
                self._load_kept(number, lanes.variable)
                self._row_scalars(roots)
                with self.lane_loop(lanes, roots, stores):
                    self._save_kept(kept, lanes.variable)
                    self.accumulate_all(reduces, lanes.variable)

    def _name_columns(self, reduces: Sequence[Reduce], lanes: Lanes) -> None:
        """Make the results of a pass known lane by lane."""
        for reduce in reduces:
            array = self.accumulators[reduce.name][-1]
            cast = f"({TYPES[reduce.dtype]})" if reduce.operation in POSITIONS else ""
            self.env[reduce.name] = f"{cast}{array}[{lanes.variable}]"

    def runs_in_parts(self) -> bool:
        """True for columns whose one pass does nothing but add up rows, a few of them at a time if need be."""
        _, stores, kept = self._pass_work(0)
        columns = self.schedule.mode is Mode.COLUMNS and self.pass_count == 1 and not stores and not kept
        return columns and len(self._row_axes()) == 1

    @contextmanager
    def columns_in_parts(self) -> Iterator[Callable[[str, str], None]]:
        """All that happens for one item of such columns but its rows, which the caller runs, from start to stop."""
        with self.scope():
            lanes = self._lanes("")
            assert lanes is not None
            self.outer(0, lanes)
            self.declare_accumulators(self.reduces, self.schedule.block)
            parts = self.declare_parts(self.reduces)

            def run(start: str, stop: str) -> None:
                with self.part_of_cascade(parts, start, stop):
                    self._column_rows(0, lanes, (start, stop))

            yield run
            self._name_columns(self.reduces, lanes)
            self.outer(1, lanes)

    def _rows_in_groups(self, number: int, reduces: Sequence[Reduce]) -> bool:
        """Whether a lane loop can take several rows at once: their sums then stay in registers from row to row."""
        axes = self._row_axes()
        extent = axes[-1].extent if axes else 0
        # Compilers turn a chain of searches into branches.
        if (
            not reduces
            or any(reduce.operation in POSITIONS for reduce in reduces)
            or self.unravelled
            or self.is_short()
            or (isinstance(extent, int) and extent < ROW_GROUP)
        ):
            return False
        inside = [self.analysis.definitions[name] for name in self.needed(self._roots(reduces, (), ()))]
        loads = [s for s in inside if isinstance(s, Load)]
        # What belongs to a row is computed inside the lane loop then, and left to the compiler to move out.
        dear = any(statement_cost(s) > KEEP_COST for s in inside if not self.lane_level[s.name])
        walking = sum(self.lane_level[load.name] for load in loads)
        return not dear and walking <= GROUPED_LOADS and not any(load.guards for load in loads)

    def _row_groups(
        self,
        number: int,
        lanes: Lanes,
        first: tuple[str, str] | None,
        roots: Sequence[str],
        reduces: Sequence[Reduce],
    ) -> None:
        """The innermost loop over rows, a group of them in each lane loop."""
        axes = self._row_axes()
        start, stop = first if first and len(axes) == 1 else ("0", dim_text(axes[-1].extent))
        row = self.names.new(axes[-1].name)
        step = f"[&](int64_t {row}, int64_t {lanes.variable}) GC_LAMBDA_INLINE"
        far = rows_apart(self.nest, axes[-1], self.schedule)
        loop, end = ("gc_for_rows_ahead", "},") if far else ("gc_for_rows", "});")
        with (
            self.scope(),
            self.block(f"{loop}<{ROW_GROUP}>({start}, {stop}, {lanes.count}, {step}", end=end),
        ):
            self.env[axes[-1].name] = row
            self._load_kept(number, lanes.variable)
            self.define_vector(lanes)
            self.define(self.needed(roots))
            self.accumulate_all(reduces, lanes.variable)
        if far:
            self.fetch_rows(far, lanes, axes[-1].name)

    def _row_pass(self, number: int) -> None:
        """One pass along rows: lanes of accumulators that are folded at the end."""
        reduces, stores, kept = self._pass_work(number)
        roots = self._roots(reduces, stores, kept)
        block = self._row_block(roots)
        self.declare_accumulators(reduces, block)
        with self._row_loops():
            self._row_scalars(roots)
            if reduces:
                self._row_reduction(number, block, roots, reduces, stores, kept)
            else:
                self._row_map(number, roots, stores, kept)
        self.fold_all(reduces)

    def _next_rows(self, number: int) -> list[str]:
        """Where the rows of the next item begin: the pass that computes most fetches them bit by bit."""
        starts = []
        found = (
            prefetched_rows(self.nest, self.schedule, self.analysis) if number == self._busy_pass() else ()
        )
        for load in found:
            (row,) = self.nest.reductions
            step = Affine.axis(self.nest.parallel[-1].name) + 1
            place = load.index[0].substitute({row.name: Affine(), self.nest.parallel[-1].name: step})
            starts.append(f"{self.buffers[load.buffer]} + {affine_text(place, self.env)}")
        return starts

    def _busy_pass(self) -> int:
        """The second pass, whose data is in cache, unless the first one computes far more."""
        work = [0.0] * max(self.pass_count, 2)
        for s in self.nest.body:
            if isinstance(s, Compute) and self.analysis.inner[s.name] and self.analysis.phase[s.name] < 2:
                work[self.analysis.phase[s.name]] += statement_cost(s)
        return 0 if work[0] > 2 * max(work[1], KEEP_COST) else 1

    def _row_block(self, roots: Sequence[str]) -> int:
        """Accumulators of a pass along rows: no more than a short row needs."""
        vector = self.schedule.vector
        assert vector is not None
        extent = extent_of(self.nest, vector)
        block = row_lanes(
            [self.analysis.definitions[name] for name in self.needed(roots)], self.schedule.block
        )
        return min(block, 1 << (extent - 1).bit_length()) if isinstance(extent, int) and extent > 0 else block

    def _row_map(self, number: int, roots: list[str], stores: Sequence[Store], kept: Sequence[str]) -> None:
        """A pass without reductions: stores, or values for a later pass."""
        vector = self.schedule.vector
        assert vector is not None
        extent = extent_of(self.nest, vector)
        if any(store.buffer in self.schedule.streams for store in stores) or self.converts(roots, stores):
            start = self.names.new(f"{vector}_start")
            header = (
                f"for (int64_t {start} = 0; {start} < {dim_text(extent)}; {start} += {self.schedule.tile})"
            )
            ahead = self._next_rows(number)
            with self.block(header):
                for row in ahead:
                    self.out.line(f"gc_prefetch({row} + {start}, {self.schedule.tile});")
                self._row_lanes(
                    number, self.block_lanes(start, extent, self.schedule.tile), roots, stores, kept
                )
        else:
            variable = self.names.new(vector)
            self._row_lanes(number, Lanes(variable, dim_text(extent), variable, "0"), roots, stores, kept)

    def _row_lanes(
        self, number: int, lanes: Lanes, roots: list[str], stores: Sequence[Store], kept: Sequence[str]
    ) -> None:
        vector = self.schedule.vector
        assert vector is not None
        with self.scope():
            # The scratch index names the axis' value, which the lane loop defines.
            self.env[vector] = lanes.value
            self._load_kept(number, lanes.variable)
            del self.env[vector]
            with self.lane_loop(lanes, roots, stores):
                self._save_kept(kept, lanes.variable)

    def _row_reduction(
        self,
        number: int,
        block: int,
        roots: list[str],
        reduces: Sequence[Reduce],
        stores: Sequence[Store],
        kept: Sequence[str],
    ) -> None:
        """One step function over the row, run in blocks of lanes."""
        vector = self.schedule.vector
        assert vector is not None
        extent = dim_text(extent_of(self.nest, vector))
        wanted = self.needed(roots)
        self.hoist_guards([*(self.analysis.definitions[name] for name in sorted(wanted)), *stores])
        variable, lane = self.names.new(vector), self.names.new("lane")
        self.widen_loads(wanted, variable)
        ahead = self._next_rows(number)
        loop, end = ("gc_for_lanes_ahead", f"}}, {', '.join(ahead)});") if ahead else ("gc_for_lanes", "});")
        head = f"{loop}<{block}>({extent}, [&](int64_t {variable}, int64_t {lane}) GC_LAMBDA_INLINE"
        with self.scope(), self.block(head, end=end):
            self.env[vector] = variable
            self._load_kept(number, lane)
            self.define(self.needed(roots))
            self._save_kept(kept, lane)
            for store in stores:
                self.store(store)
            self.accumulate_all(reduces, lane)


def lane_bytes(statement: Definition) -> int:
    """Bytes of one element in an array of lanes."""
    return 4 if statement.dtype is DType.BOOL else statement.dtype.itemsize
