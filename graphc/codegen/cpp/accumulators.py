"""Accumulators of reductions: arrays with an element a lane, joined when a pass ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from graphc.codegen.cpp.expressions import LANE_TYPES, TYPES, Names, affine_text, dim_text, fold
from graphc.codegen.cpp.lane_loops import LaneLoopPrinter
from graphc.codegen.cpp.schedule import Schedule
from graphc.codegen.cpp.writer import Lanes, Writer
from graphc.ir.kernel import Affine, Axis, Load, Nest, Reduce, Reduction
from graphc.types import Dim, DType, product

CASCADE_ROWS = 64  # rows that a column of a long sum adds up before it joins them to its total
POSITIONS = (Reduction.ARGMAX, Reduction.ARGMIN)
_SEARCHES = {Reduction.MAX: Reduction.ARGMAX, Reduction.MIN: Reduction.ARGMIN}


class AccumulatorPrinter(LaneLoopPrinter):
    """Declares, fills and joins the accumulators of a pass; `accumulators` names those of each reduce."""

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
        self.reduces = [s for s in nest.body if isinstance(s, Reduce)]
        self.accumulators: dict[str, tuple[str, ...]] = {}

    def declare_accumulators(self, reduces: Sequence[Reduce], block: int) -> None:
        """Arrays of accumulators, one element a lane, set to the identity."""
        for reduce in sorted(reduces, key=lambda reduce: reduce.operation not in POSITIONS):
            dtype = self._argument_dtype(reduce)
            twin = self._twin(reduce, reduces)
            if twin is not None:
                self.accumulators[reduce.name] = self.accumulators[twin.name][:1]
                continue
            arrays = [self.names.new(f"{reduce.name}_lanes")]
            c = LANE_TYPES[dtype]
            self.out.line(f"alignas(64) {c} {arrays[0]}[{block}];")
            self.out.line(f"gc_fill({arrays[0]}, {fold(reduce.operation, dtype).identity});")
            if reduce.operation in POSITIONS:
                arrays.append(self.names.new(f"{reduce.name}_at"))
                self.out.line(f"alignas(64) {self._position_type()} {arrays[1]}[{block}];")
                self.out.line(f"gc_fill({arrays[1]}, 0);")
            self.accumulators[reduce.name] = tuple(arrays)

    def _twin(self, reduce: Reduce, reduces: Sequence[Reduce]) -> Reduce | None:
        """The search for a position that finds this maximum or minimum on its way."""
        search = _SEARCHES.get(reduce.operation)
        found = (r for r in reduces if r.operation is search and r.argument == reduce.argument)
        return next(found, None)

    def _argument_dtype(self, reduce: Reduce) -> DType:
        return (
            reduce.dtype
            if reduce.operation not in POSITIONS
            else self.analysis.definitions[reduce.argument].dtype
        )

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

    def accumulate_all(self, reduces: Sequence[Reduce], lane: str) -> None:
        for reduce in reduces:
            if self._twin(reduce, reduces) is None:
                self._accumulate(reduce, lane)

    def _accumulate(self, reduce: Reduce, lane: str) -> None:
        """Join the reduce's argument at this point into its lane."""
        self.comment(reduce.origins)
        arrays = self.accumulators[reduce.name]
        value = self.env[reduce.argument]
        first = f"{arrays[0]}[{lane}]"
        dtype = self._argument_dtype(reduce)
        if reduce.operation in POSITIONS:
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
    def cascade(self, reduces: Sequence[Reduce]) -> Iterator[tuple[str, str] | None]:
        """Long float sums in two levels, a few rows at a time: rounding errors grow with the root of their number."""
        axis = self.cascades(reduces)
        if axis is None:
            yield None
            return
        sums = [r for r in reduces if r.operation is Reduction.SUM and r.dtype.is_float]
        start = self.names.new(f"{axis.name}_start")
        extent = dim_text(axis.extent)
        totals = {reduce.name: self.accumulators[reduce.name] for reduce in sums}
        with self.block(f"for (int64_t {start} = 0; {start} < {extent}; {start} += {CASCADE_ROWS})"):
            stop = self.names.new(f"{axis.name}_stop")
            self.out.line(f"const int64_t {stop} = gc_min_of<int64_t>({extent}, {start} + {CASCADE_ROWS});")
            for reduce in sums:
                part = self.names.new(f"{reduce.name}_part")
                self.out.line(f"alignas(64) {TYPES[reduce.dtype]} {part}[{self.schedule.block}];")
                self.out.line(f"gc_fill({part}, 0);")
                self.accumulators[reduce.name] = (part,)
            yield start, stop
            for reduce in sums:
                (total,), (part,) = totals[reduce.name], self.accumulators[reduce.name]
                self.out.line(f"gc_add_lanes({total}, {part});")
        self.accumulators |= totals

    def cascades(self, reduces: Sequence[Reduce]) -> Axis | None:
        """The axis along which there are such sums."""
        axis = next((axis for axis in self.nest.reductions if axis.name != self.schedule.vector), None)
        sums = any(r.operation is Reduction.SUM and r.dtype.is_float for r in reduces)
        short = axis is None or (isinstance(axis.extent, int) and axis.extent <= 2 * CASCADE_ROWS)
        return axis if sums and not short else None

    def declare_parts(self, reduces: Sequence[Reduce]) -> dict[str, str]:
        """Arrays for the lower level of such sums, by reduce."""
        parts = {}
        for reduce in reduces if self.cascades(reduces) else ():
            if reduce.operation is Reduction.SUM and reduce.dtype.is_float:
                parts[reduce.name] = self.names.new(f"{reduce.name}_part")
                self.out.line(
                    f"alignas(64) {TYPES[reduce.dtype]} {parts[reduce.name]}[{self.schedule.block}];"
                )
        return parts

    @contextmanager
    def part_of_cascade(self, parts: Mapping[str, str], start: str, stop: str) -> Iterator[None]:
        """Rows `start` to `stop` of such sums, a divisor of their lower level's rows at a time."""
        (axis,) = (axis for axis in self.nest.reductions if axis.name != self.schedule.vector)
        totals = {name: self.accumulators[name] for name in parts}
        for name, part in parts.items():
            self.out.line(f"if ({start} % {CASCADE_ROWS} == 0) gc_fill({part}, 0);")
            self.accumulators[name] = (part,)
        yield
        for name, part in parts.items():
            full = f"{stop} % {CASCADE_ROWS} == 0 || {stop} == {dim_text(axis.extent)}"
            self.out.line(f"if ({full}) gc_add_lanes({totals[name][0]}, {part});")
        self.accumulators |= totals

    def fetch_rows(self, loads: Sequence[Load], lanes: Lanes, axis: str) -> None:
        """The end of a loop over rows: what asks for elements of a later one."""
        vector = self.schedule.vector
        assert vector is not None
        with self.scope(), self.names.scope():
            row, lane, count = self.names.new(axis), self.names.new("lane"), self.names.new("count")
            at = lane if lanes.start == "0" else f"{lanes.start} + {lane}"
            known = {**self.env, axis: row, vector: at}
            calls = [
                f"gc_prefetch({self.buffers[load.buffer]} + {affine_text(load.index[0], known)}, {count});"
                for load in loads
            ]
            header = f"[&](int64_t {row}, int64_t {lane}, int64_t {count}) GC_LAMBDA_INLINE"
            with self.block(header, end="});"):
                for call in calls:
                    self.out.line(call)

    def fold_all(self, reduces: Sequence[Reduce]) -> None:
        """Join the lanes of each reduce: in place, so positions come before the maxima that share their lanes."""
        for reduce in sorted(reduces, key=lambda reduce: reduce.operation not in POSITIONS):
            self._fold(reduce)

    def _fold(self, reduce: Reduce) -> None:
        arrays = self.accumulators[reduce.name]
        name = self.names.new(reduce.name)
        c = TYPES[reduce.dtype]
        if reduce.operation in POSITIONS:
            call = f"gc_fold_{reduce.operation.value}({arrays[0]}, {arrays[1]})"
        else:
            join = fold(reduce.operation, reduce.dtype).join.format("a", "b")
            lane = LANE_TYPES[reduce.dtype]
            call = f"gc_fold({arrays[0]}, []({lane} a, {lane} b) {{ return {join}; }})"
        self.out.line(f"const {c} {name} = {call};")
        self.env[reduce.name] = name
