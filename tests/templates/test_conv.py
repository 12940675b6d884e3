"""templates/cpp/conv.h against torch in float64: planes and volumes, strides, pads, dilations, groups, threads."""

import ctypes
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from support.conv_shapes import Sides, conv_shape, out_sides
from support.native import build, call, targets

Tensor = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Case:
    """One convolution: the image or volume, the kernel and its window, where it differs from 1, 0 and 1."""

    batch: int
    in_channels: int
    image: Sides
    out_channels: int
    kernel: Sides
    stride: Sides = ()
    pad: Sides = ()
    dilation: Sides = ()
    groups: int = 1

    def steps(self) -> tuple[Sides, Sides, Sides]:
        """Strides, pads and dilations."""
        rank = len(self.kernel)
        return self.stride or (1,) * rank, self.pad or (0,) * rank, self.dilation or (1,) * rank

    def out(self) -> Sides:
        """Return the sides of the output."""
        return out_sides(self.image, self.kernel, *self.steps())

    def shape(self) -> NDArray[np.int64]:
        """Return the integers of gc_conv_shape."""
        channels = (self.groups, self.in_channels, self.out_channels)
        return conv_shape(self.batch, *channels, self.image, self.kernel, *self.steps())


CASES = [
    Case(2, 1, (28, 28), 20, (5, 5)),
    Case(3, 20, (12, 12), 50, (5, 5)),
    Case(5, 3, (8, 8), 7, (3, 3), pad=(1, 1)),
    Case(2, 16, (13, 9), 33, (3, 3), stride=(2, 2), pad=(1, 1)),
    Case(1, 3, (35, 37), 8, (7, 7), stride=(2, 2), pad=(3, 3)),
    Case(2, 5, (1, 57), 6, (1, 4), stride=(1, 3), pad=(0, 2)),
    Case(2, 4, (11, 12), 6, (3, 2), pad=(2, 1), dilation=(2, 3)),
    Case(2, 6, (10, 7), 9, (3, 3), pad=(1, 1), groups=3),
    Case(2, 6, (10, 11), 6, (3, 3), stride=(2, 1), pad=(1, 1), groups=6),
    Case(2, 4, (9, 9), 8, (3, 3), pad=(1, 1), groups=4),
    Case(3, 70, (7, 7), 40, (1, 1)),
    Case(2, 9, (8, 8), 5, (1, 1), stride=(2, 2)),
    Case(1, 2, (3, 3), 3, (3, 3), pad=(4, 4)),
    Case(1, 64, (20, 20), 64, (3, 3), pad=(1, 1)),
    Case(2, 3, (5, 5), 2, (5, 5)),
    Case(3, 34, (9, 11), 51, (3, 3), pad=(1, 1), groups=17),
    Case(1, 64, (7, 8), 128, (3, 3), stride=(2, 1), pad=(1, 1), groups=16),
    Case(9, 2, (13, 6), 5, (3, 5), pad=(2, 2), dilation=(2, 1)),
    Case(2, 12, (21, 30), 12, (3, 3), pad=(1, 1), groups=3),
]
VOLUMES = [
    Case(2, 3, (7, 9, 11), 5, (3, 3, 3), pad=(1, 1, 1)),
    Case(2, 16, (6, 14, 14), 24, (3, 3, 3), pad=(1, 1, 1)),
    Case(1, 4, (9, 10, 13), 6, (3, 2, 4), stride=(2, 3, 2), pad=(1, 0, 2)),
    Case(3, 2, (5, 7, 6), 7, (2, 3, 1), stride=(1, 2, 1), pad=(2, 1, 0), dilation=(3, 1, 2)),
    Case(2, 6, (4, 8, 5), 9, (3, 3, 3), pad=(1, 1, 1), groups=3),
    Case(2, 5, (6, 5, 7), 5, (3, 3, 3), stride=(2, 1, 2), pad=(1, 1, 1), groups=5),
    Case(2, 33, (3, 5, 7), 17, (1, 1, 1)),
    Case(2, 7, (5, 6, 7), 4, (1, 1, 1), stride=(3, 2, 4)),
    Case(2, 5, (3, 6, 9), 8, (1, 3, 3), pad=(0, 1, 1)),
    Case(1, 8, (11, 1, 1), 3, (5, 1, 1), pad=(2, 0, 0)),
    Case(1, 3, (2, 2, 2), 4, (5, 5, 5), pad=(3, 2, 4)),
    Case(2, 8, (3, 6, 9), 12, (3, 3, 3), pad=(1, 1, 1), groups=4),
    Case(1, 1, (1, 1, 1), 1, (1, 1, 1), pad=(1, 0, 1)),
]


def _random(shape: tuple[int, ...], seed: int, dtype: type[np.floating]) -> Tensor:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def _tensors(case: Case, dtype: type[np.floating] = np.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Return the image, the weight and the gradient that comes back to the output."""
    x = _random((case.batch, case.in_channels, *case.image), 1, dtype)
    w = _random((case.out_channels, case.in_channels // case.groups, *case.kernel), 2, dtype)
    return x, w, _random((case.batch, case.out_channels, *case.out()), 3, dtype)


def _oracle(case: Case, x: Tensor, w: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, gradient to the image, gradient to the weight, in float64."""
    image = torch.from_numpy(x).double().requires_grad_()
    weight = torch.from_numpy(w).double().requires_grad_()
    function = torch.nn.functional.conv2d if len(case.kernel) == 2 else torch.nn.functional.conv3d
    y = function(image, weight, None, *case.steps(), case.groups)
    dx, dw = torch.autograd.grad(y, (image, weight), torch.from_numpy(dy).double())
    return y.detach().numpy(), dx.numpy(), dw.numpy()


def _run(
    case: Case, x: Tensor, w: Tensor, dy: Tensor, target: str = "native"
) -> tuple[Tensor, Tensor, Tensor]:
    library, shape = build("conv", target), case.shape()
    suffix = "f32" if x.dtype == np.float32 else "f64"
    y, dx, dw = (np.full_like(like, np.nan) for like in (dy, x, w))
    call(getattr(library, f"forward_{suffix}"), shape, x, w, y)
    call(getattr(library, f"data_gradient_{suffix}"), shape, dy, w, dx)
    call(getattr(library, f"weight_gradient_{suffix}"), shape, x, dy, dw)
    return y, dx, dw


def _run_in_runs(
    case: Case, x: Tensor, w: Tensor, dy: Tensor, target: str = "native"
) -> tuple[Tensor, Tensor] | None:
    """Return both gradients by runs, None where the shape has none."""
    dx, dw = np.full_like(x, np.nan), np.full_like(w, np.nan)
    function = getattr(build("conv", target), f"in_runs_{'f32' if x.dtype == np.float32 else 'f64'}")
    arrays = (case.shape(), x, w, dy, dx, dw)
    return (dx, dw) if function(*(ctypes.c_void_p(array.ctypes.data) for array in arrays)) else None


def _assert_agrees(case: Case, dtype: type[np.floating], target: str = "native") -> None:
    tensors = _tensors(case, dtype)
    # Sums of magnitudes bound the error of any order of summation.
    scales = _oracle(case, *(np.abs(tensor) for tensor in tensors))
    terms = max(case.in_channels * np.prod(case.kernel), case.batch * np.prod(case.out()), case.out_channels)
    y, *gradients = _run(case, *tensors, target)
    for run in (tuple(gradients), _run_in_runs(case, *tensors, target) or tuple(gradients)):
        for got, exact, scale in zip((y, *run), _oracle(case, *tensors), scales, strict=True):
            bound = float(terms + 8) * float(np.finfo(dtype).eps) * scale
            assert np.all(np.abs(got - exact) <= bound), case


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES + VOLUMES, ids=str)
def test_forward_and_both_gradients(case: Case, dtype: type[np.floating]) -> None:
    _assert_agrees(case, dtype)


@pytest.mark.parametrize("target", targets()[1:])
@pytest.mark.parametrize("case", [*CASES[1:9], CASES[-1], *VOLUMES[:4]], ids=str)
def test_other_instruction_sets(case: Case, target: str) -> None:
    _assert_agrees(case, np.float32, target)


RUNS = [
    Case(5, 20, (12, 12), 50, (5, 5)),
    Case(9, 32, (16, 15), 64, (5, 5), pad=(2, 1)),
    Case(4, 24, (11, 9), 40, (3, 3), stride=(2, 2), pad=(1, 0), dilation=(2, 1)),
    Case(17, 18, (7, 10), 9, (2, 3), stride=(1, 3), pad=(0, 2), dilation=(1, 3)),
    Case(2, 17, (40, 33), 16, (3, 3), pad=(3, 2)),
    Case(1, 40, (1, 90), 30, (1, 7), pad=(0, 3)),
    Case(6, 34, (6, 6), 34, (3, 3), pad=(1, 1), groups=2),
    Case(8, 16, (5, 5), 1, (5, 5)),
]


@pytest.mark.parametrize("target", targets())
@pytest.mark.parametrize("case", RUNS, ids=str)
def test_both_gradients_by_runs(case: Case, target: str) -> None:
    assert _run_in_runs(case, *_tensors(case), target) is not None
    _assert_agrees(case, np.float32, target)
    _assert_agrees(case, np.float64, target)


def test_runs_are_where_they_pay_and_keep_to_the_pixels_that_meet() -> None:
    case = RUNS[0]
    x, w, dy = _tensors(case)
    dy[3, 7, 2, 5] = np.inf
    _, dx, dw = _run(case, x, w, dy)
    by_runs = _run_in_runs(case, x, w, dy)
    assert by_runs is not None
    for chosen, run in zip((dx, dw), by_runs, strict=True):
        np.testing.assert_array_equal(chosen, run)
    assert np.isinf(dx[3, :, 2:7, 5:10]).all() and np.isinf(dw[7]).all()
    dx[3, :, 2:7, 5:10], dw[7] = 0, 0
    assert np.isfinite(dx).all() and np.isfinite(dw).all()


def test_an_empty_batch_gives_nothing_and_a_zero_weight_gradient() -> None:
    case = Case(0, 3, (6, 6), 4, (3, 3))
    y, dx, dw = _run(case, *_tensors(case))
    assert y.size == 0 and dx.size == 0
    np.testing.assert_array_equal(dw, np.zeros_like(dw))


def test_padding_is_zero_and_nan_stays_where_it_was() -> None:
    case = Case(1, 2, (9, 9), 3, (3, 3), pad=(1, 1))
    x, w, dy = _tensors(case)
    x[0, 1, 4, 4] = np.nan
    y, _, _ = _run(case, x, w, dy)
    assert np.isnan(y[:, :, 3:6, 3:6]).all()
    y[:, :, 3:6, 3:6] = 0
    assert np.isfinite(y).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_with_the_weights_that_meet_it(bad: float) -> None:
    case = Case(2, 4, (6, 7), 4, (3, 3))
    x, w, dy = _tensors(case)
    x[1, 2, 0, 0] = bad
    with np.errstate(invalid="ignore"):
        _, _, exact = _oracle(case, x, w, dy)
        dw = _run(case, x, w, dy)[2]
    np.testing.assert_array_equal(np.isnan(dw), np.isnan(exact))
    np.testing.assert_array_equal(np.isinf(dw), np.isinf(exact))
    assert np.isfinite(dw[:, :2]).all() and not np.isfinite(dw[:, 2, 0, 0]).any()


def test_a_nan_in_a_volume_reaches_what_meets_it() -> None:
    case = Case(1, 2, (6, 7, 8), 3, (3, 3, 3), pad=(1, 1, 1))
    x, w, dy = _tensors(case)
    x[0, 1, 0, 3, 4] = np.nan
    y, _, _ = _run(case, x, w, dy)
    assert np.isnan(y[:, :, 0:2, 2:5, 3:6]).all()
    y[:, :, 0:2, 2:5, 3:6] = 0
    assert np.isfinite(y).all()


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    library = build("conv")
    for case in (
        CASES[1],
        CASES[3],
        *RUNS[:3],
        Case(8, 16, (30, 30), 40, (3, 3), pad=(1, 1)),
        Case(4, 64, (30, 30), 64, (3, 3), groups=64),
        Case(3, 8, (6, 30, 30), 40, (3, 3, 3), pad=(1, 1, 1)),
    ):
        tensors = _tensors(case)
        before = library.exchange_threads(ctypes.c_int(1))
        alone = _run(case, *tensors)
        library.exchange_threads(ctypes.c_int(3))
        shared = _run(case, *tensors)
        library.exchange_threads(ctypes.c_int(before))
        for one, three in zip(alone, shared, strict=True):
            np.testing.assert_array_equal(one, three)


def test_epilogue_fuses_bias_and_relu() -> None:
    case = Case(3, 5, (14, 14), 24, (3, 3), pad=(1, 1))
    x, w, dy = _tensors(case)
    bias = _random((case.out_channels,), 4, np.float32)
    y = np.full_like(dy, np.nan)
    call(build("conv").forward_bias_relu_f32, case.shape(), x, w, bias, y)
    expected = np.maximum(_oracle(case, x, w, dy)[0] + bias[:, None, None], 0)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
