"""Depthwise convolutions, each channel by its own kernel (templates/cpp/depthwise.h): which they are, their scratch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.types import Dim, product

_ROOM = 6144  # GC_DEPTHWISE_ROOM
_VECTORS = 4  # GC_DEPTHWISE_VECTORS


@dataclass(frozen=True, slots=True)
class _Band:
    """What gc_depthwise computes: runs of height by width, so many lines of them in a band."""

    height: int
    width: int
    halo: int
    reach: int
    planes: int
    results: int = 1

    @property
    def pitch(self) -> int:
        return self.width + self.reach

    @property
    def lines(self) -> int:
        return max(
            1, min(self.height, _ROOM // max(1, max(self.planes, self.results) * self.pitch) - self.halo)
        )

    def bytes(self, taps: int, whole: int, channels: int, lanes: int, itemsize: int) -> int:
        slack = _VECTORS * lanes
        band = _round_up(self.planes * (self.lines + self.halo) * self.pitch) + slack
        result = _round_up(self.lines * self.pitch) + slack
        elements = band + self.results * result + whole + taps * (channels * lanes + 1)
        return _round_up(elements + 2 * lanes) * itemsize + 3 * taps * 8 + 128


def depthwise_scratch(
    primitive: str,
    image: Sequence[Dim],
    weight: Sequence[Dim],
    result: Sequence[Dim],
    attributes: Mapping[str, Any],
    lanes: int,
    itemsize: int,
) -> int | None:
    """Bytes of a thread's scratch; None where a convolution is not depthwise, or its sizes are not known.

    `image`, `weight` and `result`: shapes of x, w and y, whichever of them the primitive computes.
    """
    groups = attributes.get("groups", 1)
    if len(image) not in (3, 4) or groups == 1 or image[1] != groups or weight[0] != groups:
        return None
    sizes = (*image[2:], *result[2:], *weight[2:])
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) < len(sizes) or min(known) < 1:
        return None
    axes = [
        (known[k], known[k + len(known) // 3], known[k + 2 * (len(known) // 3)], *steps)
        for k, steps in enumerate(
            zip(*(attributes[name] for name in ("stride", "pad", "dilate")), strict=True)
        )
    ]
    if len(axes) == 1:
        axes.insert(0, (1, 1, 1, 1, 0, 1))
    taps = product(weight[2:])
    assert isinstance(taps, int)
    if primitive == "convolution_data_gradient":
        (height, halo), (width, reach) = (_gradient_axis(*axis) for axis in axes)
        band = _Band(height, width, halo, reach, 1, 2 * axes[0][3] if axes[1][3] == 2 else 1)
        whole = band.lines * axes[0][3] * axes[1][0]
    else:
        (height, halo), (width, reach) = (
            (out, (kernel - 1) * dilate // stride + 1) for _, out, kernel, stride, _, dilate in axes
        )
        band = _Band(height, width, halo, reach, axes[0][3] * axes[1][3])
        whole = band.lines * width if primitive == "convolution" else 0
    channels = 0
    if primitive == "convolution_weight_gradient":
        channels = _channels(groups, axes[0][0] * axes[1][0], taps, lanes)
    return band.bytes(taps, whole, channels, lanes, itemsize)


def _channels(groups: int, plane: int, taps: int, lanes: int) -> int:
    """gc_depthwise_channels: how many channels' sums a thread keeps."""
    return max(1, min(32, -(-groups // 8), 2 * _ROOM // max(1, plane), 2 * _ROOM // (taps * lanes)))


def _gradient_axis(size: int, out: int, kernel: int, stride: int, pad: int, dilate: int) -> tuple[int, int]:
    """(elements of every stride-th of dx, rows of dy that one of them reaches over)."""
    return -(-size // stride), (stride - 1 + pad) // stride - (pad - (kernel - 1) * dilate) // stride


def _round_up(value: int) -> int:
    return -(-value // 16) * 16
