"""Blocks for arenas and outputs."""

import numpy as np
import pytest

from graphc.runtime.memory import ALIGNMENT, OutputPool, allocate


@pytest.mark.parametrize("nbytes", [0, 1, 63, 4096, (2 << 20) - 1, 2 << 20, (4 << 20) + 5])
def test_allocate(nbytes: int) -> None:
    block = allocate(nbytes)
    assert block.size == max(nbytes, 1) and block.ctypes.data % ALIGNMENT == 0
    assert not block.any()
    block[:] = 255


def test_allocation_that_fails_says_how_much() -> None:
    with pytest.raises(MemoryError, match=r"1,152,921,504,606,846,976 bytes"):
        allocate(1 << 60)


def test_a_block_returns_when_its_last_view_goes() -> None:
    pool = OutputPool()
    lent = pool.take(256).view(np.float32)
    address, view = lent.ctypes.data, lent[3:]
    del lent
    assert pool.take(256).ctypes.data != address
    del view
    assert address in {pool.take(256).ctypes.data for _ in range(1)} | {pool.take(256).ctypes.data}


def test_the_pool_keeps_no_more_than_its_limit() -> None:
    pool = OutputPool(limit=100)
    blocks = [pool.take(60) for _ in range(3)]
    del blocks
    assert pool._kept <= 100
    pool.clear()
    assert pool._kept == 0
