"""templates/cpp/depthwise.h against torch in float64: any kernel, stride, pad and dilation, bands, threads, scratch."""

import ctypes
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from graphc.codegen.cpp.depthwise import depthwise_scratch
from graphc.codegen.cpp.target import detect
from support.conv_shapes import Sides, conv_shape, out_sides
from support.native import build, call, targets

Array = NDArray[np.floating]
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Case:
    """A convolution with one channel a group."""

    batch: int
    channels: int
    image: Pair
    kernel: Pair
    stride: Pair = (1, 1)
    pad: Pair = (1, 1)
    dilation: Pair = (1, 1)

    def out(self) -> Sides:
        """Return height and width of the output."""
        return out_sides(self.image, self.kernel, self.stride, self.pad, self.dilation)

    def shape(self) -> NDArray[np.int64]:
        """Return the integers of gc_conv_shape."""
        window = (self.kernel, self.stride, self.pad, self.dilation)
        return conv_shape(self.batch, *(self.channels,) * 3, self.image, *window)

    def tensors(self, dtype: type[np.floating]) -> tuple[Array, Array, Array]:
        """Return the image, the weight and the gradient that comes back to the output."""
        generator = np.random.default_rng(5)
        sizes = (self.batch, self.channels, *self.image), (self.channels, 1, *self.kernel)
        gradient = (self.batch, self.channels, *self.out())
        x, w, dy = (generator.standard_normal(size).astype(dtype) for size in (*sizes, gradient))
        return x, w, dy


CASES = [
    Case(2, 3, (7, 7), (3, 3)),
    Case(1, 4, (14, 14), (3, 3), (2, 2)),
    Case(2, 2, (112, 113), (3, 3)),
    Case(2, 2, (113, 90), (3, 3), (2, 2)),
    Case(1, 2, (3, 3), (3, 3), pad=(4, 4)),
    Case(2, 3, (5, 300), (1, 7), (1, 3), (0, 3)),
    Case(1, 2, (20, 21), (3, 2), (3, 2), (0, 1), (2, 3)),
    Case(1, 1, (1, 1), (1, 1), pad=(0, 0)),
    Case(1, 1, (2, 7000), (3, 3)),
    Case(1, 2, (9, 9), (9, 8), pad=(4, 3)),
]


def _run(case: Case, dtype: type[np.floating], target: str = "native") -> tuple[Array, Array, Array]:
    """Return the output and the gradients to the image and to the weight."""
    library, shape = build("depthwise", target), case.shape()
    suffix = "f32" if dtype is np.float32 else "f64"
    x, w, dy = case.tensors(dtype)
    y, dx, dw = (np.full_like(like, np.nan) for like in (dy, x, w))
    call(getattr(library, f"forward_{suffix}"), shape, x, w, y)
    call(getattr(library, f"data_gradient_{suffix}"), shape, dy, w, dx)
    call(getattr(library, f"weight_gradient_{suffix}"), shape, x, dy, dw)
    return y, dx, dw


def _check(case: Case, dtype: type[np.floating], target: str = "native") -> None:
    x, w, dy = (torch.from_numpy(array).double() for array in case.tensors(dtype))
    x.requires_grad_()
    w.requires_grad_()
    y = torch.nn.functional.conv2d(x, w, None, case.stride, case.pad, case.dilation, case.channels)
    exact = (y.detach(), *torch.autograd.grad(y, (x, w), dy))
    terms = case.kernel[0] * case.kernel[1] + case.batch * y[0, 0].numel()
    for got, of in zip(_run(case, dtype, target), exact, strict=True):
        bound = terms * float(np.finfo(dtype).eps) * max(1.0, float(of.abs().max()))
        assert np.abs(got - of.numpy()).max() <= bound, case


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_and_both_gradients(case: Case, dtype: type[np.floating]) -> None:
    _check(case, dtype)


@pytest.mark.parametrize("target", targets()[1:])
@pytest.mark.parametrize("case", CASES[:7], ids=str)
def test_other_instruction_sets(case: Case, target: str) -> None:
    _check(case, np.float32, target)


_pairs = [
    st.tuples(st.integers(low, high), st.integers(low, high))
    for low, high in ((1, 30), (1, 5), (1, 3), (0, 4))
]


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), *_pairs, _pairs[2])
def test_any_shape(
    batch: int, channels: int, image: Pair, kernel: Pair, stride: Pair, pad: Pair, dilation: Pair
) -> None:
    case = Case(batch, channels, image, kernel, stride, pad, dilation)
    assume(min(case.out()) >= 1)
    _check(case, np.float32)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    library = build("depthwise")
    for case in (Case(4, 64, (30, 30), (3, 3)), Case(2, 3, (200, 210), (5, 5), (2, 2), (2, 2))):
        before = library.exchange_threads(ctypes.c_int(1))
        alone = _run(case, np.float32)
        library.exchange_threads(ctypes.c_int(3))
        shared = _run(case, np.float32)
        library.exchange_threads(ctypes.c_int(before))
        for one, other in zip(alone, shared, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_python_and_the_template_agree_on_scratch(case: Case) -> None:
    attributes = {"stride": case.stride, "pad": case.pad, "dilate": case.dilation, "groups": case.channels}
    if case.channels == 1:
        return
    x, w, y = (
        (1, case.channels, *case.image),
        (case.channels, 1, *case.kernel),
        (1, case.channels, *case.out()),
    )
    for suffix, size in (("f32", 4), ("f64", 8)):
        said = np.zeros(3, np.int64)
        call(getattr(build("depthwise"), f"scratch_{suffix}"), case.shape(), said)
        lanes = detect().lanes(size)
        kinds = ("convolution", "convolution_data_gradient", "convolution_weight_gradient")
        known = [depthwise_scratch(kind, x, w, y, attributes, lanes, size) for kind in kinds]
        assert known == said.tolist()


def test_an_empty_batch_gives_nothing_and_a_zero_weight_gradient() -> None:
    y, dx, dw = _run(Case(0, 3, (6, 6), (3, 3)), np.float32)
    assert y.size == 0 and dx.size == 0
    np.testing.assert_array_equal(dw, np.zeros_like(dw))
