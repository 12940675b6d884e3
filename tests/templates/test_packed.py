"""templates/cpp/packed.h and matvec.h against float64 products: odd and empty shapes, both orientations, threads."""

import numpy as np
import pytest
from numpy.typing import NDArray

from support.native import build, call, targets

Matrix = NDArray[np.floating]


def _random(rows: int, columns: int, transposed: bool, dtype: type[np.floating], seed: int) -> Matrix:
    random = np.random.default_rng(seed)
    shape = (columns, rows) if transposed else (rows, columns)
    made = random.standard_normal(shape).astype(dtype)
    return made.T if transposed else made


def _packed(a: Matrix, b: Matrix, target: str = "native") -> Matrix:
    size = a.dtype.itemsize
    (m, k), n = a.shape, b.shape[1]
    c = np.full((m, n), np.nan, a.dtype)
    # Room for whole registers of any width, as codegen/cpp/packing.py plans it, and a border that must stay.
    count = k * -(-n // (64 // size)) * (64 // size)
    packed = np.full(count + 64, 7, a.dtype)
    strides = [tuple(stride // size for stride in side.strides) for side in (a, b)]
    function = getattr(build("packed", target), "packed_f32" if size == 4 else "packed_f64")
    call(function, m, n, k, a, *strides[0], b, *strides[1], packed, c)
    assert (packed[count:] == 7).all()
    return c


def _assert_close(found: Matrix, a: Matrix, b: Matrix) -> None:
    exact = a.astype(np.float64) @ b.astype(np.float64)
    scale = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    assert np.all(np.abs(found - exact) <= (a.shape[1] + 1) * np.finfo(a.dtype).eps * scale), (
        a.shape,
        b.shape,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False)])
def test_packed_operand_of_odd_shapes(transposed: tuple[bool, bool], dtype: type[np.floating]) -> None:
    for m in (1, 2, 5, 14, 15, 16, 17, 27, 28, 29, 61):
        for n in (1, 15, 16, 17, 32, 33, 67, 530):
            for k in (1, 7, 257, 600):
                a, b = _random(m, k, transposed[0], dtype, m), _random(k, n, transposed[1], dtype, n)
                _assert_close(_packed(a, b), a, b)


@pytest.mark.parametrize("target", targets())
def test_packed_operand_on_every_instruction_set(target: str) -> None:
    for m, n, k in ((301, 571, 787), (17, 1031, 6), (20, 97, 2048), (151, 300, 2100)):
        a, b = _random(m, k, False, np.float32, 1), _random(k, n, True, np.float32, 2)
        _assert_close(_packed(a, b, target), a, b)


@pytest.mark.parametrize(("m", "n", "k"), [(0, 5, 3), (5, 0, 3), (5, 3, 0), (40, 3, 0)])
def test_empty_extents(m: int, n: int, k: int) -> None:
    result = _packed(np.ones((m, k), np.float32), np.ones((k, n), np.float32))
    np.testing.assert_array_equal(result, np.zeros((m, n)))


def test_a_packed_product_does_not_depend_on_the_threads() -> None:
    library = build("packed", "native")
    for m, n, k in ((16, 1500, 700), (200, 333, 500)):
        a, b = _random(m, k, False, np.float32, 3), _random(k, n, True, np.float32, 4)
        before = library.exchange_threads(1)
        alone = _packed(a, b)
        for threads in (2, 3, 5):
            library.exchange_threads(threads)
            np.testing.assert_array_equal(_packed(a, b), alone)
        library.exchange_threads(before)


def _matvec(batch: int, n: int, k: int, along_k: bool, column: bool, target: str = "native") -> Matrix:
    random = np.random.default_rng(n + k)
    x = random.standard_normal((batch, k)).astype(np.float32)
    b = random.standard_normal((batch, n, k) if along_k else (batch, k, n)).astype(np.float32)
    y = np.full((batch, n), np.nan, np.float32)
    strides = (k, 1) if along_k else (1, n)
    call(build("packed", target).matvec_f32, int(column), batch, n, k, x, b, *strides, y)
    wide = b.astype(np.float64) if along_k else b.astype(np.float64).transpose(0, 2, 1)
    exact = np.einsum("bk,bnk->bn", x.astype(np.float64), wide)
    scale = np.einsum("bk,bnk->bn", np.abs(x).astype(np.float64), np.abs(wide))
    assert np.all(np.abs(y - exact) <= (k + 1) * np.finfo(np.float32).eps * scale), (batch, n, k, along_k)
    return y


@pytest.mark.parametrize("target", targets())
@pytest.mark.parametrize("along_k", [True, False])
def test_a_row_or_a_column(along_k: bool, target: str) -> None:
    for n in (1, 3, 4, 17, 130):
        for k in (0, 1, 15, 32, 33, 257):
            _matvec(1, n, k, along_k, n % 2 == 0, target)
    _matvec(3, 70, 50, along_k, True, target)
    _matvec(0, 5, 7, along_k, False, target)
    _matvec(2, 0, 7, along_k, False, target)
    _matvec(1, 4097, 40, along_k, False, target)


@pytest.mark.parametrize("along_k", [True, False])
def test_a_row_does_not_depend_on_the_threads(along_k: bool) -> None:
    library = build("packed", "native")
    before = library.exchange_threads(1)
    alone = _matvec(1, 1003, 700, along_k, False)
    for threads in (2, 3, 7):
        library.exchange_threads(threads)
        np.testing.assert_array_equal(_matvec(1, 1003, 700, along_k, False), alone)
    library.exchange_threads(before)
