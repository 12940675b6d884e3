"""Schedules and tiles: plain data from extents."""

import pytest

from graphc.codegen.triton.collapse import collapse
from graphc.codegen.triton.schedule import GpuTarget, Mode, NestSchedule, schedule
from graphc.codegen.triton.split import stages_of
from graphc.codegen.triton.tiles import tile_schedule
from graphc.types import DType
from support import cpp_cases as c
from support.native_programs import Case

TARGET = GpuTarget()


def plan(case: Case) -> NestSchedule:
    types = {p.name: p.type for p in case.kernel.parameters}
    return schedule(collapse(case.kernel.nests[0], types), TARGET)


def blocks(case: Case) -> tuple[int, ...]:
    return tuple(group.block for group in plan(case).tile)


def test_axes_that_are_walked_together_merge() -> None:
    case = c.sgd_updates((8, 4))
    types = {p.name: p.type for p in case.kernel.parameters}
    assert [len(collapse(nest, types).axes) for nest in case.kernel.nests] == [1, 1]
    case = c.gelu_residual(8, 16)
    types = {p.name: p.type for p in case.kernel.parameters}
    assert [axis.extent for axis in collapse(case.kernel.nests[0], types).axes] == [8, 16]


def test_pointwise_blocks() -> None:
    assert plan(c.gelu_residual(8192, 1024)).mode is Mode.POINTWISE
    assert blocks(c.gelu_residual(8192, 1024)) == (1024,)
    assert blocks(c.gelu_residual(3, 5)) == (16,)
    assert blocks(c.transpose_scale(4096, 4096)) == (64, 64)
    assert blocks(c.transpose_scale(100, 100)) == (32, 32)


@pytest.mark.parametrize(
    ("rows", "columns", "mode", "tile"),
    [
        (4096, 4096, Mode.PERSISTENT, (4096,)),
        (64, 16384, Mode.PERSISTENT, (16384,)),
        (64, 50000, Mode.LOOPED, (4096,)),
        (65536, 100, Mode.PERSISTENT, (8, 128)),
        (65536, 10, Mode.PERSISTENT, (64, 16)),
        (4096, "M", Mode.LOOPED, (1024,)),
    ],
)
def test_rows(rows: int, columns: int, mode: Mode, tile: tuple[int, ...]) -> None:
    case = c.softmax(rows, columns)
    assert plan(case).mode is mode
    assert blocks(case) == tile


def test_outer_reductions_tile_both_axes() -> None:
    schedule = plan(c.column_statistics(4096, 4096))
    assert schedule.mode is Mode.LOOPED
    assert [group.block for group in schedule.tile] == [32, 128]


def test_windows_are_unrolled() -> None:
    assert plan(c.max_pool(64, 28, 28, 3, 2, 1)).mode is Mode.UNROLLED
    assert plan(c.max_pool(64, 28, 28, 2, 2, 0)).mode is Mode.UNROLLED


def test_few_long_rows_are_split_and_others_are_not() -> None:
    for case, kernels in [
        (c.total((4096, 4096)), 2),
        (c.batch_norm(64, 8, 4096), 6),
        (c.softmax(4096, 4096), 1),
        (c.total((10, 10)), 1),
        (c.row_statistics(4, 100000), 1),  # positions of extremes are not taken apart
    ]:
        parts, workspaces = stages_of(case.kernel, TARGET)
        assert len(parts) == kernels or (kernels == 6 and len(parts) in (5, 6))
        assert bool(workspaces) == (len(parts) > 1)
        names = {p.name for kernel in parts for p in kernel.parameters}
        assert {p.name for p in case.kernel.parameters} <= names


def test_tiles_of_products() -> None:
    large = tile_schedule(DType.BF16, 8192, 8192, 8192, 1, TARGET)
    assert (large.rows, large.columns, large.inner, large.stages, large.warps) == (128, 256, 64, 3, 8)
    assert large.splits == 1
    few = tile_schedule(DType.BF16, 16, 4096, 4096, 1, TARGET)
    assert few.rows == 16
    long = tile_schedule(DType.F16, 128, 128, 100000, 1, TARGET)
    assert long.splits > 8
    assert tile_schedule(DType.F32, 4096, 4096, 4096, 1, TARGET).inner == 16
    assert tile_schedule(DType.F32, 4096, 4096, 4096, 1, GpuTarget(tf32=True)).inner == 32


@pytest.mark.parametrize("dtype", [DType.F16, DType.F32, DType.F64])
@pytest.mark.parametrize("rows", [1, 10, 64, 1000, 8192])
@pytest.mark.parametrize("columns", [1, 10, 64, 1000, 8192])
def test_operands_in_flight_fit_the_shared_memory(dtype: DType, rows: int, columns: int) -> None:
    for inner in (1, 64, 4096):
        tile = tile_schedule(dtype, rows, columns, inner, 1, TARGET)
        held = tile.stages * (tile.rows + tile.columns) * tile.inner * dtype.itemsize
        assert held <= TARGET.shared_bytes
        assert 1 <= tile.splits <= 32


def test_very_many_nests_become_several_launches() -> None:
    kernel = c.sgd_updates(tuple(range(1, 151))).kernel
    parts, workspaces = stages_of(kernel, TARGET)
    assert [len(part.nests) for part in parts] == [64, 64, 22]
    assert not workspaces
    assert {p.name for part in parts for p in part.parameters} == {p.name for p in kernel.parameters}
