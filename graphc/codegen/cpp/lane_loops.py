"""Loops over the vector axis: blocks, local tiles for streamed and narrow data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from graphc.codegen.cpp.expressions import (
    LANE_TYPES,
    affine_text,
    cast_text,
    dim_factor,
    dim_text,
    guard_text,
)
from graphc.codegen.cpp.row_tiles import TILE_TYPES
from graphc.codegen.cpp.scalars import ANCHOR, guard_key
from graphc.codegen.cpp.schedule import HALVES, PARALLEL_COST, Mode, extent_of, is_rounded, item_axes
from graphc.codegen.cpp.stages import stages
from graphc.codegen.cpp.turned_rows import TurnedRowPrinter
from graphc.codegen.cpp.writer import Lanes
from graphc.ir.kernel import Affine, Axis, Compute, Guard, Load, Store
from graphc.types import Dim, DType, product

SIMD = "#pragma omp simd"


class LaneLoopPrinter(TurnedRowPrinter):
    """Prints `omp simd` loops over the vector axis, or over a block of it."""

    @contextmanager
    def block_loop(self, axis: str, block: int) -> Iterator[str]:
        """A loop over blocks of an axis; gives the name of the block's start."""
        start = self.names.new(f"{axis}_start")
        extent = dim_text(extent_of(self.nest, axis))
        with self.block(f"for (int64_t {start} = 0; {start} < {extent}; {start} += {block})"):
            yield start

    def block_lanes(self, start: str, extent: Dim, block: int) -> Lanes:
        lane = self.names.new("lane")
        return Lanes(lane, self.block_count(start, extent, block), f"{start} + {lane}", start)

    def block_count(self, start: str, extent: Dim, block: int) -> str:
        """The elements of the block that begins at `start`: all, or what is left."""
        if isinstance(extent, int) and (extent % block == 0 or 0 < extent < block):
            return str(min(extent, block))
        count = self.names.new("count")
        self.out.line(f"const int64_t {count} = gc_min_of<int64_t>({block}, {dim_text(extent)} - {start});")
        return count

    def define_vector(self, lanes: Lanes) -> None:
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

    @contextmanager
    def lane_loop(self, lanes: Lanes, roots: Sequence[str], stores: Sequence[Store]) -> Iterator[None]:
        """A simd loop that computes `roots` and does `stores`; the caller adds more inside."""
        wanted = self.needed(roots)
        self.hoist_guards([*(self.analysis.definitions[name] for name in sorted(wanted)), *stores])
        count = lanes.count
        if lanes.value == lanes.variable:
            if not self.unravelled and lanes.start == "0" and self._simd_pragma(lanes) == SIMD:
                lanes = self.fill_rows(roots, stores, lanes)
                wanted = self.needed(roots)
            self.widen_loads(wanted, lanes.variable)
        else:
            self._convert_loads(wanted, lanes)
            self._early_stages(self.needed(roots), lanes)
            wanted = self.needed(roots)
        if (streams := self.streams_of(stores, lanes)) and not self._strided_guards(wanted):
            with self._stream_loop(lanes, roots, stores, streams):
                yield
            return
        tiles = self._declare_tiles(stores, lanes, rounded=lanes.count != count)
        v = lanes.variable
        with self.scope(), self._open_lanes(lanes, wanted):
            self._lane_work(
                lanes, roots, stores, {number: f"{tile}[{v}]" for number, (tile, _) in tiles.items()}
            )
            yield
        for number, (tile, copy) in tiles.items():
            self.out.line(f"{copy}({self.start_of(stores[number], lanes.start)}, {tile}, {count});")

    @contextmanager
    def _stream_loop(
        self, lanes: Lanes, roots: Sequence[str], stores: Sequence[Store], streams: Mapping[int, int]
    ) -> Iterator[None]:
        """The loop where some of the stores, with their places among its tiles, go past the cache."""
        slot, tiles = self.names.new("slot"), self.names.new("tiles")
        past = [stores[number] for number in streams]
        with self.scope(), self.open_streams(lanes, past, slot, tiles):
            self._lane_work(lanes, roots, stores, {n: f"{tiles}[{at}][{slot}]" for n, at in streams.items()})
            yield

    def _lane_work(
        self, lanes: Lanes, roots: Sequence[str], stores: Sequence[Store], places: Mapping[int, str]
    ) -> None:
        """What one lane computes and stores, some of it in `places` of local tiles."""
        self.define_vector(lanes)
        self.define(self.needed(roots))
        for number, store in enumerate(stores):
            if number in places:
                self.out.line(f"{places[number]} = {self._in_tile(store)};")
            else:
                self.store(store)

    @contextmanager
    def _open_lanes(self, lanes: Lanes, wanted: Iterable[str]) -> Iterator[None]:
        """The loop's header; guards of strided loads, which no masked vector load serves, split it in three parts."""
        v = lanes.variable
        guards = self._strided_guards(wanted)
        pragma = self._simd_pragma(lanes)
        if not guards or self.unravelled or pragma != SIMD:
            self.out.line(pragma)
            with self.block(f"for (int64_t {v} = 0; {v} < {lanes.count}; ++{v})"):
                yield
            return
        first, last = self.names.new("first"), self.names.new("last")
        shift = "" if lanes.start == "0" else f" - {lanes.start}"
        self.out.line(f"int64_t {first} = 0, {last} = {lanes.count};")
        for guard in guards:
            low, high = self._guard_range(guard)
            self.out.line(f"{first} = gc_max_of<int64_t>({first}, {low}{shift});")
            self.out.line(f"{last} = gc_min_of<int64_t>({last}, {high}{shift});")
        whole = list(dict.fromkeys(self.env[key] for key in self._loop_guards(wanted)))
        for condition in whole:
            self.out.line(f"{last} = {condition} ? {last} : 0;")
        part = self.names.new("part")
        header = (
            f"gc_for_parts({lanes.count}, {first}, {last}, [&](int64_t {v}, auto {part}) GC_LAMBDA_INLINE"
        )
        with self.block(header, end="});"):
            vector = self.schedule.vector
            assert vector is not None
            place = {**self.env, vector: lanes.value if lanes.value == v else f"({lanes.value})"}
            for key in self._loop_guards(wanted):
                self.env[key] = f"({part}.inside | {self.env[key]})"
            for guard in guards:
                self.env[guard_key(guard)] = f"({part}.inside | ({guard_text(guard, place)}))"
            yield

    def _guards_of_strided(self, wanted: Iterable[str]) -> list[Guard]:
        """The guards of loads that are not contiguous along the lanes."""
        vector, chosen = self.schedule.vector, set(wanted)
        found: dict[Guard, None] = {}
        for load in self.nest.body:
            if vector is None or not isinstance(load, Load) or load.name not in chosen:
                continue
            if load.index[0].stride(vector) not in (0, 1):
                found |= dict.fromkeys(load.guards)
        return list(found)

    def _strided_guards(self, wanted: Iterable[str]) -> list[Guard]:
        """Those of them that change along the lanes, and bound a range of lanes."""
        vector = self.schedule.vector
        found = []
        for guard in self._guards_of_strided(wanted):
            stride = guard.expression.stride(vector) if vector is not None else 0
            known = all(name in self.env or name == vector for name in guard.expression.variables)
            if isinstance(stride, int) and stride != 0 and known:
                found.append(guard)
        return found

    def _loop_guards(self, wanted: Iterable[str]) -> list[str]:
        """Keys of those that hold for a whole loop or for none of it."""
        return [key for guard in self._guards_of_strided(wanted) if (key := guard_key(guard)) in self.env]

    def _guard_range(self, guard: Guard) -> tuple[str, str]:
        """From where and up to where along the vector axis a guard holds."""
        vector = self.schedule.vector
        assert vector is not None
        stride = guard.expression.stride(vector)
        assert isinstance(stride, int)
        rest = affine_text(guard.expression.substitute({vector: Affine()}), self.env)
        low, high = (f"{dim_factor(bound)} - ({rest})" for bound in (guard.low, guard.high))
        if stride > 0:
            return f"-gc_floor_div(-({low}), {stride})", f"-gc_floor_div(-({high}), {stride})"
        return f"gc_floor_div(-({high}), {-stride}) + 1", f"gc_floor_div(-({low}), {-stride}) + 1"

    def _simd_pragma(self, lanes: Lanes) -> str:
        """A plain one-dimensional map shares its only loop out to threads."""
        whole = (
            self.schedule.mode is Mode.MAP and lanes.start == "0" and not item_axes(self.nest, self.schedule)
        )
        if not whole or not self.schedule.threaded:
            return SIMD
        if self.in_region:
            return "#pragma omp for simd schedule(static) nowait"
        work = self.schedule.work
        condition = "" if isinstance(work, int) else f" if ({dim_text(work)} > {PARALLEL_COST})"
        return f"#pragma omp parallel for simd schedule(static){condition}"

    def is_short(self) -> bool:
        """True when a loop over the vector axis is too short to be filled by vectors of one-byte elements."""
        vector = self.schedule.vector
        extent = extent_of(self.nest, vector) if vector is not None else 0
        return isinstance(extent, int) and extent < 64

    def _is_narrow(self, access: Load | Store) -> bool:
        """True for contiguous access to elements of one or two bytes, which would bound the lanes of a short loop."""
        dtype = self.analysis.definitions[access.value if isinstance(access, Store) else access.name].dtype
        small = dtype.itemsize < 4 and not dtype.is_float and not access.guards
        return (
            small and self.schedule.vector is not None and access.index[0].stride(self.schedule.vector) == 1
        )

    def widen_loads(self, wanted: Iterable[str], lane: str) -> None:
        """Copy what short loops read in bytes to four-byte elements first."""
        vector = self.schedule.vector
        if vector is None or not self.is_short():
            return
        chosen = set(wanted)
        for load in self.nest.body:
            if not isinstance(load, Load) or load.name not in chosen or not self._is_narrow(load):
                continue
            if all(variable in self.env or variable == vector for variable in load.index[0].variables):
                extent = dim_text(extent_of(self.nest, vector))
                tile = self.names.new(f"{load.name}_wide")
                self.out.line(f"alignas(64) int32_t {tile}[{extent}];")
                self.out.line(f"gc_copy({tile}, {self.start_of(load, '0')}, {extent});")
                self.env[load.name] = self.from_tile(load, f"{tile}[{lane}]")

    def _early_stages(self, wanted: Iterable[str], lanes: Lanes) -> None:
        """Loops of a long map before its last one: what later ones read lies in tiles."""
        if self.schedule.mode is not Mode.MAP or self.unravelled or ANCHOR in self.env:
            return
        inside = [name for name in wanted if self.lane_level[name]]
        for names in stages(self.nest, self.analysis, inside):
            tiles = {}
            for name in names:
                tiles[name] = self.names.new(f"{name}_tile")
                kind = LANE_TYPES[self.analysis.definitions[name].dtype]
                self.out.line(f"alignas(64) {kind} {tiles[name]}[{self._tile_size()}];")
            self.out.line(SIMD)
            v = lanes.variable
            with self.scope(), self.block(f"for (int64_t {v} = 0; {v} < {lanes.count}; ++{v})"):
                self.define_vector(lanes)
                self.define(self.needed(names))
                for name in names:
                    self.out.line(f"{tiles[name]}[{v}] = {self.env[name]};")
            for name in names:
                self.env[name] = f"{tiles[name]}[{v}]"

    def converts(self, roots: Sequence[str], stores: Sequence[Store]) -> bool:
        """True where a pass reads or writes f16 in contiguous runs."""
        wanted = self.needed(roots)
        loads = [s for s in self.nest.body if isinstance(s, Load) and s.name in wanted]
        return any(map(self._is_half, loads)) or any(map(self._narrows, stores))

    def _is_half(self, load: Load) -> bool:
        """True for f16 in contiguous runs that is only computed with as another type."""
        vector = self.schedule.vector
        plain = vector is not None and not load.guards and load.index[0].stride(vector) == 1
        return plain and load.dtype is DType.F16 and self.is_inlined(load)

    def _narrows(self, store: Store) -> bool:
        """True for a store of contiguous runs that are rounded to f16."""
        vector = self.schedule.vector
        plain = vector is not None and not store.guards and store.index[0].stride(vector) == 1
        rounded = self.analysis.definitions[store.value].dtype is DType.F16 and is_rounded(self.nest, store)
        return plain and rounded and ANCHOR not in self.env

    def _convert_loads(self, wanted: Iterable[str], lanes: Lanes) -> None:
        """Copy a block of f16 to a tile of floats, which what is computed from it reads."""
        chosen = set(wanted)
        for load in self.nest.body:
            if not isinstance(load, Load) or load.name not in chosen or not self._is_half(load):
                continue
            known = all(v in self.env or v == self.schedule.vector for v in load.index[0].variables)
            if not known or ANCHOR in self.env:
                continue
            tile = self.names.new(f"{load.name}_tile")
            size = lanes.count if lanes.count.isdigit() else str(self._tile_size())
            self.out.line(f"alignas(64) float {tile}[{size}];")
            self.out.line(f"gc_widen({tile}, {self.start_of(load, lanes.start)}, {lanes.count});")
            for reader in self.nest.body:
                if isinstance(reader, Compute) and reader.arguments == (load.name,):
                    element = f"{tile}[{lanes.variable}]"
                    self.env[reader.name] = cast_text(DType.F32, reader.dtype, element)

    def _in_tile(self, store: Store) -> str:
        """A store's value as its tile holds it: floats that are rounded to 16 bits later."""
        value = self.analysis.definitions[store.value]
        if value.dtype not in HALVES:
            return self.env[store.value]
        assert isinstance(value, Compute)
        source = self.analysis.definitions[value.arguments[0]]
        if source.name in self.env:
            return cast_text(source.dtype, DType.F32, self.env[source.name])
        return f"gc_to_f32({self.env[store.value]})"

    def _declare_tiles(
        self, stores: Sequence[Store], lanes: Lanes, rounded: bool
    ) -> dict[int, tuple[str, str]]:
        """(local tile, function that copies it out) of the stores, by number, that do not go to memory at once."""
        tiles: dict[int, tuple[str, str]] = {}
        for number, store in enumerate(stores):
            blocked = lanes.value != lanes.variable
            if blocked and store.buffer in self.schedule.streams:
                kind, copy = "float", "gc_stream"
            elif blocked and self._narrows(store):
                kind, copy = "float", "gc_narrow"
            elif not blocked and (rounded or (self.is_short() and self._is_narrow(store))):
                kind = TILE_TYPES[self.analysis.definitions[store.value].dtype]
                copy = "gc_copy"
            else:
                continue
            tiles[number] = self.names.new(f"{store.buffer}_tile"), copy
            size = lanes.count if lanes.count.isdigit() else str(self._tile_size())
            self.out.line(f"alignas(64) {kind} {tiles[number][0]}[{size}];")
        return tiles

    def _tile_size(self) -> int:
        return self.schedule.tile if self.schedule.mode is Mode.ROWS else self.schedule.block


def unravel(position: str, axes: Sequence[Axis]) -> dict[str, str]:
    """The axes' values at a row-major number."""
    texts: dict[str, str] = {}
    stride: Dim = 1
    for place, axis in reversed(list(enumerate(axes))):
        text = position if stride == 1 else f"{position} / {dim_factor(stride)}"
        texts[axis.name] = text if place == 0 else f"{text} % {dim_factor(axis.extent)}"
        stride = product((stride, axis.extent))
    return dict(reversed(texts.items()))
