"""Which template computes a convolution of images [N,...,C] (channels_last.h, winograd_last.h), and what it packs.

Direct sums are a product whose rows are pixels; images of few channels are read in place, line by line; kernels of 3x3
and 5x5 weights take a quarter and a third of the multiplications with Winograd's algorithm, where that is cheaper
(winograd.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.codegen.cpp.winograd import DIRECT, WINOGRAD, Winograd, winograd
from graphc.types import Dim, DType, product

CHANNELS_LAST = "channels_last_convolution"
LINES = "lines"

_WIDEST = 16  # lanes: a packed weight has room for any vector width
_READ_COST = 16  # multiply-adds of direct sums in the time in which an element of a weight comes from memory
_SHORT_RUN = 64  # channels of a kernel's row up to which lines are read in place
_BAND = 1 << 16  # elements of an image's band that a thread's workspace holds, in any type


@dataclass(frozen=True, slots=True)
class PixelForm:
    """How a convolution is computed; `plan` with Winograd's algorithm."""

    name: str
    plan: Winograd | None = None

    def packed_elements(self, weight: Sequence[Dim], constant: bool) -> Dim:
        """Elements of the packed weight, for any vector width."""
        if self.plan is not None:
            return self.plan.packed_elements(constant)
        outputs = weight[0]
        rounded = -(-outputs // _WIDEST) * _WIDEST if isinstance(outputs, int) else outputs + _WIDEST
        return product((rounded, *weight[1:]))


def channels_first(shape: Sequence[Dim]) -> tuple[Dim, ...]:
    """[N,C,...] of [N,...,C]."""
    return (shape[0], shape[-1], *shape[1:-1])


def pixel_form(
    image: Sequence[Dim],
    result: Sequence[Dim],
    weight: Sequence[Dim],
    attributes: Mapping[str, Any],
    dtype: DType,
    constant: bool,
) -> PixelForm:
    """The form for these shapes; `constant`: the weight is packed beforehand."""
    first = channels_first(image), channels_first(result)
    plan = winograd(
        *first,
        weight[2:],
        {**attributes, "groups": 1},
        dtype,
        constant,
        _READ_COST,
        may_transform=False,
        kernels=(3, 5),
    )
    if plan is not None:
        return PixelForm(WINOGRAD, plan)
    return PixelForm(LINES if _has_lines(image, weight, attributes) else DIRECT)


def _has_lines(image: Sequence[Dim], weight: Sequence[Dim], attributes: Mapping[str, Any]) -> bool:
    sizes = (*image[1:], *weight[1:])
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) < len(sizes) or min(known) < 1 or product(weight[2:]) == 1:
        return False
    channels, *kernel = known[len(image) - 1 :]
    if attributes["dilate"][-1] != 1 or channels * kernel[-1] > _SHORT_RUN:
        return False
    reach = (kernel[0] - 1) * attributes["dilate"][0] + 1 if len(kernel) > 1 else 1
    pitch = (known[len(kernel) - 1] + 2 * attributes["pad"][-1]) * channels
    return bool(reach * pitch <= _BAND)
