"""The integers of gc_conv_shape (templates/cpp/image.h) for the drivers of the template tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Sides = tuple[int, ...]


def out_sides(image: Sides, kernel: Sides, stride: Sides, pad: Sides, dilation: Sides) -> Sides:
    """The sides of a convolution's output."""
    axes = zip(image, kernel, stride, pad, dilation, strict=True)
    return tuple((size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in axes)


def conv_shape(
    batch: int, groups: int, inputs: int, outputs: int, image: Sides, kernel: Sides, *steps: Sides
) -> NDArray[np.int64]:
    """All 22 integers, from one to three spatial axes; `steps` are strides, pads and dilations."""
    out = out_sides(image, kernel, *steps)
    axes = list(zip(image, out, kernel, *steps, strict=True))
    axes = [(1, 1, 1, 1, 0, 1)] * (3 - len(axes)) + axes
    depth, height, width = axes
    plane: Sequence[int] = [value for pair in zip(height, width, strict=True) for value in pair]
    return np.array([batch, groups, inputs, outputs, *plane, *depth], np.int64)
