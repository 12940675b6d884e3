"""Decisions for one nest as plain data: which axis is the vector, what threads share, what stays in cache.

Three shapes of loop follow from the vector axis (the one along which most memory is contiguous):

    map      it is parallel, nothing is reduced         one pass
    rows     it is a reduction axis (softmax, norms)    lanes of accumulators, folded when the row ends
    columns  it is parallel, others are reduced         a block of accumulators kept in L1 while rows stream by

No decision depends on the number of threads, so results are the same bits on any of them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from graphc.codegen.cpp.costs import KEEP_COST, statement_cost
from graphc.codegen.cpp.narrow import narrow_comparisons
from graphc.codegen.cpp.nests import Analysis, analyse, merge_axes, prune_guards
from graphc.codegen.cpp.ranges import resolve, split_ranges
from graphc.codegen.cpp.short_rows import ROW_BLOCK, ShortRows, short_rows
from graphc.codegen.cpp.stages import stages
from graphc.codegen.cpp.target import CpuTarget
from graphc.codegen.cpp.unroll import interleaved_axes, unroll, unroll_window
from graphc.ir.kernel import (
    Affine,
    Axis,
    Compute,
    Kernel,
    Load,
    Nest,
    Reduce,
    Statement,
    Store,
)
from graphc.types import Dim, DType, dim_symbols, evaluate, product

# Vector additions that one thread does in the time that a parallel region takes (about 0.5 us idle, several when
# other programs compete), times ten: below that a region does not pay.
PARALLEL_COST = 150_000
UNKNOWN_EXTENT = 64  # stands for a symbolic dimension in cost comparisons
TURN_ROWS, TURN_LANES = (
    64,
    128,
)  # a tile that is transposed in cache: elements of the turned and of the vector axis
PREFETCH_ROW, PREFETCH_TENSOR = 2 << 10, 4 << 20  # bytes of rows and tensors that are worth fetching ahead
# Elements of the local tile that a non-temporal store is fed from, in maps and in the last pass over a row.
MAP_TILE, STREAM_TILE = 256, 1024
SHORT_RUN = 128  # elements
HALVES = (DType.F16, DType.BF16)


class Mode(enum.Enum):
    """The shape of the loops; see the module's docstring."""

    MAP = "map"
    ROWS = "rows"
    COLUMNS = "columns"


@dataclass(frozen=True, slots=True)
class Schedule:
    """How one nest runs.

    `block`: elements of a vector (rows), or elements of the vector axis handled at once (columns, blocked maps);
    0 for an unblocked map. `kept[p]`: inner values that pass p leaves in scratch for later ones. `streams`: buffers
    stored past the cache, from a local tile of `tile` elements in rows. `turned`: loads of a map that are contiguous
    along `turn` instead of the vector axis; they are transposed tile by tile. `short`: what goes along short rows,
    which are columns in cache. `work`: vector additions; `threaded`: whether they can pay for threads.
    """

    mode: Mode
    vector: str | None
    block: int
    kept: frozenset[str]
    streams: frozenset[str]
    work: Dim
    threaded: bool
    turn: str | None = None
    turned: frozenset[str] = frozenset()
    tile: int = STREAM_TILE
    short: ShortRows | None = None


def guess(dim: Dim) -> int:
    """A dimension for cost comparisons."""
    return dim if isinstance(dim, int) else evaluate(dim, dict.fromkeys(dim_symbols([dim]), UNKNOWN_EXTENT))


def access_cost(stride: Dim) -> float:
    """Cost of one element under that stride of the vector axis, relative to a contiguous one."""
    if stride == 0:
        return 0.1
    if stride == 1:
        return 1.0
    return 2.5 if isinstance(stride, int) and abs(stride) <= 4 else 10.0


def vector_axis(nest: Nest, analysis: Analysis, target: CpuTarget, rank: int = 0) -> str | None:
    """The axis whose loop costs least, contiguous accesses first, then long; or the next ones in that order."""
    lanes = target.lanes(4)
    costs: list[tuple[float, str]] = []
    for axis in reversed(nest.axes):
        cost = 0.0
        for statement in nest.body:
            if isinstance(statement, (Load, Store)):
                points = product(a.extent for a in nest.axes if a.name in analysis.axes_of(statement))
                weight = 1.5 if isinstance(statement, Store) else 1.0
                cost += guess(points) * weight * access_cost(_stride(statement.index[0], axis.name, analysis))
            elif isinstance(statement, Compute):
                points = product(a.extent for a in nest.axes if a.name in analysis.axes[statement.name])
                cost += guess(points) * 0.1 * statement_cost(statement)
        extent = guess(axis.extent)
        waste = -(-extent // lanes) * lanes / extent if extent > 0 else 1.0
        cost *= waste + lanes / max(extent, 1)
        costs.append((cost, axis.name))
    # Of equal costs the inner axis comes first.
    costs.sort(key=lambda pair: pair[0])
    return costs[min(rank, len(costs) - 1)][1] if costs else None


def _stride(index: Affine, axis: str, analysis: Analysis) -> Dim:
    """The stride of an axis in an index; an indirect index that depends on the axis counts as far."""
    indirect = any(axis in analysis.axes.get(variable, ()) for variable in index.variables)
    return 1 << 20 if indirect else index.stride(axis)


def scratch_values(nest: Nest, analysis: Analysis, vector: str) -> frozenset[str]:
    """Inner values worth keeping between passes: computed in one, read in a later one, dear to compute again."""
    last_use: dict[str, int] = {}
    by_name = analysis.definitions

    def visit(name: str, phase: int) -> None:
        if not analysis.inner[name] or last_use.get(name, -1) >= phase:
            return
        last_use[name] = phase
        for argument in analysis.reads(by_name[name]):
            visit(argument, phase)

    for root in nest.body:
        if isinstance(root, (Reduce, Store)):
            for name in analysis.reads(root):
                visit(name, analysis.phase_of(root))
    kept: set[str] = set()
    for statement in nest.body:
        if isinstance(statement, Store) or not analysis.inner[statement.name]:
            continue
        name = statement.name
        outlives = last_use.get(name, -1) > analysis.phase[name] and _read_later(name, nest, analysis)
        if outlives and _recompute_cost(name, analysis, kept, vector) > KEEP_COST:
            kept.add(name)
    return frozenset(kept)


def _read_later(name: str, nest: Nest, analysis: Analysis) -> bool:
    """True when a statement of a later pass reads the value directly."""
    return any(
        analysis.phase_of(statement) > analysis.phase[name]
        for statement in nest.body
        if name in analysis.reads(statement)
    )


def _recompute_cost(name: str, analysis: Analysis, kept: Iterable[str], vector: str) -> float:
    """Additions to compute an inner value once more, loads from cache included."""
    seen: set[str] = set()

    def visit(name: str) -> float:
        if name in seen or not analysis.inner[name]:
            return 0.0
        seen.add(name)
        statement = analysis.definitions[name]
        if name in kept:
            return 1.0
        if isinstance(statement, Load):
            stride = _stride(statement.index[0], vector, analysis)
            return 1.0 if stride in (0, 1) and not statement.guards else 6.0
        return statement_cost(statement) + sum(visit(argument) for argument in analysis.reads(statement))

    return visit(name)


def scratch_bytes(nest: Nest, analysis: Analysis, kept: Iterable[str], block: int, mode: Mode) -> Dim:
    """Bytes of scratch that one item's kept values take."""
    points = product(axis.extent for axis in nest.reductions)
    itemsizes = sum(analysis.definitions[name].dtype.itemsize for name in kept)
    return product((points, itemsizes, block if mode is Mode.COLUMNS else 1))


def streamed_buffers(nest: Nest, kernel: Kernel, vector: str | None, target: CpuTarget) -> frozenset[str]:
    """Outputs larger than the last cache, written once in contiguous runs: they go past the cache."""
    found = streamable(nest, kernel, vector)
    pinned = kernel.attributes.get("streams")
    if pinned is not None:
        return found if pinned else frozenset()
    sizes = {name: kernel.parameter(name).type.nbytes for name in found}
    return frozenset(name for name, size in sizes.items() if isinstance(size, int) and size > target.llc // 2)


def streamable(nest: Nest, kernel: Kernel, vector: str | None) -> frozenset[str]:
    """Outputs that are written once in contiguous runs of floats, or of floats rounded to 16 bits.

    Runs that are short and fill no vectors would leave half written lines behind.
    """
    found = set()
    extent = extent_of(nest, vector) if vector is not None else 0
    if isinstance(extent, int) and extent < SHORT_RUN and extent % 16:
        return frozenset()
    for statement in nest.body:
        if not isinstance(statement, Store) or statement.guards or vector is None:
            continue
        parameter = kernel.parameter(statement.buffer)
        index = statement.index[0]
        plain = parameter.type.dtype is DType.F32 or is_rounded(nest, statement)
        if (
            plain
            and parameter.access.value == "out"
            and index.stride(vector) == 1
            and vector in index.variables
        ):
            found.add(statement.buffer)
    return frozenset(found)


def is_rounded(nest: Nest, store: Store) -> bool:
    """True for a store of floats that are rounded to 16 bits on their way."""
    value = next((s for s in nest.body if not isinstance(s, Store) and s.name == store.value), None)
    return isinstance(value, Compute) and value.operation == "cast" and value.dtype in HALVES


def converts_rows(nest: Nest, vector: str) -> bool:
    """True for a nest that reads or writes f16 in contiguous runs, which only tiles convert by vectors."""
    return any(
        s.index[0].stride(vector) == 1
        and (s.dtype is DType.F16 if isinstance(s, Load) else is_rounded(nest, s))
        for s in nest.body
        if isinstance(s, (Load, Store)) and not s.guards
    )


def turned_loads(nest: Nest, analysis: Analysis, vector: str) -> tuple[str | None, frozenset[str]]:
    """(axis, loads) of a map: loads that run along another parallel axis than the vector one."""
    found: dict[str, set[str]] = {}
    for statement in nest.body:
        if not isinstance(statement, Load) or statement.guards or statement.dtype.itemsize not in (4, 8):
            continue
        (index,) = statement.index
        far = access_cost(_stride(index, vector, analysis)) >= 10.0
        if not far or any(variable in analysis.definitions for variable in index.variables):
            continue
        for axis in nest.parallel:
            if axis.name != vector and index.stride(axis.name) == 1 and guess(axis.extent) >= 8:
                found.setdefault(axis.name, set()).add(statement.name)
    if not found:
        return None, frozenset()
    best = max(found, key=lambda name: len(found[name]))
    return best, frozenset(found[best])


def work_of(nest: Nest, analysis: Analysis, target: CpuTarget) -> Dim:
    """Vector additions of the whole nest (each statement once a point of the axes that it depends on)."""
    scale = target.lanes(4)
    total: Dim = 0
    extents: Mapping[str, Dim] = {axis.name: axis.extent for axis in nest.axes}
    buckets: dict[frozenset[str], float] = {}
    for statement in nest.body:
        axes = analysis.axes_of(statement)
        buckets[axes] = buckets.get(axes, 0.0) + statement_cost(statement)
    for axes, cost in buckets.items():
        points = product(extents[name] for name in extents if name in axes)
        total = total + points * max(1, round(cost * 16 / scale))
    return total


def shape_nests(nest: Nest, target: CpuTarget) -> tuple[Nest, ...]:
    """The lowered nest cut where its guards change, each part shaped."""
    parts = split_ranges(nest, vector_axis(nest, analyse(nest), target))
    return tuple(shape_nest(part, target) for part in parts)


def shape_nest(nest: Nest, target: CpuTarget) -> Nest:
    """The lowered nest with positions in 32 bits, and a short axis unrolled where that makes accesses contiguous."""
    nest = narrow_comparisons(nest)
    vector = vector_axis(nest, analyse(nest), target)
    if vector is None:
        return nest
    window = unroll_window(nest, vector)
    if window is not None:
        inner = interleaved_axes(window, vector)
        for axis in inner:
            window = unroll(window, axis)
        return merge_axes(resolve(window) if inner else prune_guards(window))
    axes = interleaved_axes(nest, vector)
    for axis in axes:
        nest = unroll(nest, axis)
    return merge_axes(prune_guards(nest)) if axes else nest


def decide(nest: Nest, kernel: Kernel, target: CpuTarget) -> Schedule:
    """The schedule of a lowered nest; choices pinned to the kernel (choices.py) come before the cost models'."""
    analysis = analyse(nest)
    pinned = kernel.attributes
    vector = vector_axis(nest, analysis, target, pinned.get("vector", 0))
    reductions = {axis.name for axis in nest.reductions}
    has_reduce = any(isinstance(statement, Reduce) for statement in nest.body)
    mode = (
        Mode.MAP if not has_reduce and not reductions else Mode.ROWS if vector in reductions else Mode.COLUMNS
    )
    short = short_rows(nest, analysis) if mode is Mode.ROWS and "vector" not in pinned else None
    if short is not None:
        vector, mode = short.axis, Mode.COLUMNS
    block = ROW_BLOCK if short is not None else _block(nest, vector, mode, target, pinned.get("block", 0))
    kept = (
        scratch_values(nest, analysis, vector) if vector is not None and mode is not Mode.MAP else frozenset()
    )
    kept -= short.loads if short is not None else frozenset()
    nbytes = scratch_bytes(nest, analysis, kept, block, mode)
    if isinstance(nbytes, int) and nbytes > target.l2 // 2:
        kept = frozenset()
    streams = streamed_buffers(nest, kernel, vector, target)
    if mode is Mode.MAP and vector is not None and _in_blocks(nest, analysis, vector, streams):
        block = pinned.get("block", MAP_TILE)
    turn, turned = (
        turned_loads(nest, analysis, vector)
        if mode is Mode.MAP and vector is not None
        else (None, frozenset())
    )
    if turned:
        block = TURN_LANES
    work = work_of(nest, analysis, target)
    pays = pinned.get("threads", not (isinstance(work, int) and work < PARALLEL_COST))
    threaded = bool(pays) and bool(nest.parallel)
    tile = pinned.get("tile", STREAM_TILE)
    return Schedule(mode, vector, block, kept, streams, work, threaded, turn, turned, tile, short)


def _in_blocks(nest: Nest, analysis: Analysis, vector: str, streams: frozenset[str]) -> bool:
    """True for a map that goes through tiles: streamed, converted by vectors, or computed in stages."""
    return bool(streams) or converts_rows(nest, vector) or bool(stages(nest, analysis, analysis.definitions))


def _block(nest: Nest, vector: str | None, mode: Mode, target: CpuTarget, pinned: int) -> int:
    lanes = target.lanes(4)
    if mode is Mode.ROWS:
        return lanes
    if mode is Mode.COLUMNS:
        extent = extent_of(nest, vector) if vector is not None else 0
        accumulators = sum(isinstance(statement, Reduce) for statement in nest.body) or 1
        limit = pinned or max(lanes * 4, min(1024, target.l1 // (4 * 4 * accumulators) // lanes * lanes))
        return even_block(extent, limit, lanes) if isinstance(extent, int) else limit
    return 0


def other_blocks(nest: Nest, schedule: Schedule) -> tuple[int, ...]:
    """Blocks of the vector axis, near the schedule's, that columns or a streamed map could take as well."""
    blocked = schedule.mode is Mode.COLUMNS or (schedule.mode is Mode.MAP and bool(schedule.streams))
    if not blocked or schedule.turned or schedule.short or schedule.vector is None:
        return ()
    extent = guess(extent_of(nest, schedule.vector))
    near = (schedule.block // 4, schedule.block // 2, schedule.block * 2, schedule.block * 4)
    return tuple(size // 16 * 16 for size in near if 64 <= size < 2 * extent)


def even_block(extent: int, limit: int, lanes: int) -> int:
    """The elements of a block: at most `limit`, and such that none is left over where that takes no small blocks."""
    if extent <= limit:
        return extent
    even = (block for block in range(limit, limit // 2, -lanes) if extent % block == 0)
    return next(even, limit)


def row_lanes(statements: Iterable[Statement], vector: int) -> int:
    """Accumulators side by side in one pass over a row: several vectors where the work between them is short."""
    dearest = max((statement_cost(s) for s in statements if isinstance(s, Compute)), default=0.0)
    return vector * (2 if dearest > 8 else 4)


def prefetched_rows(nest: Nest, schedule: Schedule, analysis: Analysis) -> tuple[Load, ...]:
    """Loads of whole rows, of several passes and from a large tensor, whose next row is fetched ahead of its turn."""
    if schedule.mode is not Mode.ROWS or len(nest.reductions) != 1 or not nest.parallel:
        return ()
    (row,), item = nest.reductions, nest.parallel[-1]
    points = product(axis.extent for axis in nest.axes)
    if not isinstance(points, int) or not isinstance(row.extent, int):
        return ()
    found: dict[str, Load] = {}
    for statement in nest.body:
        if isinstance(statement, Load) and not statement.guards and analysis.phase[statement.name] == 0:
            (index,) = statement.index
            plain = index.stride(row.name) == 1 and not set(index.variables) & analysis.definitions.keys()
            size = row.extent * statement.dtype.itemsize
            large = size >= PREFETCH_ROW and points * statement.dtype.itemsize >= PREFETCH_TENSOR
            if plain and large and index.stride(item.name) != 0:
                found.setdefault(statement.buffer, statement)
    return tuple(found.values())


def rows_apart(nest: Nest, rows: Axis, schedule: Schedule) -> tuple[Load, ...]:
    """Loads of columns from a large tensor whose rows lie further apart than what is read of one."""
    vector = schedule.vector
    found: dict[str, Load] = {}
    for statement in nest.body:
        if not isinstance(statement, Load) or statement.guards or vector is None:
            continue
        (index,) = statement.index
        names = set(index.variables)
        points = product(axis.extent for axis in nest.axes if axis.name in names)
        plain = index.stride(vector) == 1 and names <= {axis.name for axis in nest.axes}
        stride = index.stride(rows.name)
        if not plain or not isinstance(points, int) or not isinstance(stride, int):
            continue
        apart = abs(stride) > schedule.block and abs(stride) * statement.dtype.itemsize >= PREFETCH_ROW
        if apart and points * statement.dtype.itemsize >= PREFETCH_TENSOR:
            found.setdefault(statement.buffer, statement)
    return tuple(found.values())


def extent_of(nest: Nest, name: str) -> Dim:
    """The extent of an axis."""
    return next(axis.extent for axis in nest.axes if axis.name == name)


def item_axes(nest: Nest, schedule: Schedule) -> tuple[Axis, ...]:
    """The parallel axes whose points are shared out one by one: all but the vector and the turned axis."""
    return tuple(axis for axis in nest.parallel if axis.name not in (schedule.vector, schedule.turn))
