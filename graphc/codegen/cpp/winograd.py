"""When a convolution is computed by Winograd's algorithm (templates/cpp/winograd.h), and how its work is cut.

Decided by a count of multiply-adds from the shapes alone, the same on every machine; a symbolic batch counts as one
image. The plan fixes the sizes of scratch and of the packed weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.types import Dim, DType

ALGORITHM = "algorithm"  # attribute of a convolution for which a choice is pinned (choices.py)
DIRECT, WINOGRAD = "direct", "winograd"

POINTS = 36  # of F(4x4, 3x3), and of F(2x2, 5x5)
SIDE = 6  # of a tile of the image
TILE = 4
_PIECE_TILES = 16  # GC_WINOGRAD_PIECE
_LINE = 16  # elements between rows beyond what they hold
_WIDEST = 16  # lanes: a packed weight has room for any vector width
_PACKED_BYTES = (
    10 << 20
)  # of weights that are packed together: they should still be in the cache when they are read

# Costs in multiply-adds of the product, measured on Zen 5 with AVX-512.
_IMAGE_COST = 300  # to transform a channel of a tile
_RESULT_COST = 220
_STEPS_COST = 4  # of a short sum: what a register tile takes to begin and end, in terms
_READ_COST = 8  # to bring an element of a packed weight from memory
_PACK_COST = 24  # to make, store and read it again
_TRANSFORM_COST = 7  # to make it in the cache, for one block of tiles
_BLOCK_TILES = 64  # of such a block
_SUM_COST = 24  # to add up, read and transform an element of the sums behind a weight's gradient
_LAST_SUM_COST = 6  # where one block of tiles makes them, and they stay in the cache
_LAST_TILES = 128  # of such a block at most


@dataclass(frozen=True, slots=True)
class Winograd:
    """A gc_winograd_plan and the channels that it is for: `inputs` are summed over."""

    inputs: int
    outputs: int
    tiles: int
    outputs_at_once: int
    packed_at_once: int
    inputs_at_once: int = 0  # whose weights are transformed on the way; 0 where they are packed
    taps: int = 3  # of a kernel's row

    def __str__(self) -> str:
        cut = [self.tiles, self.outputs_at_once, self.packed_at_once]
        return f"{{{', '.join(map(str, cut + [self.inputs_at_once] * bool(self.inputs_at_once)))}}}"

    def packed_elements(self, constant: bool) -> int:
        """Elements of the packed weight, of all outputs where it is constant; 0 where it is not packed."""
        if self.inputs_at_once:
            return 0
        outputs = self.outputs if constant else min(self.outputs, self.packed_at_once)
        return POINTS * self.inputs * _round_up(outputs, _WIDEST)

    def scratch_bytes(self, lanes: int) -> int:
        """Bytes of a thread's scratch: gc_winograd_sizes."""
        image = self.tiles * (_round_up(self.inputs, lanes) + _LINE) + _LINE
        sums = self.tiles * (self.outputs_at_once + _LINE) + _LINE
        weight = self.inputs_at_once * self.outputs_at_once + _LINE if self.inputs_at_once else 0
        piece = (TILE * _PIECE_TILES + 2) * 6 * lanes + lanes * lanes
        return 4 * (POINTS * (image + sums + weight) + 2 * piece) + 64


@dataclass(frozen=True, slots=True)
class WinogradGradient:
    """A gc_winograd_gradient_plan and the in channels that it is for."""

    inputs: int
    tiles: int
    outputs_at_once: int

    def __str__(self) -> str:
        return f"{{{self.tiles}, {self.outputs_at_once}}}"

    def shared_elements(self, lanes: int) -> int:
        """Elements that all threads share: gc_winograd_gradient_sizes, and room to begin at a cache line."""
        image = self.tiles * (_round_up(self.inputs, lanes) + _LINE) + _LINE
        gradient = self.tiles * (self.outputs_at_once + _LINE) + _LINE
        return POINTS * (image + gradient + self.inputs * self.outputs_at_once + _LINE) + _LINE


def winograd(
    image: Sequence[Dim],
    result: Sequence[Dim],
    kernel: Sequence[Dim],
    attributes: Mapping[str, Any],
    dtype: DType,
    constant: bool = False,
    read_cost: int = _READ_COST,
    may_transform: bool = True,
    kernels: Sequence[int] = (3,),
) -> Winograd | None:
    """The plan for a convolution of `image` to `result` (N, C, H, W), None where direct sums are cheaper.

    For a gradient to the data the image is dy and the result dx. `constant`: the weight is packed beforehand, and an
    element of it takes `read_cost` multiply-adds to bring from memory. `may_transform`: the template can make it on the
    way, where that is cheaper than packing it. `kernels`: the sides of those it has a form for.
    """
    sizes = _sizes(image, result, kernel, attributes, dtype, kernels)
    if sizes is None:
        return None
    batch, inputs, outputs, height, width = sizes
    taps = next(side for side in kernels if side == kernel[0])
    all_tiles = _tiles(sizes, SIDE + 1 - taps)
    weight, blocks = POINTS * inputs * outputs, -(-all_tiles // _BLOCK_TILES)
    packed = read_cost if constant else _PACK_COST
    unpacked = blocks * _TRANSFORM_COST
    # Threads share outputs then; a batch that is not known may have many tiles.
    on_the_way = may_transform and not constant and unpacked < packed
    on_the_way = on_the_way and outputs >= 128 and isinstance(image[0], int)
    cost = all_tiles * _tile_cost(inputs, outputs) + weight * (unpacked if on_the_way else packed)
    if attributes.get(ALGORITHM) != WINOGRAD and cost >= taps**2 * inputs * outputs * batch * height * width:
        return None
    if on_the_way:
        tiles = -(-all_tiles // blocks)
        at_once, depth = (64, 32) if tiles <= 32 else (32, 64)
        return Winograd(inputs, outputs, tiles, at_once, 0, depth)
    most = _PACKED_BYTES // (4 * POINTS * inputs)
    at_once = max(64, most // 64 * 64)
    return Winograd(inputs, outputs, 56 if inputs < 256 else 112, 64, at_once, taps=taps)


def winograd_gradient(
    image: Sequence[Dim],
    gradient: Sequence[Dim],
    kernel: Sequence[Dim],
    attributes: Mapping[str, Any],
    dtype: DType,
) -> WinogradGradient | None:
    """The plan for the gradient to the weight from x and dy (N, C, H, W), None where direct sums are cheaper."""
    sizes = _sizes(image, gradient, kernel, attributes, dtype)
    if sizes is None:
        return None
    batch, inputs, outputs, height, width = sizes
    tiles = _tiles(sizes)
    # Threads keep a few rows of the sums each: there must be some for all of them.
    last = tiles <= _LAST_TILES and inputs >= 64
    cost = tiles * _tile_cost(inputs, outputs)
    cost += POINTS * inputs * outputs * (_LAST_SUM_COST if last else _SUM_COST)
    if attributes.get(ALGORITHM) != WINOGRAD and cost >= 9 * inputs * outputs * batch * height * width:
        return None
    # Half the outputs leave room in the cache for all points' sums of a few rows.
    at_once = 64 if last else 128
    return WinogradGradient(inputs, tiles if last else 112, min(at_once, _round_up(outputs, _WIDEST)))


def _sizes(
    image: Sequence[Dim],
    result: Sequence[Dim],
    kernel: Sequence[Dim],
    attributes: Mapping[str, Any],
    dtype: DType,
    kernels: Sequence[int] = (3,),
) -> tuple[int, int, int, int, int] | None:
    """Batch, in and out channels, output height and width; None for what the algorithm is not for."""
    plain = (
        dtype is DType.F32
        and len(image) == 4
        and tuple(kernel) in {(side, side) for side in kernels}
        and all(tuple(attributes[name]) == (1, 1) for name in ("stride", "dilate"))
        and attributes.get("groups", 1) == 1
        and all(0 <= pad < side for pad, side in zip(attributes["pad"], kernel, strict=True))
    )
    if not plain or attributes.get(ALGORITHM) == DIRECT:
        return None
    batch = image[0] if isinstance(image[0], int) else 1
    inputs, outputs, height, width = image[1], *result[1:]
    if not (isinstance(inputs, int) and isinstance(outputs, int)):
        return None
    if not (isinstance(height, int) and isinstance(width, int)):
        return None
    sizes = (batch, inputs, outputs, height, width)
    return sizes if min(sizes) >= 1 else None


def _tiles(sizes: tuple[int, int, int, int, int], side: int = TILE) -> int:
    batch, _, _, height, width = sizes
    return batch * -(-height // side) * -(-width // side)


def _tile_cost(inputs: int, outputs: int) -> int:
    """Multiply-adds of a tile, its transforms included."""
    product = POINTS * (inputs + _STEPS_COST) * outputs
    return product + _IMAGE_COST * _round_up(inputs, _WIDEST) + _RESULT_COST * _round_up(outputs, _WIDEST)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
