"""templates/cpp/gemm.h against float64 products: odd and empty shapes, every stride order, NaN, batches, epilogues."""

import ctypes

import numpy as np
import pytest
from numpy.typing import NDArray

from support.native import DRIVERS, HEADERS, build, call, targets

Matrix = NDArray[np.floating]


def _random(rows: int, columns: int, transposed: bool, dtype: type[np.floating], seed: int) -> Matrix:
    random = np.random.default_rng(seed)
    if transposed:
        return random.standard_normal((columns, rows)).astype(dtype).T
    return random.standard_normal((rows, columns)).astype(dtype)


def _product(a: Matrix, b: Matrix, target: str = "native", kind: str = "gemm") -> Matrix:
    size = a.dtype.itemsize
    c = np.full((a.shape[0], b.shape[1]), np.nan if kind == "gemm" else 0, a.dtype)
    function = getattr(build("gemm", target), f"{kind}_f32" if size == 4 else f"{kind}_f64")
    a_strides, b_strides = (tuple(stride // size for stride in side.strides) for side in (a, b))
    call(function, *c.shape, a.shape[1], a, *a_strides, b, *b_strides, c)
    return c


def _assert_product(a: Matrix, b: Matrix, target: str = "native", kind: str = "gemm") -> None:
    # A running sum of k terms errs by at most about k units in the last place of the sum of magnitudes.
    exact = a.astype(np.float64) @ b.astype(np.float64)
    scale = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    bound = (a.shape[1] + 1) * float(np.finfo(a.dtype).eps) * scale
    got = _product(a, b, target, kind)
    assert np.all(np.abs(got - exact) <= bound), (a.shape, b.shape, target, kind)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False), (True, True)])
def test_odd_shapes_in_every_stride_order(transposed: tuple[bool, bool], dtype: type[np.floating]) -> None:
    for m in (1, 2, 3, 7, 13, 14, 15, 29, 64):
        for n in (1, 5, 16, 17, 33, 64, 131):
            for k in (1, 16, 100, 401):
                a = _random(m, k, transposed[0], dtype, m)
                b = _random(k, n, transposed[1], dtype, n)
                _assert_product(a, b)


@pytest.mark.parametrize("target", targets())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_small_products_read_their_operands_in_place(dtype: type[np.floating], target: str) -> None:
    for m, n, k in (
        (8, 16, 1),
        (9, 17, 3),
        (10, 64, 64),
        (64, 784, 64),
        (31, 100, 7),
        (100, 47, 33),
        (65, 16, 0),
    ):
        for across in (False, True):
            _assert_product(_random(m, k, across, dtype, 1), _random(k, n, False, dtype, 2), target, "small")
    for m, n, k in ((8, 8, 16), (64, 64, 784), (10, 9, 17), (64, 10, 130), (256, 41, 63), (13, 500, 31)):
        _assert_product(_random(m, k, False, dtype, 1), _random(k, n, True, dtype, 2), target, "small")


@pytest.mark.parametrize("transposed", [False, True])
def test_small_products_are_the_same_on_any_threads_and_keep_what_is_not_finite(transposed: bool) -> None:
    library = build("gemm")
    a, b = _random(99, 203, False, np.float32, 1), _random(203, 501, transposed, np.float32, 2)
    a[7, 200], a[98, 3], b[202, 40] = np.nan, np.inf, np.inf
    results = []
    before = library.exchange_threads(ctypes.c_int(1))
    for threads in (1, 2, 3, 5):
        library.exchange_threads(ctypes.c_int(threads))
        results.append(_product(a, b, kind="small"))
    library.exchange_threads(ctypes.c_int(before))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    finite = np.isfinite(results[0])
    assert np.isnan(results[0][7]).all() and not finite[98].any() and not finite[:, 40].any()
    finite[[7, 98]], finite[:, 40] = True, True
    assert finite.all()


@pytest.mark.parametrize("target", targets())
@pytest.mark.parametrize("transposed", [False, True])
def test_every_instruction_set_blocks_all_three_extents(transposed: bool, target: str) -> None:
    for m, n, k in ((521, 401, 787), (17, 1031, 6), (97, 23, 3), (95, 300, 2100)):
        a = _random(m, k, transposed, np.float32, 1)
        b = _random(k, n, transposed, np.float32, 2)
        _assert_product(a, b, target)


def test_the_last_block_of_rows_may_be_shorter_than_a_tile() -> None:
    _assert_product(_random(2187, 1030, False, np.float32, 7), _random(1030, 288, False, np.float32, 8))


def test_rows_a_power_of_two_apart_and_views_with_gaps() -> None:
    wide = _random(130, 4096, False, np.float32, 3)
    _assert_product(wide[:, :1024], wide[:30, :1024].T)
    _assert_product(wide[::2, 5:1029:3], _random(342, 80, False, np.float32, 4)[:, ::2])


def test_a_broadcast_operand_has_stride_zero() -> None:
    row = _random(1, 50, False, np.float32, 5)
    _assert_product(np.broadcast_to(row, (20, 50)), _random(50, 33, False, np.float32, 6))
    column = _random(50, 1, False, np.float32, 7)
    _assert_product(_random(20, 50, False, np.float32, 8), np.broadcast_to(column, (50, 33)))


@pytest.mark.parametrize(("m", "n", "k"), [(0, 5, 3), (5, 0, 3), (5, 3, 0), (0, 0, 0)])
def test_empty_extents(m: int, n: int, k: int) -> None:
    result = _product(np.ones((m, k), np.float32), np.ones((k, n), np.float32))
    np.testing.assert_array_equal(result, np.zeros((m, n)))


def test_nan_and_infinity_reach_their_row_and_column_only() -> None:
    a, b = _random(40, 50, False, np.float32, 1), _random(50, 45, False, np.float32, 2)
    a[3, 7] = np.nan
    b[9, 44] = np.inf
    with np.errstate(invalid="ignore"):
        expected = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(_product(a, b), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("depth", [1000, 1500])
def test_a_sum_depends_on_neither_rows_nor_columns_nor_threads(depth: int) -> None:
    a, b = _random(200, depth, False, np.float32, 1), _random(depth, 300, True, np.float32, 2)
    library = build("gemm")
    before = library.exchange_threads(ctypes.c_int(1))
    alone = _product(a, b)
    library.exchange_threads(ctypes.c_int(5))
    shared = _product(a, b)
    library.exchange_threads(ctypes.c_int(before))
    np.testing.assert_array_equal(shared, alone)
    np.testing.assert_array_equal(_product(a[77:78], b), alone[77:78])
    np.testing.assert_array_equal(_product(a[:20], b[:, 250:]), alone[:20, 250:])


def test_epilogue_fuses_bias_and_relu() -> None:
    m, n, k = 65, 100, 784
    a, w = _random(m, k, False, np.float32, 1), _random(n, k, False, np.float32, 2)
    bias = _random(1, n, False, np.float32, 3)
    y = np.full((m, n), np.nan, np.float32)
    call(build("gemm").fully_connected_f32, m, n, k, a, w, bias, y)
    np.testing.assert_allclose(y, np.maximum(a.astype(np.float64) @ w.T + bias, 0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("batch", "m", "n", "k"), [(1, 200, 170, 90), (3, 64, 65, 33), (40, 20, 17, 64), (0, 3, 3, 3)]
)
@pytest.mark.parametrize("shared", [False, True])
def test_batches_with_own_or_shared_right_operand(batch: int, m: int, n: int, k: int, shared: bool) -> None:
    random = np.random.default_rng(9)
    a = random.standard_normal((batch, m, k)).astype(np.float32)
    b = random.standard_normal((1 if shared else batch, k, n)).astype(np.float32)
    c = np.full((batch, m, n), np.nan, np.float32)
    call(build("gemm").batched_f32, batch, m, n, k, a, m * k, b, 0 if shared else k * n, c)
    np.testing.assert_allclose(c, a.astype(np.float64) @ b, rtol=1e-4, atol=1e-4)


def test_headers_include_no_standard_library_beyond_integers() -> None:
    included = {
        line.split()[1]
        for path in [*HEADERS.glob("*.h"), *DRIVERS.glob("*.cpp")]
        if path.name != "alone.h"  # the main program of -DGC_ALONE: a library never reads it
        for line in path.read_text().splitlines()
        if line.startswith("#include <")
    }
    assert included <= {"<stdint.h>", "<stddef.h>"}
