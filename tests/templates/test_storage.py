"""templates/cpp: half-precision conversions bit by bit, and Philox against plain integers."""

import ctypes

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from support.native import build, call, targets


@pytest.mark.parametrize("target", targets())
def test_every_f16_and_bf16_value_converts_exactly(target: str) -> None:
    library = build("storage", target)
    stored = np.arange(2**16, dtype=np.uint32).astype(np.uint16)
    wide = np.empty(2**16, np.float32)
    back = np.empty(2**16, np.uint16)
    for name, numpy_like in (
        ("f16", stored.view(np.float16).astype(np.float32)),
        ("bf16", (stored.astype(np.uint32) << 16).view(np.float32)),
    ):
        call(getattr(library, f"{name}_to_f32"), stored, wide, stored.size)
        np.testing.assert_array_equal(wide, numpy_like)
        call(getattr(library, f"f32_to_{name}"), wide, back, stored.size)
        is_number = ~np.isnan(wide)
        np.testing.assert_array_equal(back[is_number], stored[is_number])


@pytest.mark.parametrize("target", targets())
@pytest.mark.parametrize(("name", "dtype"), [("f16", torch.float16), ("bf16", torch.bfloat16)])
def test_f32_rounds_to_nearest_even(name: str, dtype: torch.dtype, target: str) -> None:
    random = np.random.default_rng(0)
    patterns = random.integers(0, 2**32, 200_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    edges = np.array(
        [65504, 65519.996, 65520, 6e-8, 2.9e-8, 2.98e-8, 6.1e-5, 3.4e38, np.inf, -np.inf], np.float32
    )
    x = np.concatenate([patterns, random.standard_normal(100_000).astype(np.float32), edges])
    y = np.empty(x.size, np.uint16)
    call(getattr(build("storage", target), f"f32_to_{name}"), x, y, x.size)
    expected = torch.from_numpy(x).to(dtype)
    got = torch.from_numpy(y.view(np.int16)).view(dtype)
    assert torch.equal(got.isnan(), expected.isnan())
    assert torch.equal(got[~got.isnan()], expected[~got.isnan()])


def _philox(key: list[int], counter: list[int]) -> list[int]:
    """Philox 4x32-10 as in the paper, on Python integers."""
    for _ in range(10):
        first, second = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [
            (second >> 32) ^ counter[1] ^ key[0],
            second & 0xFFFFFFFF,
            (first >> 32) ^ counter[3] ^ key[1],
            first & 0xFFFFFFFF,
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return counter


def _draw(seed: int, step: int, stream: int, first: int, count: int, target: str) -> NDArray[np.float32]:
    y = np.empty(count, np.float32)
    build("storage", target).philox_uniform(
        ctypes.c_uint64(seed),
        ctypes.c_uint64(step),
        ctypes.c_uint32(stream),
        ctypes.c_uint64(first),
        ctypes.c_void_p(y.ctypes.data),
        ctypes.c_int64(count),
    )
    return y


def test_reference_philox_gives_the_published_vectors() -> None:
    # Random123's kat_vectors: zeros, ones, and digits of pi.
    assert _philox([0, 0], [0, 0, 0, 0]) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = 0xFFFFFFFF
    assert _philox([ones, ones], [ones] * 4) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


@pytest.mark.parametrize("target", targets())
def test_uniform_draws_are_the_reference_bits(target: str) -> None:
    for seed, step, stream, first in (
        (0, 0, 0, 0),
        (0x0123456789ABCDEF, 7, 3, 2**32 - 20),
        (2**64 - 1, 2**32 + 5, 2**32 - 1, 2**40 + 1),
    ):
        drawn = _draw(seed, step, stream, first, 53, target)
        key = [seed & 0xFFFFFFFF, seed >> 32]
        for offset, value in enumerate(drawn):
            index = first + offset
            word = _philox(key, [index & 0xFFFFFFFF, index >> 32, stream, step & 0xFFFFFFFF])[0]
            assert value == np.float32((word >> 8) * 2.0**-24)


def test_uniform_draws_fill_the_unit_interval() -> None:
    drawn = _draw(1, 2, 3, 0, 200_000, "native").astype(np.float64)
    assert drawn.min() >= 0 and drawn.max() < 1
    counts, _ = np.histogram(drawn, bins=20, range=(0, 1))
    assert np.all(np.abs(counts - 10_000) < 500)  # five standard deviations
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.012
