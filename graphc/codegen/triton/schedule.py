"""How each nest runs on the device: which elements a program covers, in what order, with how many warps. Plain data.

The figures are those of public kernels on Hopper: 132 multiprocessors, 64 K registers and 227 KB of shared memory each.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from graphc.ir.kernel import Axis, Load, Nest, Reduce, Store, levels
from graphc.types import Dim, dim_symbols, dimension, evaluate, product


@dataclass(frozen=True, slots=True)
class GpuTarget:
    """The device that code is made for."""

    capability: int = 90
    multiprocessors: int = 132
    shared_bytes: int = 227 * 1024
    tf32: bool = False
    """Whether products of f32 may round their operands to tf32 (10 bits of mantissa)."""


class Mode(enum.Enum):
    """How a nest walks its reduction axes.

    POINTWISE has none. PERSISTENT holds all of them in registers. LOOPED walks them in blocks, once a pass. UNROLLED
    takes few elements one at a time, each over a block of the parallel axes.
    """

    POINTWISE = "pointwise"
    PERSISTENT = "persistent"
    LOOPED = "looped"
    UNROLLED = "unrolled"


@dataclass(frozen=True, slots=True)
class Group:
    """Axes that are walked as one, in row-major order, `block` elements at a time (1: a scalar, no tile dimension)."""

    name: str
    axes: tuple[Axis, ...]
    block: int

    @property
    def extent(self) -> Dim:
        return product(axis.extent for axis in self.axes)

    @property
    def exact(self) -> bool:
        """Whether whole blocks cover the extent, so that no element needs a mask."""
        return self.block == 1 or (self.extent != 0 and dimension(self.extent % self.block) == 0)


@dataclass(frozen=True, slots=True)
class NestSchedule:
    """A nest's tile: the groups of its parallel axes (outermost first), and the group of its reduction axes."""

    mode: Mode
    grid: tuple[Group, ...]
    reduction: Group | None
    warps: int

    @property
    def tile(self) -> tuple[Group, ...]:
        """The groups that are dimensions of the tile, in order."""
        groups = self.grid if self.reduction is None else (*self.grid, self.reduction)
        return tuple(group for group in groups if group.block > 1)


PERSISTENT_LIMIT = 16384
UNROLL_LIMIT = 32
UNKNOWN = 256
"""What a named dimension is taken for where only speed depends on it."""


def schedule(nest: Nest, target: GpuTarget) -> NestSchedule:
    """The schedule of a collapsed nest without an anchor."""
    if not nest.reductions:
        return _pointwise(nest)
    return _reduction(nest, target)


def next_power_of_2(value: int) -> int:
    """The least power of 2 that is not below the value; 1 for 0."""
    return 1 << max(value - 1, 0).bit_length()


def size_guess(dim: Dim) -> int:
    """The extent, or what stands for it where only speed depends on it."""
    return dim if isinstance(dim, int) else evaluate(dim, dict.fromkeys(dim_symbols([dim]), UNKNOWN))


def _group_name(axes: tuple[Axis, ...], fallback: str) -> str:
    return axes[0].name if len(axes) == 1 else fallback


# Pointwise


def _pointwise(nest: Nest) -> NestSchedule:
    transposed = _transposed_axes(nest)
    if transposed is not None:
        return _transpose(nest, *transposed)
    count = size_guess(product(axis.extent for axis in nest.parallel))
    block = min(max(next_power_of_2(count // 128), 256), 1024)
    block = min(block, max(next_power_of_2(count), 1))
    warps = max(1, min(block // 256, 4))
    grid = (Group(_group_name(nest.parallel, "index"), nest.parallel, block),) if nest.parallel else ()
    return NestSchedule(Mode.POINTWISE, grid, None, warps)


def contiguous_axes(nest: Nest) -> Mapping[str, tuple[Load | Store, ...]]:
    """For each axis, the accesses whose addresses step by 1 along it."""
    table: dict[str, list[Load | Store]] = {axis.name: [] for axis in nest.axes}
    for statement in nest.body:
        if isinstance(statement, (Load, Store)):
            for name, stride in statement.index[0].terms:
                if stride == 1 and name in table:
                    table[name].append(statement)
    return {name: tuple(accesses) for name, accesses in table.items()}


def _transposed_axes(nest: Nest) -> tuple[Axis, Axis] | None:
    """(the axis along which stores are contiguous, another one along which most other loads are), or None."""
    table = contiguous_axes(nest)
    wide = [axis for axis in nest.parallel if size_guess(axis.extent) >= 16]
    stores = [axis for axis in wide if any(isinstance(access, Store) for access in table[axis.name])]
    if not stores:
        return None
    across = [axis for axis in wide if axis is not stores[-1] and table[axis.name]]
    across = [axis for axis in across if not _walks_with(nest, axis, stores[-1])]
    if not across:
        return None
    return stores[-1], max(across, key=lambda axis: len(table[axis.name]))


def _walks_with(nest: Nest, outer: Axis, inner: Axis) -> bool:
    """Whether every access contiguous along `outer` is contiguous along `inner` too, or is small."""
    return all(access.index[0].stride(inner.name) in (0, 1) for access in contiguous_axes(nest)[outer.name])


def _transpose(nest: Nest, inner: Axis, across: Axis) -> NestSchedule:
    """Tiles of 32 x 32 to 64 x 64: reads and writes are both contiguous within a tile."""
    edge = 64 if min(size_guess(inner.extent), size_guess(across.extent)) >= 512 else 32
    rest = tuple(axis for axis in nest.parallel if axis not in (inner, across))
    groups = [Group(_group_name(rest, "slice"), rest, 1)] if rest else []
    groups += [
        Group(across.name, (across,), min(edge, next_power_of_2(size_guess(across.extent)))),
        Group(inner.name, (inner,), min(edge, next_power_of_2(size_guess(inner.extent)))),
    ]
    return NestSchedule(Mode.POINTWISE, tuple(groups), None, 8 if edge == 64 else 4)


# Reductions


def _reduction(nest: Nest, target: GpuTarget) -> NestSchedule:
    rows = size_guess(product(axis.extent for axis in nest.parallel))
    extent = product(axis.extent for axis in nest.reductions)
    length = size_guess(extent)
    along_rows = _contiguous_along_rows(nest)
    window = len(nest.reductions) > 1 or not _contiguous_along_reduction(nest)
    if isinstance(extent, int) and extent <= UNROLL_LIMIT and window:
        return _unrolled(nest, rows)
    if along_rows:
        return _outer(nest, rows, extent, target)
    persistent = isinstance(extent, int) and extent <= _persistent_limit(nest)
    if not persistent:
        most = 4096 if rows < 4 * target.multiprocessors else 2048
        block = min(next_power_of_2(max(length, 2)), most) if isinstance(extent, int) else 1024
        return _rows(nest, Mode.LOOPED, 1, block, warps=max(1, min(16, block // 256)))
    block = next_power_of_2(max(length, 2))
    row_block = _rows_a_program(rows, block, target)
    warps = _warps(block * row_block) if row_block == 1 else 1
    return _rows(nest, Mode.PERSISTENT, row_block, block, warps)


def _rows(nest: Nest, mode: Mode, row_block: int, block: int, warps: int) -> NestSchedule:
    grid = (Group(_group_name(nest.parallel, "row"), nest.parallel, row_block),) if nest.parallel else ()
    return NestSchedule(
        mode, grid, Group(_group_name(nest.reductions, "column"), nest.reductions, block), warps
    )


def _warps(elements: int) -> int:
    """Warps for a row in registers: 8 to 16 elements a thread."""
    return next(
        (warps for least, warps in ((16384, 32), (8192, 16), (2048, 8), (1024, 4)) if elements >= least), 1
    )


def _rows_a_program(rows: int, block: int, target: GpuTarget) -> int:
    """Several short rows a program of one warp, as long as there are programs enough for every multiprocessor."""
    row_block = 1
    while (
        row_block * block < 1024
        and row_block < rows
        and rows // (row_block * 2) >= 2 * target.multiprocessors
    ):
        row_block *= 2
    if block <= 64:
        row_block = max(row_block, min(16, next_power_of_2(max(rows, 1))))
    return row_block


def _persistent_limit(nest: Nest) -> int:
    """The longest row that fits the registers of 1024 threads together with all that lives beside it."""
    inner = levels(nest)
    loads = sum(isinstance(s, Load) and inner[s.name] for s in nest.body)
    passes = sum(isinstance(s, Reduce) for s in nest.body)
    live = loads + min(passes, 2)
    return PERSISTENT_LIMIT if live <= 3 else PERSISTENT_LIMIT // 2 if live <= 6 else PERSISTENT_LIMIT // 4


def _contiguous_along_reduction(nest: Nest) -> bool:
    table = contiguous_axes(nest)
    return any(not access.guards for axis in nest.reductions for access in table[axis.name])


def _contiguous_along_rows(nest: Nest) -> bool:
    """Whether more of the inner loads are contiguous along a parallel axis than along a reduction axis."""
    table = contiguous_axes(nest)
    inner = levels(nest)

    def count(axes: tuple[Axis, ...]) -> int:
        accesses = {id(a): a for axis in axes for a in table[axis.name]}.values()
        return sum(isinstance(a, Load) and inner[a.name] for a in accesses)

    return count(nest.parallel) > count(nest.reductions)


def _unrolled(nest: Nest, rows: int) -> NestSchedule:
    block = min(256, next_power_of_2(max(rows, 1)))
    if size_guess(product(axis.extent for axis in nest.reductions)) * len(nest.body) > 512:
        block = min(block, 128)
    return _rows(nest, Mode.UNROLLED, block, 1, warps=max(1, min(4, block // 64)))


def _outer(nest: Nest, rows: int, extent: Dim, target: GpuTarget) -> NestSchedule:
    """Reductions over outer axes: the tile spans both, and is contiguous along the rows."""
    length = next_power_of_2(max(size_guess(extent), 2))
    row_block = min(64, next_power_of_2(max(rows, 1)))
    while row_block > 16 and 4 * (rows // row_block) < 3 * target.multiprocessors:
        row_block //= 2
    block = min(length, max(4096 // row_block, 16))
    if isinstance(extent, int) and extent <= block:
        return _rows(nest, Mode.PERSISTENT, row_block, max(block, 2), warps=4)
    return _rows(nest, Mode.LOOPED, row_block, block, warps=8 if row_block * block >= 2048 else 4)
