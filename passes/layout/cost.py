"""What convolutions gain from images with their channels last, and what a transpose of an image costs.

In multiply-adds of a machine at its peak, from shapes alone; a named batch counts as one image. The fractions of the
peak were measured on two Zen 5 cores with AVX-512 (templates/cpp/README.md).
"""

from __future__ import annotations

import math

from graphc.ir.graph import Node, Value
from graphc.passes.layout.moves import known

_MOVE_COST = 96
"""Multiply-adds in the time in which a transpose reads and writes an element."""

_LAST = 0.86
"""Of the peak, where a pixel's channels lie together."""

_PLAIN, _STRIDED, _WINDOWED = 0.78, 0.62, 0.74
"""Of the peak on [N,C,...]: kernels of one element, any stride beyond 1, larger kernels."""

_LANES = 32
"""Pixels of a register tile of [N,C,...]."""

_SHORT = 8
"""Multiply-adds more that a sum costs: what there is to a pixel beside its terms."""

_FEW_CHANNELS = 16
"""Below that Winograd's algorithm does not pay."""


def gain(node: Node) -> float:
    """The time that a convolution takes on [N,C,...] minus that on [N,...,C]."""
    w, y = node.inputs[1], node.output
    batch, outputs, *places = known(y.type.shape)
    channels, *kernel = known(w.type.shape[1:])
    pixels = math.prod(places)
    work = batch * pixels * outputs * channels * math.prod(kernel)
    if _has_fast_algorithm(node, outputs, channels, kernel):
        # Winograd's transforms, which read and write images, are a part of it.
        return 12.0 * batch * pixels * (channels + outputs)
    strided = any(step != 1 for step in node.attributes["stride"])
    if strided:
        row, first = places[-1] * min(places[0], 4), _STRIDED
    else:
        row, first = pixels, _PLAIN if math.prod(kernel) == 1 else _WINDOWED
    first *= row / (-(-row // _LANES) * _LANES)
    line = channels * kernel[-1]
    last = _LAST * line / (line + _SHORT)
    return work / first - work / last


def _has_fast_algorithm(node: Node, outputs: int, channels: int, kernel: list[int]) -> bool:
    attributes = node.attributes
    single = all(step == 1 for name in ("stride", "dilate") for step in attributes[name])
    return kernel == [3, 3] and single and min(outputs, channels) >= _FEW_CHANNELS


def transpose_cost(value: Value) -> float:
    """The time of moving an image's channels."""
    return float(_MOVE_COST * math.prod(known(value.type.shape)))
