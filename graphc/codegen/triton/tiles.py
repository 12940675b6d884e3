"""The tile of a matrix product on Hopper: how large, how many stages in flight, and whether the sum is split."""

from __future__ import annotations

from dataclasses import dataclass

from graphc.codegen.triton.schedule import GpuTarget, next_power_of_2
from graphc.types import DType


@dataclass(frozen=True, slots=True)
class TileSchedule:
    """Blocks of rows, columns and inner elements, stages of the pipeline, warps, and parts of the sum."""

    rows: int
    columns: int
    inner: int
    stages: int
    warps: int
    splits: int = 1


# (rows, columns, inner, stages, warps), largest first: operands of 16 bits on the tensor cores.
_HALF = (
    (128, 256, 64, 3, 8),
    (128, 128, 64, 4, 8),
    (128, 64, 64, 4, 4),
    (64, 128, 64, 4, 4),
    (64, 64, 64, 4, 4),
    (32, 64, 64, 4, 4),
    (16, 64, 64, 4, 4),
    (32, 32, 64, 4, 4),
    (16, 32, 64, 4, 2),
    (16, 16, 64, 4, 2),
)
# f32 rounded to tf32, on the tensor cores.
_TF32 = (
    (128, 128, 32, 4, 8),
    (128, 64, 32, 4, 4),
    (64, 128, 32, 4, 4),
    (64, 64, 32, 4, 4),
    (32, 64, 32, 4, 4),
    (32, 32, 32, 4, 4),
    (16, 32, 32, 4, 2),
    (16, 16, 32, 4, 2),
)
# f32 exact: multiply-adds on the ordinary units, 32 to 64 accumulators a thread.
_FLOAT = (
    (128, 128, 16, 3, 8),
    (64, 64, 16, 3, 4),
    (64, 32, 16, 3, 4),
    (32, 64, 16, 3, 4),
    (32, 32, 16, 3, 4),
    (16, 32, 16, 3, 2),
    (16, 16, 16, 3, 1),
)
# f64: no tensor-core instruction in all Triton versions; products of small blocks summed in registers.
_DOUBLE = ((16, 16, 8, 2, 4),)


def tile_schedule(
    dtype: DType, rows: int, columns: int, inner: int, outer: int, target: GpuTarget, gathered: bool = False
) -> TileSchedule:
    """The largest tile that still gives every multiprocessor one, no larger than the result needs.

    gathered: an operand's elements have addresses of their own, which take registers: fewer of them a thread.
    """
    table: tuple[tuple[int, int, int, int, int], ...]
    table = _HALF if dtype in (DType.F16, DType.BF16) else _FLOAT if dtype is DType.F32 else _DOUBLE
    if dtype is DType.F32 and target.tf32:
        table = _TF32
    fitting = [
        tile
        for tile in table
        if tile[0] <= max(next_power_of_2(rows), 16) and tile[1] <= max(next_power_of_2(columns), 16)
    ] or [table[-1]]

    def count(tile: tuple[int, int, int, int, int]) -> int:
        return -(-rows // tile[0]) * -(-columns // tile[1]) * outer

    chosen = next((tile for tile in fitting if count(tile) >= target.multiprocessors), None)
    if chosen is None:
        # Too few tiles for the device either way: small ones, or larger ones whose sum is split.
        chosen = fitting[min(len(fitting) - 1, 2)] if inner >= 1024 else fitting[-1]
    block_rows, block_columns, block_inner, stages, warps = chosen
    splits = _splits(count(chosen), inner, block_inner, target)
    block_inner = min(block_inner, max(next_power_of_2(inner), 16))
    if gathered:
        block_inner = min(block_inner, 32)
        warps = 8 if block_rows * block_columns >= 4096 else warps
    return TileSchedule(block_rows, block_columns, block_inner, stages, warps, splits)


def _splits(tiles: int, inner: int, block: int, target: GpuTarget) -> int:
    """Parts of the sum, so that few tiles with long sums still fill the device; at least 512 elements a part."""
    if tiles * 2 > target.multiprocessors or tiles == 0:
        return 1
    return max(1, min(target.multiprocessors // tiles, inner // max(512, 4 * block), 32))
