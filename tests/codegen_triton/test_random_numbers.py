"""Uniform random numbers: the same bits as Philox 4x32-10 says, for every seed, step, stream and index."""

import numpy as np
import pytest
import torch

from graphc.codegen.triton import generate
from graphc.ir.kernel import Affine
from graphc.runtime.gpu.interpreter import Interpreter
from support.kernels import NestBuilder, make_kernel, program_of, types

MASK = (1 << 32) - 1


def philox(key: tuple[int, int], counter: tuple[int, int, int, int]) -> int:
    """Word 0 of Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3; 2011)."""
    k0, k1 = key
    c0, c1, c2, c3 = counter
    for _ in range(10):
        low, high = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (high >> 32) ^ c1 ^ k0, high & MASK, (low >> 32) ^ c3 ^ k1, low & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0


def test_the_reference_is_philox() -> None:
    """Known answers of the authors' library (Random123, kat_vectors)."""
    assert philox((0, 0), (0, 0, 0, 0)) == 0x6627E8D5
    assert philox((MASK, MASK), (MASK, MASK, MASK, MASK)) == 0x408F276D
    assert philox((0xA4093822, 0x299F31D0), (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)) == 0xD16CFE09


@pytest.mark.parametrize(
    ("seed", "step", "stream", "first"),
    [(0, 0, 0, 0), (7, 3, 2, 0), (-5, 2**40 + 9, 11, 0), (2**62 + 12345, 1, 2**31 - 1, 2**33 + 5)],
)
def test_same_bits(seed: int, step: int, stream: int, first: int, interpreter: Interpreter) -> None:
    ts = types(state="i64[2]", y="f32[5,70]")
    b = NestBuilder(ts, i=5, j=70)
    b.store("y", ["i", "j"], b.random("state", stream, Affine.make(first, [("i", 70), ("j", 1)])))
    generated = generate(program_of(make_kernel("noise", ts, [b], outputs=["y"])))
    _, got = interpreter.run(generated, [torch.tensor([seed, step]), torch.zeros(350)])
    key = (seed & MASK, (seed >> 32) & MASK)
    words = [philox(key, ((first + n) & MASK, (first + n) >> 32, stream, step & MASK)) for n in range(350)]
    np.testing.assert_array_equal(
        got.numpy(), (np.array(words) >> 8).astype(np.float32) * np.float32(2.0**-24)
    )


def test_one_number_a_row(interpreter: Interpreter) -> None:
    ts = types(state="i64[2]", x="f32[6,33]", y="f32[6,33]")
    b = NestBuilder(ts, i=6, j=33)
    b.store("y", ["i", "j"], b.compute("add", b.load("x", "i", "j"), b.random("state", 1, "i")))
    generated = generate(program_of(make_kernel("noise", ts, [b], outputs=["y"])))
    _, _, got = interpreter.run(generated, [torch.tensor([9, 4]), torch.zeros(198), torch.zeros(198)])
    words = np.array([philox((9, 0), (n, 0, 1, 4)) for n in range(6)])
    expected = (words >> 8).astype(np.float32) * np.float32(2.0**-24)
    np.testing.assert_array_equal(got.numpy().reshape(6, 33), np.repeat(expected[:, None], 33, 1))


def test_a_single_number(interpreter: Interpreter) -> None:
    ts = types(state="i64[2]", y="f32[1]")
    b = NestBuilder(ts, i=1)
    b.store("y", ["i"], b.random("state", 3, 0))
    generated = generate(program_of(make_kernel("noise", ts, [b], outputs=["y"])))
    _, got = interpreter.run(generated, [torch.tensor([1, 2]), torch.zeros(1)])
    assert got.item() == (philox((1, 0), (0, 0, 3, 2)) >> 8) * 2.0**-24
