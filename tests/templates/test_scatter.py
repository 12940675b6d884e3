"""templates/cpp/scatter.h against numpy: repeated and foreign indices, narrow and wide rows, any number of threads."""

import ctypes

import numpy as np
import pytest
from numpy.typing import NDArray

from support.native import build, call


def _scatter(
    index: NDArray[np.int64], source: NDArray[np.floating], start: NDArray[np.floating]
) -> NDArray[np.floating]:
    out = start.copy()
    function = build("scatter").scatter_add_f32 if source.itemsize == 4 else build("scatter").scatter_add_f64
    call(function, len(index), source.shape[1], len(out), index, source, out)
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("count", "width", "rows"),
    [(0, 8, 4), (7, 1, 3), (50, 5, 1), (3000, 64, 50), (40, 1000, 30), (9, 0, 3), (20_000, 3, 11)],
)
def test_rows_add_up_in_order(count: int, width: int, rows: int, dtype: type[np.floating]) -> None:
    random = np.random.default_rng(count + width)
    index = random.integers(0, rows, count)
    source = random.standard_normal((count, width)).astype(dtype)
    start = random.standard_normal((rows, width)).astype(dtype)
    expected = start.copy()
    for i, row in enumerate(index):
        expected[row] += source[i]
    np.testing.assert_array_equal(_scatter(index, source, start), expected)


def test_an_index_outside_is_left_out() -> None:
    index = np.array([0, -1, 2, 3, 2**40, 2], np.int64)
    source = np.ones((6, 20), np.float32)
    out = _scatter(index, source, np.zeros((3, 20), np.float32))
    np.testing.assert_array_equal(out, np.outer([1, 0, 2], np.ones(20)))


@pytest.mark.parametrize("width", [3, 512])
def test_the_result_is_the_same_on_any_number_of_threads(width: int) -> None:
    random = np.random.default_rng(0)
    index = random.integers(0, 40, 9000)
    source = random.standard_normal((9000, width)).astype(np.float32)
    start = np.zeros((40, width), np.float32)
    library = build("scatter")
    before = library.exchange_threads(ctypes.c_int(1))
    alone = _scatter(index, source, start)
    library.exchange_threads(ctypes.c_int(5))
    shared = _scatter(index, source, start)
    library.exchange_threads(ctypes.c_int(before))
    np.testing.assert_array_equal(shared, alone)
