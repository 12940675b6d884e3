"""Prints one lowered nest under its schedule as C++ loops.

Scalars stand in three tiers, each outside the next: once an item (a point of the shared-out parallel axes), once a
row (a point of the other reduction axes) and once a lane (a point of the vector axis). A tier's scalars are printed
where their loops are open and only where a store, a reduce or a later tier needs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from graphc.codegen.cpp.expressions import (
    LANE_TYPES,
    TYPES,
    Names,
    affine_text,
    cast_text,
    dim_factor,
    dim_text,
    fold,
    guard_text,
    literal,
    operation_text,
)
from graphc.codegen.cpp.nests import Analysis, analyse, guard_axes
from graphc.codegen.cpp.schedule import (
    PARALLEL_COST,
    STREAM_TILE,
    TURN_LANES,
    TURN_ROWS,
    Mode,
    Schedule,
    extent_of,
    item_axes,
    row_lanes,
)
from graphc.ir.graph import Origins
from graphc.ir.kernel import (
    Affine,
    Anchor,
    Axis,
    Compute,
    Constant,
    Definition,
    Guard,
    IndexValue,
    Load,
    Nest,
    Random,
    Reduce,
    Reduction,
    Store,
)
from graphc.types import Dim, DType, product

STACK_SCRATCH = 32 << 10  # larger scratch comes from the thread's arena
ANCHOR = "anchor result"  # the key of the anchor's result among the known scalars
_ARGS = (Reduction.ARGMAX, Reduction.ARGMIN)


class Writer:
    """Lines of text at an indentation."""

    def __init__(self, depth: int = 0) -> None:
        self.lines: list[str] = []
        self._depth = depth

    def line(self, text: str) -> None:
        self.lines.append("  " * self._depth + text)

    @contextmanager
    def block(self, header: str, end: str = "}") -> Iterator[None]:
        self.line(f"{header} {{".lstrip())
        self._depth += 1
        yield
        self._depth -= 1
        self.line(end)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True, slots=True)
class Lanes:
    """A loop over the vector axis: its variable, trip count, and the axis' value as text."""

    variable: str
    count: str
    value: str
    start: str


class NestPrinter:
    """Prints a nest; `buffers` gives the C++ name of each buffer, `anchor` the text of the anchor's result.

    `in_region` says that the caller has opened a parallel region which several nests share.
    """

    def __init__(
        self,
        writer: Writer,
        nest: Nest,
        schedule: Schedule,
        buffers: dict[str, str],
        names: Names,
        in_region: bool = False,
    ) -> None:
        self.out, self.nest, self.schedule, self.buffers, self.names = writer, nest, schedule, buffers, names
        self.in_region = in_region
        self.analysis: Analysis = analyse(nest)
        self.env: dict[str, str] = {}
        self.commented: set[str] = set()
        self.unravelled: tuple[Axis, ...] = ()
        self.lane_level = self._lane_levels()
        self.reduces = [s for s in nest.body if isinstance(s, Reduce)]
        self.stores = [s for s in nest.body if isinstance(s, Store)]
        self.passes = 1 + max(
            [self.analysis.phase[r.name] - 1 for r in self.reduces]
            + [self.analysis.phase_of(s) for s in self.stores if self._is_inner(s)],
            default=-1,
        )
        self.scratch: dict[str, str] = {}
        self.accumulators: dict[str, tuple[str, ...]] = {}

    def _lane_levels(self) -> dict[str, bool]:
        """For every scalar, whether it is computed lane by lane."""
        columns = self.schedule.mode is Mode.COLUMNS
        level: dict[str, bool] = {}
        for statement in self.nest.body:
            if isinstance(statement, Reduce):
                level[statement.name] = columns
            elif not isinstance(statement, Store):
                level[statement.name] = self._walks_lanes(self.analysis.axes[statement.name]) or any(
                    level[name] for name in self.analysis.reads(statement)
                )
        return level

    def _walks_lanes(self, axes: Iterable[str]) -> bool:
        lanes = {self.schedule.vector, *(axis.name for axis in self.unravelled)}
        return any(axis in lanes for axis in axes)

    def _is_inner(self, store: Store) -> bool:
        return self.analysis.is_inner(store, frozenset(axis.name for axis in self.nest.reductions))

    def _is_lane_store(self, statement: Store) -> bool:
        return self._walks_lanes(self.analysis.axes_of(statement)) or any(
            self.lane_level[name] for name in self.analysis.reads(statement)
        )

    # Scalars

    def needed(self, roots: Iterable[str]) -> set[str]:
        """Scalars that must be computed to know `roots`, given what is known already."""
        found: set[str] = set()
        pending = [name for name in roots if name not in self.env]
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                pending += [n for n in self.analysis.reads(self.analysis.definitions[name]) if n not in self.env]
        return found

    def define(self, chosen: Iterable[str]) -> None:
        """Print the chosen scalars in the order of the body."""
        wanted = set(chosen) - self.env.keys()
        for statement in self.nest.body:
            if isinstance(statement, Store) or statement.name not in wanted:
                continue
            if isinstance(statement, Constant):
                text = literal(statement.value, statement.dtype)
                self.env[statement.name] = f"({text})" if text.startswith("-") else text
                continue
            self.comment(statement.origins)
            expression = self.expression(statement)
            name = self.names.new(statement.name)
            self.out.line(f"const {TYPES[statement.dtype]} {name} = {expression};")
            self.env[statement.name] = name

    def comment(self, origins: Origins) -> None:
        """Name each of the user's operators once a nest, where its first scalar stands."""
        for text in map(str, origins):
            if text not in self.commented:
                self.commented.add(text)
                self.out.line(f"// {text}")

    def expression(self, statement: Definition) -> str:
        match statement:
            case Load():
                access = f"{self.buffers[statement.buffer]}[{affine_text(statement.index[0], self.env)}]"
                if not statement.guards:
                    return access
                other = literal(statement.other, statement.dtype)
                return f"{self.condition(statement.guards)} ? {access} : {other}"
            case IndexValue():
                text = affine_text(statement.expression, self.env)
                return f"({TYPES[statement.dtype]})({text})"
            case Compute(operation="cast"):
                (argument,) = statement.arguments
                source = self.analysis.definitions[argument].dtype
                return cast_text(source, statement.dtype, self.env[argument])
            case Compute():
                arguments = [self.env[name] for name in statement.arguments]
                operand = self.analysis.definitions[statement.arguments[-1]].dtype
                text = operation_text(statement.operation, operand, arguments)
                narrow = statement.dtype.is_integer and statement.dtype.itemsize < 4
                return f"({TYPES[statement.dtype]})({text})" if narrow else text
            case Random():
                state = self.buffers[statement.buffer]
                index = affine_text(statement.index, self.env)
                return f"gc_philox_uniform({state}[0], {state}[1], {statement.stream}u, {index})"
            case Anchor():
                return self.env[ANCHOR]
            case _:
                raise AssertionError(f"{type(statement).__name__} is printed where its value is made")

    def condition(self, guards: Sequence[Guard]) -> str:
        """All guards in one branch-free condition; those that do not change along the lanes are hoisted."""
        return "(" + " & ".join(self.env.get(_guard_key(g)) or guard_text(g, self.env) for g in guards) + ")"

    def hoist_guards(self, statements: Iterable[Definition | Store]) -> None:
        """Print the guards of lane loops that hold for a whole loop as named conditions."""
        for statement in statements:
            if not isinstance(statement, (Load, Store)):
                continue
            for guard in statement.guards:
                key = _guard_key(guard)
                varies = self._walks_lanes(guard_axes(guard, self.analysis))
                known = all(v in self.env for v in guard.expression.variables)
                if not varies and known and key not in self.env:
                    name = self.names.new("inside")
                    self.out.line(f"const bool {name} = {guard_text(guard, self.env)};")
                    self.env[key] = name

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is defined inside is forgotten after."""
        saved = dict(self.env)
        yield
        self.env = saved

    @contextmanager
    def block(self, header: str, end: str = "}") -> Iterator[None]:
        """A C++ block; identifiers declared inside are free again after it."""
        with self.out.block(header, end), self.names.scope():
            yield

    # Loops

    def print(self) -> None:
        """Print the whole nest."""
        items = item_axes(self.nest, self.schedule)
        blocked = self._is_blocked()
        with self.scope():
            if not items and not blocked:
                self._print_without_items()
                return
            self._pragma(len(items) + blocked + bool(self.schedule.turned))
            self._open_items(items, blocked)

    def _is_blocked(self) -> bool:
        """True when the vector axis of a map or of columns is walked in blocks."""
        vector, block = self.schedule.vector, self.schedule.block
        if vector is None or self.schedule.mode is Mode.ROWS or not block:
            return False
        if self.schedule.turned:
            return True
        extent = extent_of(self.nest, vector)
        return not isinstance(extent, int) or extent > block

    def print_row(self, outer: Mapping[str, str], axes: Sequence[Axis], start: str, count: str, sums: str) -> None:
        """Print the nest over part of one row of an anchor's result.

        `outer` is the text of the axes before the row's; `count` results from row-major number `start` on lie in
        `sums`. A row of several axes that do not run as one is unravelled lane by lane.
        """
        lane = self.names.new("lane")
        self.env.update(outer)
        self.env[ANCHOR] = f"{sums}[{lane}]"
        if len(axes) > 1:
            self.unravelled = tuple(axes)
            self.lane_level = self._lane_levels()
        self._outer(0, Lanes(lane, count, f"{start} + {lane}", start))

    def _define_vector(self, lanes: Lanes) -> None:
        """Name the value of the vector axis in a lane loop: the loop's own variable, or from the block's start."""
        vector = self.schedule.vector
        assert vector is not None
        if lanes.value == lanes.variable:
            self.env[vector] = lanes.variable
            return
        position = self.names.new("position" if self.unravelled else vector)
        self.out.line(f"const int64_t {position} = {lanes.value};")
        self.env[vector] = position
        if self.unravelled:
            for axis, text in unravel(position, self.unravelled).items():
                self.env[axis] = self.names.new(axis)
                self.out.line(f"const int64_t {self.env[axis]} = {text};")

    def _print_without_items(self) -> None:
        shares_its_loop = self.schedule.mode is Mode.MAP and self.schedule.threaded
        if self.in_region and not shares_its_loop:
            self.out.line("#pragma omp single nowait")
        with self.block(""):
            self._item("")

    def _pragma(self, loops: int) -> None:
        collapse = f" collapse({loops})" if loops > 1 else ""
        if self.in_region:
            text = f"for{collapse} schedule(static) nowait" if self.schedule.threaded else "single nowait"
            self.out.line(f"#pragma omp {text}")
        elif self.schedule.threaded:
            work = self.schedule.work
            condition = "" if isinstance(work, int) else f" if ({dim_text(work)} > {PARALLEL_COST})"
            self.out.line(f"#pragma omp parallel for{collapse} schedule(static){condition}")

    def _open_items(self, items: Sequence[object], blocked: bool) -> None:
        axes = item_axes(self.nest, self.schedule)
        depth = len(axes) - len(items)
        if depth < len(axes):
            axis = axes[depth]
            variable = self.names.new(axis.name)
            self.env[axis.name] = variable
            extent = dim_text(axis.extent)
            with self.block(f"for (int64_t {variable} = 0; {variable} < {extent}; ++{variable})"):
                self._open_items(items[1:], blocked)
        elif blocked:
            vector = self.schedule.vector
            assert vector is not None
            if self.schedule.turn is not None:
                with self._block_loop(self.schedule.turn, TURN_ROWS) as turn:
                    with self._block_loop(vector, TURN_LANES) as start:
                        self._turned_tile(turn, start)
                return
            with self._block_loop(vector, self.schedule.block) as start:
                self._item(start)
        else:
            self._item("")

    @contextmanager
    def _block_loop(self, axis: str, block: int) -> Iterator[str]:
        """A loop over blocks of an axis; gives the name of the block's start."""
        start = self.names.new(f"{axis}_start")
        extent = dim_text(extent_of(self.nest, axis))
        with self.block(f"for (int64_t {start} = 0; {start} < {extent}; {start} += {block})"):
            yield start

    def _turned_tile(self, turn_start: str, start: str) -> None:
        """One tile of a map whose turned loads are transposed in cache first."""
        vector, turn = self.schedule.vector, self.schedule.turn
        assert vector is not None and turn is not None
        with self.scope():
            lanes = self._block_lanes(start, extent_of(self.nest, vector), TURN_LANES)
            rows = self._block_count(turn_start, extent_of(self.nest, turn), TURN_ROWS)
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
                self._outer(0, lanes)

    def _item(self, start: str) -> None:
        """All passes for one item (and one block of the vector axis, which begins at `start`)."""
        with self.scope():
            lanes = self._lanes(start)
            self._declare_scratch()
            self._outer(0, lanes)
            for number in range(self.passes):
                if self.schedule.mode is Mode.ROWS:
                    self._row_pass(number)
                else:
                    assert lanes is not None
                    self._column_pass(number, lanes)
                self._outer(number + 1, lanes)

    def _lanes(self, start: str) -> Lanes | None:
        """The lane loop of maps and columns; rows make their own in each pass."""
        vector = self.schedule.vector
        if vector is None or self.schedule.mode is Mode.ROWS:
            return None
        extent = extent_of(self.nest, vector)
        if not start:
            variable = self.names.new(vector)
            return Lanes(variable, dim_text(extent), variable, "0")
        return self._block_lanes(start, extent, self.schedule.block)

    def _block_lanes(self, start: str, extent: Dim, block: int) -> Lanes:
        lane = self.names.new("lane")
        return Lanes(lane, self._block_count(start, extent, block), f"{start} + {lane}", start)

    def _block_count(self, start: str, extent: Dim, block: int) -> str:
        """The elements of the block that begins at `start`: all, or what is left."""
        if isinstance(extent, int) and extent % block == 0:
            return str(block)
        count = self.names.new("count")
        self.out.line(f"const int64_t {count} = gc_min_of<int64_t>({block}, {dim_text(extent)} - {start});")
        return count

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
            self.out.line(f"char* {arena} = gc_scratch({dim_text(nbytes)} + {64 * len(kept)});")
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

    # Outer scalars: known once an item, or once a lane of a block

    def _outer(self, phase: int, lanes: Lanes | None) -> None:
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
        stores = [s for s in self.stores if not self._is_inner(s) and self.analysis.phase_of(s) == phase]
        for store in stores:
            if not self._is_lane_store(store):
                self.store(store)
        lane_stores = [s for s in stores if self._is_lane_store(s)]
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
                    if self._is_inner(statement):
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
        with self._lane_loop(lanes, roots, stores):
            for statement in kept:
                self.out.line(f"{arrays[statement.name]}[{lanes.variable}] = {self.env[statement.name]};")
        for name, array in arrays.items():
            self.env[name] = f"{array}[{lanes.variable}]"

    @contextmanager
    def _lane_loop(self, lanes: Lanes, roots: Sequence[str], stores: Sequence[Store]) -> Iterator[None]:
        """A simd loop that computes `roots` and does `stores`; the caller adds more inside."""
        wanted = self.needed(roots)
        self.hoist_guards([*(self.analysis.definitions[name] for name in sorted(wanted)), *stores])
        if lanes.value == lanes.variable:
            self._widen_loads(wanted, lanes.variable)
        tiles = self._declare_tiles(stores, lanes)
        self.out.line(self._simd_pragma(lanes))
        v = lanes.variable
        with self.scope(), self.block(f"for (int64_t {v} = 0; {v} < {lanes.count}; ++{v})"):
            self._define_vector(lanes)
            self.define(self.needed(roots))
            for store in stores:
                if store.buffer in tiles:
                    self.out.line(f"{tiles[store.buffer][0]}[{v}] = {self.env[store.value]};")
                else:
                    self.store(store)
            yield
        for store in stores:
            if store.buffer in tiles:
                tile, copy = tiles[store.buffer]
                self.out.line(f"{copy}({self._start_of(store, lanes.start)}, {tile}, {lanes.count});")

    def _start_of(self, access: Load | Store, start: str) -> str:
        """The address of an access where the vector axis begins."""
        vector = self.schedule.vector
        assert vector is not None
        index = affine_text(access.index[0], {**self.env, vector: start})
        return f"{self.buffers[access.buffer]} + {index}"

    def _is_short(self) -> bool:
        """True when a loop over the vector axis is too short to be filled by vectors of one-byte elements."""
        vector = self.schedule.vector
        extent = extent_of(self.nest, vector) if vector is not None else 0
        return isinstance(extent, int) and extent < 64

    def _is_narrow(self, access: Load | Store) -> bool:
        """True for contiguous access to elements of one or two bytes, which would bound the lanes of a short loop."""
        dtype = self.analysis.definitions[access.value if isinstance(access, Store) else access.name].dtype
        small = dtype.itemsize < 4 and not dtype.is_float and not access.guards
        return small and self.schedule.vector is not None and access.index[0].stride(self.schedule.vector) == 1

    def _widen_loads(self, wanted: Iterable[str], lane: str) -> None:
        """Copy what short loops read in bytes to four-byte elements first."""
        vector = self.schedule.vector
        if vector is None or not self._is_short():
            return
        chosen = set(wanted)
        for load in self.nest.body:
            if not isinstance(load, Load) or load.name not in chosen or not self._is_narrow(load):
                continue
            if all(variable in self.env or variable == vector for variable in load.index[0].variables):
                extent = dim_text(extent_of(self.nest, vector))
                tile = self.names.new(f"{load.name}_wide")
                self.out.line(f"alignas(64) int32_t {tile}[{extent}];")
                self.out.line(f"gc_copy({tile}, {self._start_of(load, '0')}, {extent});")
                self.env[load.name] = f"{tile}[{lane}]"

    def _simd_pragma(self, lanes: Lanes) -> str:
        """A plain one-dimensional map shares its only loop out to threads."""
        whole = self.schedule.mode is Mode.MAP and lanes.start == "0" and not item_axes(self.nest, self.schedule)
        if not whole or not self.schedule.threaded:
            return "#pragma omp simd"
        if self.in_region:
            return "#pragma omp for simd schedule(static) nowait"
        work = self.schedule.work
        condition = "" if isinstance(work, int) else f" if ({dim_text(work)} > {PARALLEL_COST})"
        return f"#pragma omp parallel for simd schedule(static){condition}"

    def _declare_tiles(self, stores: Sequence[Store], lanes: Lanes) -> dict[str, tuple[str, str]]:
        """(local tile, function that copies it out) of the stores that do not go to memory at once."""
        tiles: dict[str, tuple[str, str]] = {}
        for store in stores:
            blocked = lanes.value != lanes.variable
            if blocked and store.buffer in self.schedule.streams:
                kind, copy = "float", "gc_stream"
            elif not blocked and self._is_short() and self._is_narrow(store):
                kind, copy = "int32_t", "gc_copy"
            else:
                continue
            tiles[store.buffer] = self.names.new(f"{store.buffer}_tile"), copy
            size = lanes.count if lanes.count.isdigit() else str(self._tile_size())
            self.out.line(f"alignas(64) {kind} {tiles[store.buffer][0]}[{size}];")
        return tiles

    def _tile_size(self) -> int:
        return STREAM_TILE if self.schedule.mode is Mode.ROWS else self.schedule.block

    def store(self, store: Store) -> None:
        self.define(self.needed(self.analysis.reads(store)))
        self.comment(store.origins)
        target = f"{self.buffers[store.buffer]}[{affine_text(store.index[0], self.env)}]"
        prefix = f"if ({self.condition(store.guards)}) " if store.guards else ""
        self.out.line(f"{prefix}{target} = {self.env[store.value]};")

    # Passes over the reduction axes

    def _pass_work(self, number: int) -> tuple[list[Reduce], list[Store], list[str]]:
        """(reduces, stores, inner values to keep) of a pass."""
        reduces = [r for r in self.reduces if self.analysis.phase[r.name] == number + 1]
        stores = [s for s in self.stores if self._is_inner(s) and self.analysis.phase_of(s) == number]
        kept = [name for name in self.scratch if self.analysis.phase[name] == number]
        return reduces, stores, kept

    def _declare_accumulators(self, reduces: Sequence[Reduce], block: int) -> None:
        """Arrays of accumulators, one element a lane, set to the identity."""
        for reduce in reduces:
            dtype = self._argument_dtype(reduce)
            arrays = [self.names.new(f"{reduce.name}_lanes")]
            c = LANE_TYPES[dtype]
            self.out.line(f"alignas(64) {c} {arrays[0]}[{block}];")
            self.out.line(f"gc_fill({arrays[0]}, {fold(reduce.operation, dtype).identity});")
            if reduce.operation in _ARGS:
                arrays.append(self.names.new(f"{reduce.name}_at"))
                self.out.line(f"alignas(64) {self._position_type()} {arrays[1]}[{block}];")
                self.out.line(f"gc_fill({arrays[1]}, 0);")
            self.accumulators[reduce.name] = tuple(arrays)

    def _argument_dtype(self, reduce: Reduce) -> DType:
        return reduce.dtype if reduce.operation not in _ARGS else self.analysis.definitions[reduce.argument].dtype

    def _position_type(self) -> str:
        points = product(axis.extent for axis in self.nest.reductions)
        return "int32_t" if isinstance(points, int) and points < 2**31 else "int64_t"

    def _position(self) -> str:
        """The row-major number of the current point of the reduction axes."""
        index, running = Affine(), 1
        total: Dim = running
        for axis in reversed(self.nest.reductions):
            index = index + Affine.axis(axis.name, total)
            total = product((total, axis.extent))
        return affine_text(index, self.env)

    def _accumulate(self, reduce: Reduce, lane: str) -> None:
        """Join the reduce's argument at this point into its lane."""
        self.comment(reduce.origins)
        arrays = self.accumulators[reduce.name]
        value = self.env[reduce.argument]
        first = f"{arrays[0]}[{lane}]"
        dtype = self._argument_dtype(reduce)
        if reduce.operation in _ARGS:
            better = self.names.new(f"{reduce.name}_better")
            sign = ">" if reduce.operation is Reduction.ARGMAX else "<"
            nan = f" | (({value} != {value}) & ({first} == {first}))" if dtype.is_float else ""
            self.out.line(f"const bool {better} = ({value} {sign} {first}){nan};")
            at = f"{arrays[1]}[{lane}]"
            self.out.line(f"{first} = {better} ? {value} : {first};")
            self.out.line(f"{at} = {better} ? ({self._position_type()})({self._position()}) : {at};")
        else:
            self.out.line(f"{first} = {fold(reduce.operation, dtype).join.format(first, value)};")

    @contextmanager
    def _row_loops(self) -> Iterator[None]:
        """The reduction axes except the vector axis."""
        axes = [axis for axis in self.nest.reductions if axis.name != self.schedule.vector]
        with self.scope():
            managers = []
            for axis in axes:
                variable = self.names.new(axis.name)
                self.env[axis.name] = variable
                extent = dim_text(axis.extent)
                manager = self.block(f"for (int64_t {variable} = 0; {variable} < {extent}; ++{variable})")
                manager.__enter__()
                managers.append(manager)
            yield
            for manager in reversed(managers):
                manager.__exit__(None, None, None)

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
        reduces, stores, kept = self._pass_work(number)
        self._declare_accumulators(reduces, self.schedule.block)
        roots = self._roots(reduces, stores, kept)
        with self._row_loops():
            self._load_kept(number, lanes.variable)
            self._row_scalars(roots)
            with self._lane_loop(lanes, roots, stores):
                self._save_kept(kept, lanes.variable)
                for reduce in reduces:
                    self._accumulate(reduce, lanes.variable)
        for reduce in reduces:
            array = self.accumulators[reduce.name][-1]
            cast = f"({TYPES[reduce.dtype]})" if reduce.operation in _ARGS else ""
            self.env[reduce.name] = f"{cast}{array}[{lanes.variable}]"

    def _load_kept(self, number: int, lane: str) -> None:
        """Make the values that earlier passes kept known at the current point."""
        for name, array in self.scratch.items():
            if self.analysis.phase[name] < number:
                self.env[name] = f"{array}[{self._kept_index(lane)}]"

    def _save_kept(self, kept: Sequence[str], lane: str) -> None:
        for name in kept:
            self.out.line(f"{self.scratch[name]}[{self._kept_index(lane)}] = {self.env[name]};")

    def _row_pass(self, number: int) -> None:
        """One pass along rows: lanes of accumulators that are folded at the end."""
        reduces, stores, kept = self._pass_work(number)
        roots = self._roots(reduces, stores, kept)
        block = self._row_block(roots)
        self._declare_accumulators(reduces, block)
        with self._row_loops():
            self._row_scalars(roots)
            if reduces:
                self._row_reduction(number, block, roots, reduces, stores, kept)
            else:
                self._row_map(number, roots, stores, kept)
        for reduce in reduces:
            self._fold(reduce)

    def _row_block(self, roots: Sequence[str]) -> int:
        """Accumulators of a pass along rows: no more than a short row needs."""
        vector = self.schedule.vector
        assert vector is not None
        extent = extent_of(self.nest, vector)
        block = row_lanes([self.analysis.definitions[name] for name in self.needed(roots)], self.schedule.block)
        return min(block, 1 << (extent - 1).bit_length()) if isinstance(extent, int) and extent > 0 else block

    def _fold(self, reduce: Reduce) -> None:
        arrays = self.accumulators[reduce.name]
        name = self.names.new(reduce.name)
        c = TYPES[reduce.dtype]
        if reduce.operation in _ARGS:
            call = f"gc_fold_{reduce.operation.value}({arrays[0]}, {arrays[1]})"
        else:
            join = fold(reduce.operation, reduce.dtype).join.format("a", "b")
            lane = LANE_TYPES[reduce.dtype]
            call = f"gc_fold({arrays[0]}, []({lane} a, {lane} b) {{ return {join}; }})"
        self.out.line(f"const {c} {name} = {call};")
        self.env[reduce.name] = name

    def _row_map(self, number: int, roots: list[str], stores: Sequence[Store], kept: Sequence[str]) -> None:
        """A pass without reductions: stores, or values for a later pass."""
        vector = self.schedule.vector
        assert vector is not None
        extent = extent_of(self.nest, vector)
        if any(store.buffer in self.schedule.streams for store in stores):
            start = self.names.new(f"{vector}_start")
            header = f"for (int64_t {start} = 0; {start} < {dim_text(extent)}; {start} += {STREAM_TILE})"
            with self.block(header):
                self._row_lanes(number, self._block_lanes(start, extent, STREAM_TILE), roots, stores, kept)
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
            with self._lane_loop(lanes, roots, stores):
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
        self._widen_loads(wanted, variable)
        head = f"gc_for_lanes<{block}>({extent}, [&](int64_t {variable}, int64_t {lane}) GC_LAMBDA_INLINE"
        with self.scope(), self.block(head, end="});"):
            self.env[vector] = variable
            self._load_kept(number, lane)
            self.define(self.needed(roots))
            self._save_kept(kept, lane)
            for store in stores:
                self.store(store)
            for reduce in reduces:
                self._accumulate(reduce, lane)


def unravel(position: str, axes: Sequence[Axis]) -> dict[str, str]:
    """The axes' values at a row-major number."""
    texts: dict[str, str] = {}
    stride: Dim = 1
    for place, axis in reversed(list(enumerate(axes))):
        text = position if stride == 1 else f"{position} / {dim_factor(stride)}"
        texts[axis.name] = text if place == 0 else f"{text} % {dim_factor(axis.extent)}"
        stride = product((stride, axis.extent))
    return dict(reversed(texts.items()))


def lane_bytes(statement: Definition) -> int:
    """Bytes of one element in an array of lanes."""
    return 4 if statement.dtype is DType.BOOL else statement.dtype.itemsize


def _guard_key(guard: Guard) -> str:
    return f"guard {guard!r}"
