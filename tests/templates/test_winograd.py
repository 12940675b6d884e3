"""templates/cpp/winograd.h against torch in float64: ragged images, any channels, pads, plans, threads, other CPUs."""

import ctypes
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from graphc.codegen.cpp.winograd import Winograd, WinogradGradient, winograd, winograd_gradient
from graphc.types import DType
from support.conv_shapes import conv_shape
from support.native import build, call, targets

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Case:
    """A 3x3 convolution with stride 1 and how its work is cut."""

    batch: int
    inputs: int
    image: tuple[int, int]
    outputs: int
    pad: tuple[int, int] = (1, 1)
    plan: tuple[int, int, int, int] = (28, 64, 64, 0)

    def shape(self) -> NDArray[np.int64]:
        """Return the integers of gc_conv_shape."""
        window = ((3, 3), (1, 1), self.pad, (1, 1))
        return conv_shape(self.batch, 1, self.inputs, self.outputs, self.image, *window)

    def tensors(self) -> tuple[Array, Array, Array]:
        """Return the image, the weight and the gradient that comes back to the output."""
        generator = np.random.default_rng(3)
        out = self.shape()[6:8]
        sizes = (
            (self.batch, self.inputs, *self.image),
            (self.outputs, self.inputs, 3, 3),
            (self.batch, self.outputs, *out),
        )
        x, w, dy = (generator.standard_normal(size, np.float32) for size in sizes)
        return x, w, dy


_LANES = {"native": 16, "x86-64-v3": 8, "x86-64": 4}  # at most, for native

CASES = [
    Case(1, 16, (8, 8), 16),
    Case(2, 20, (9, 13), 37, plan=(5, 32, 32, 0)),
    Case(1, 5, (3, 3), 3, pad=(2, 0)),
    Case(3, 33, (7, 7), 50, pad=(0, 0), plan=(7, 32, 64, 0)),
    Case(1, 300, (6, 5), 70),
    Case(2, 3, (70, 75), 20, pad=(2, 2)),
    Case(17, 8, (4, 4), 130, plan=(16, 64, 128, 0)),
    Case(1, 1, (1, 1), 1),
    Case(17, 40, (4, 4), 130, plan=(17, 64, 0, 32)),
    Case(2, 33, (9, 13), 70, plan=(5, 32, 0, 16)),
    Case(3, 7, (7, 6), 5, pad=(2, 0), plan=(12, 64, 0, 64)),
]


def _packed(case: Case) -> Array:
    sizes = (
        Winograd(inputs, outputs, *case.plan).packed_elements(False)
        for inputs, outputs in ((case.inputs, case.outputs), (case.outputs, case.inputs))
    )
    return np.full(max(sizes), np.nan, np.float32)


def _run(case: Case, target: str = "native") -> tuple[Array, Array, Array]:
    """Return the output, the gradient to the image and that to the weight."""
    library, shape, plan = build("winograd", target), case.shape(), np.array(case.plan, np.int64)
    x, w, dy = case.tensors()
    y, dx, packed = np.full_like(dy, np.nan), np.full_like(x, np.nan), _packed(case)
    call(library.forward, shape, plan, x, w, packed, y)
    call(library.data_gradient, shape, plan, dy, w, packed, dx)
    gradient, dw = WinogradGradient(case.inputs, *case.plan[:2]), np.full_like(w, np.nan)
    shared = np.full(gradient.shared_elements(_LANES[target]), np.nan, np.float32)
    call(library.weight_gradient, shape, np.array(case.plan[:2], np.int64), x, dy, shared, dw)
    return y, dx, dw


def _oracle(case: Case) -> tuple[NDArray[np.float64], ...]:
    x, w, dy = (torch.from_numpy(array).double() for array in case.tensors())
    x.requires_grad_()
    w.requires_grad_()
    y = torch.nn.functional.conv2d(x, w, padding=case.pad)
    dx, dw = torch.autograd.grad(y, (x, w), dy)
    return y.detach().numpy(), dx.numpy(), dw.numpy()


def _check(case: Case, target: str = "native") -> None:
    for got, exact in zip(_run(case, target), _oracle(case), strict=True):
        assert np.abs(got - exact).max() <= 8e-6 * np.abs(exact).max(), case


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_and_both_gradients(case: Case) -> None:
    _check(case)


@pytest.mark.parametrize("target", targets()[1:])
@pytest.mark.parametrize("case", CASES[1:4], ids=str)
def test_other_instruction_sets(case: Case, target: str) -> None:
    _check(case, target)


def test_an_empty_batch_gives_nothing() -> None:
    for plan in ((28, 64, 64, 0), (28, 32, 0, 16)):
        y, dx, dw = _run(Case(0, 16, (6, 6), 16, plan=plan))
        assert y.size == 0 and dx.size == 0
        np.testing.assert_array_equal(dw, np.zeros_like(dw))


def test_a_weight_packed_once_gives_the_same_bits_and_an_epilogue_runs() -> None:
    case = CASES[1]
    library, shape = build("winograd"), case.shape()
    x, w, dy = case.tensors()
    plan = Winograd(case.inputs, case.outputs, *case.plan)
    packed, bias = np.full(plan.packed_elements(True), np.nan, np.float32), np.zeros(case.outputs, np.float32)
    bias[3] = -7
    y = np.full_like(dy, np.nan)
    call(library.pack_weight, shape, w, packed)
    call(library.packed_bias_relu, shape, np.array(case.plan, np.int64), x, packed, bias, y)
    np.testing.assert_array_equal(y, np.maximum(_run(case)[0] + bias[:, None, None], 0))


def test_results_depend_neither_on_the_number_of_threads_nor_on_the_cut_of_outputs() -> None:
    library = build("winograd")
    for size in ((6, 40, (30, 30), 70), (1, 64, (12, 12), 130)):
        results = []
        for threads, plan in ((1, (28, 64, 64, 0)), (3, (28, 64, 64, 0)), (3, (28, 32, 96, 0))):
            before = library.exchange_threads(ctypes.c_int(threads))
            results.append(_run(Case(*size, plan=plan)))
            library.exchange_threads(ctypes.c_int(before))
        for result in results[1:]:
            for got, first in zip(result, results[0], strict=True):
                np.testing.assert_array_equal(got, first)


def test_weights_transformed_on_the_way_give_the_same_bits_on_any_number_of_threads() -> None:
    library = build("winograd")
    for size in ((6, 40, (30, 30), 70), (9, 96, (4, 4), 130)):
        results = []
        for threads, plan in ((1, (28, 64, 0, 32)), (3, (28, 64, 0, 32)), (2, (28, 32, 0, 32))):
            before = library.exchange_threads(ctypes.c_int(threads))
            results.append(_run(Case(*size, plan=plan)))
            library.exchange_threads(ctypes.c_int(before))
        for result in results[1:]:
            for got, first in zip(result, results[0], strict=True):
                np.testing.assert_array_equal(got, first)


def test_nan_stays_in_the_tiles_that_it_touches() -> None:
    case = Case(1, 16, (16, 16), 16)
    library, shape, plan = build("winograd"), case.shape(), np.array(case.plan, np.int64)
    x, w, dy = case.tensors()
    x[0, 3, 4, 4] = np.nan
    y = np.zeros_like(dy)
    call(library.forward, shape, plan, x, w, _packed(case), y)
    assert np.isnan(y[:, :, 3:6, 3:6]).all()
    assert np.isfinite(y[:, :, 8:]).all() and np.isfinite(y[:, :, :, 8:]).all()


def _choose(batch: int | str, inputs: int, side: int, outputs: int, **changes: object) -> Winograd | None:
    constant = bool(changes.pop("constant", False))
    attributes = {"stride": (1, 1), "pad": (1, 1), "dilate": (1, 1), "groups": 1, **changes}
    image, result = (batch, inputs, side, side), (batch, outputs, side, side)
    return winograd(image, result, (3, 3), attributes, DType.F32, constant)  # type: ignore[arg-type]


def test_the_choice_counts_channels_images_and_packing() -> None:
    assert _choose(1, 64, 56, 64) is not None
    assert _choose(1, 3, 224, 64) is None, "three channels are not worth transforming"
    few = _choose(1, 512, 7, 512)
    assert few is not None and few.packed_elements(False) == 0, "packing would cost more than its four tiles"
    assert _choose(1, 512, 7, 512, constant=True) is not None
    assert _choose(32, 512, 4, 512) is not None
    assert _choose(8, 64, 56, 64, stride=(2, 2)) is None
    assert _choose(8, 64, 56, 64, groups=2) is None
    assert _choose(8, 64, 56, 64, dilate=(2, 2)) is None
    assert _choose(8, 64, 56, 64, pad=(3, 1)) is None


def test_the_gradient_to_the_weight_needs_enough_tiles() -> None:
    attributes = {"stride": (1, 1), "pad": (1, 1), "dilate": (1, 1), "groups": 1}

    def choose(batch: int, inputs: int, side: int, outputs: int) -> WinogradGradient | None:
        sizes = (batch, inputs, side, side), (batch, outputs, side, side)
        return winograd_gradient(*sizes, (3, 3), attributes, DType.F32)

    assert choose(32, 512, 4, 512) is not None and choose(1, 64, 56, 64) is not None
    assert choose(1, 512, 7, 512) is not None, "the sums of four tiles stay in the cache"
    assert choose(1, 512, 4, 512) is None, "one tile does not pay for 36 sums a weight"
    assert choose(1, 48, 7, 512) is None, "few rows of sums are shared by all threads"
    assert choose(8, 3, 224, 64) is None


def test_packed_weights_are_bounded() -> None:
    for inputs in (16, 64, 512, 4096):
        chosen = _choose(16, inputs, 28, 2048)
        assert chosen is not None
        assert chosen.packed_elements(False) * 4 <= max(10 << 20, 36 * inputs * 64 * 4)
