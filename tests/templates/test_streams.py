"""Stores past the cache: every element once and nothing beside them, wherever targets begin, for any count."""

import ctypes

import numpy as np
import pytest
import torch

from support.native import build, targets

GUARD = 96  # elements before and after each target that must stay as they were


class Target:
    """Room for `count` elements `shift` elements after a 64-byte boundary, with guards around."""

    def __init__(self, count: int, shift: int, dtype: torch.dtype) -> None:
        self.all = torch.full((count + shift + 2 * GUARD + 64,), -7.0, dtype=dtype)
        boundary = -self.all.data_ptr() % 64 // self.all.element_size()
        self.first = boundary + GUARD // 32 * 32 + shift
        self.count = count

    @property
    def address(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.all.data_ptr() + self.first * self.all.element_size())

    def check(self, want: torch.Tensor) -> None:
        assert torch.equal(self.all[self.first : self.first + self.count], want.to(self.all.dtype))
        assert bool((self.all[: self.first] == -7.0).all())
        assert bool((self.all[self.first + self.count :] == -7.0).all())


def _values(count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(count).standard_normal(max(count, 1), np.float32))[:count]


@pytest.mark.parametrize("target", targets())
def test_any_count_and_boundary(target: str) -> None:
    library = build("streams", target)
    for count in (0, 1, 15, 16, 17, 63, 64, 65, 129, 1000):
        x = _values(count)
        source, size = ctypes.c_void_p(x.data_ptr()), ctypes.c_int64(count)
        for shift in (0, 1, 3, 8, 15, 16, 31):
            floats = [Target(count, s, torch.float32) for s in (shift, 16, (shift + 5) % 32)]
            bf16, f16 = Target(count, shift, torch.bfloat16), Target(count, 2 * shift, torch.float16)
            library.streams_any(source, size, *(t.address for t in (*floats[:2], bf16, f16)))
            for made, want in zip((*floats[:2], bf16, f16), (2 * x, x + 1, x, x), strict=True):
                made.check(want)
            alone = Target(count, shift, torch.float16)
            library.streams_half_first(source, size, alone.address)
            alone.check(x)


@pytest.mark.parametrize("target", targets())
def test_whole_blocks(target: str) -> None:
    library = build("streams", target)
    for count in (0, 32, 96, 1024):
        for shift in (0, 5):  # a buffer that lies elsewhere than promised is written all the same
            x = _values(count)
            a, c = Target(count, shift, torch.float32), Target(count, shift, torch.bfloat16)
            library.streams_even(ctypes.c_void_p(x.data_ptr()), ctypes.c_int64(count), a.address, c.address)
            a.check(2 * x)
            c.check(x)
