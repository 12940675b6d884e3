"""templates/cpp/channels_last.h and winograd_last.h against torch in float64, on each instruction set."""

import ctypes

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from graphc.codegen.cpp.winograd import Winograd
from support.native import build, call, targets

CASES = [  # batch, in and out channels, image, kernel, stride, pad, dilation
    (2, 3, 35, (21, 23), (7, 7), (2, 2), (3, 3), (1, 1)),
    (1, 37, 66, (9, 8), (1, 1), (1, 1), (0, 0), (1, 1)),
    (2, 33, 17, (13, 12), (3, 3), (1, 1), (1, 1), (1, 1)),
    (1, 20, 40, (11, 9), (3, 2), (2, 3), (2, 0), (1, 2)),
    (2, 33, 50, (10, 7), (5, 5), (1, 1), (2, 3), (1, 1)),
]
Shape = NDArray[np.int64]


def problem(case: tuple) -> tuple[Shape, NDArray, NDArray, NDArray]:
    """The shape, x [N,H,W,C], w and y [N,H,W,C], exact."""
    batch, inputs, outputs, image, kernel, stride, pad, dilation = case
    generator = np.random.default_rng(1)
    x = generator.standard_normal((batch, *image, inputs)).astype(np.float32)
    w = generator.standard_normal((outputs, inputs, *kernel)).astype(np.float32)
    first = torch.from_numpy(x).double().movedim(-1, 1)
    y = torch.nn.functional.conv2d(first, torch.from_numpy(w).double(), None, stride, pad, dilation)
    out = y.shape[2:]
    shape = [batch, 1, inputs, outputs, *image, *out, *kernel, *stride, *pad, *dilation, 1, 1, 1, 1, 0, 1]
    return np.array(shape, np.int64), x, w, y.movedim(1, -1).contiguous().numpy()


def check(got: NDArray, exact: NDArray, bound: float = 3e-6) -> None:
    assert np.abs(got - exact).max() <= bound * np.abs(exact).max()


@pytest.mark.parametrize("target", targets())
def test_direct_sums_and_lines(target: str) -> None:
    library = build("channels_last", target)
    for case in CASES:
        shape, x, w, exact = problem(case)
        packed = np.full(w.size // w.shape[0] * -(-w.shape[0] // 16) * 16, np.nan, np.float32)
        for pack, forward in (("pack_f32", "forward_f32"), ("pack_lines", "lines")):
            got = np.full(exact.shape, np.nan, np.float32)
            if pack == "pack_lines" and case[-1][1] != 1:
                continue
            call(getattr(library, pack), shape, w, packed)
            call(getattr(library, forward), shape, x, packed, got)
            check(got, exact)


@pytest.mark.parametrize("target", targets())
@pytest.mark.parametrize(("case", "name"), [(2, "winograd_packing"), (4, "winograd_packing_five")])
def test_winograd(target: str, case: int, name: str) -> None:
    library = build("channels_last", target)
    shape, x, w, exact = problem(CASES[case])
    plan = Winograd(33, w.shape[0], 8, 32, 32)
    packed = np.full(plan.packed_elements(False) + 16, np.nan, np.float32)
    packed = packed[-packed.ctypes.data % 64 // 4 :]
    cut = np.array([plan.tiles, plan.outputs_at_once, plan.packed_at_once, 0], np.int64)
    got = np.full(exact.shape, np.nan, np.float32)
    call(getattr(library, name), shape, cut, x, w, packed, got)
    check(got, exact, 1e-5)


def test_results_do_not_depend_on_threads() -> None:
    library = build("channels_last")
    library.exchange_threads.restype = ctypes.c_int
    shape, x, w, exact = problem((2, 64, 96, (30, 31), (3, 3), (1, 1), (1, 1), (1, 1)))
    packed = np.zeros(w.size, np.float32)
    call(library.pack_f32, shape, w, packed)
    results = []
    for threads in (1, 2, 5):
        before = library.exchange_threads(ctypes.c_int(threads))
        got = np.full(exact.shape, np.nan, np.float32)
        call(library.forward_f32, shape, x, packed, got)
        library.exchange_threads(ctypes.c_int(before))
        results.append(got.tobytes())
    assert results[0] == results[1] == results[2]
