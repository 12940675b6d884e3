"""NDArray: MXNet's names over torch memory."""

import numpy as np
import pytest
import torch

import graphc as mx
from graphc.diagnostics import GraphcError


def test_creation_and_types() -> None:
    assert mx.nd.array([[1, 2], [3, 4]]).dtype is np.float32
    assert mx.nd.array(np.arange(3, dtype=np.int32)).dtype is np.int32
    assert mx.nd.array(np.zeros(2)).dtype is np.float32
    assert mx.nd.zeros((2, 3), dtype="float64").dtype is np.float64
    assert mx.nd.full(3, 2.5).asnumpy().tolist() == [2.5, 2.5, 2.5]
    assert mx.nd.arange(2, 8, 2).asnumpy().tolist() == [2, 4, 6]
    assert mx.nd.empty((0, 3)).size == 0
    source = np.ones(3, np.float32)
    copied = mx.nd.array(source)
    source[:] = 7
    assert copied.asnumpy().tolist() == [1, 1, 1]


def test_writes_in_place_through_views() -> None:
    a = mx.nd.zeros((3, 4))
    a[1] = 5
    a[:, 2] = mx.nd.array([1, 2, 3])
    a[0][1] = 9
    a.reshape(12)[0] = 4
    expected = np.zeros((3, 4), np.float32)
    expected[1], expected[:, 2], expected[0, 1], expected[0, 0] = 5, [1, 2, 3], 9, 4
    np.testing.assert_array_equal(a.asnumpy(), expected)
    a += 1
    a *= mx.nd.full((3, 4), 2)
    np.testing.assert_array_equal(a.asnumpy(), (expected + 1) * 2)


def test_arithmetic_and_comparison() -> None:
    a, b = mx.nd.array([1.0, 2.0, 3.0]), mx.nd.array([3.0, 2.0, 1.0])
    assert (2 - a).asnumpy().tolist() == [1, 0, -1]
    assert (6 / a).asnumpy().tolist() == [6, 3, 2]
    assert (2**a).asnumpy().tolist() == [2, 4, 8]
    assert (a == b).asnumpy().tolist() == [0, 1, 0] and (a > b).dtype is np.float32
    assert (np.ones(3, np.float32) * a).asnumpy().tolist() == [1, 2, 3]
    assert a.argmax(0).asscalar() == 2.0 and a.norm().asscalar() == pytest.approx(14**0.5)


def test_before_write_is_called_once_through_any_view() -> None:
    a = mx.nd.zeros((2, 2))
    calls = []
    a.before_write(lambda: calls.append(a.asnumpy().sum()))
    a[0].reshape(2)[:] = 3
    a[:] = 4
    assert calls == [0.0]


def test_errors_name_both_shapes() -> None:
    a = mx.nd.zeros((2, 3))
    with pytest.raises(GraphcError, match=r"shape \(3, 2\) into shape \(2, 3\)"):
        a[:] = np.zeros((3, 2))
    with pytest.raises(GraphcError, match=r"reshape 6 elements of shape \(2, 3\) to \(4, 2\)"):
        a.reshape((4, 2))
    with pytest.raises(GraphcError, match="one element"):
        a.asscalar()
    with pytest.raises(IndexError, match=r"array of shape \(2, 3\)"):
        a[5]


def test_bfloat16() -> None:
    a = mx.nd.array([1.0, 2.5], dtype="bf16")
    assert a.tensor.dtype is torch.bfloat16 and a.asnumpy().dtype == np.float32
    assert a.copyto(mx.nd.zeros(2)).asnumpy().tolist() == [1.0, 2.5]


def test_contexts() -> None:
    assert mx.current_context() == mx.cpu()
    with mx.cpu(1):
        assert mx.current_context() == mx.cpu(1)
    assert mx.nd.zeros(2, ctx=mx.cpu()).context == mx.cpu()
    if not torch.cuda.is_available():
        with pytest.raises(GraphcError, match=r"G505.*no gpu\(0\)"):
            mx.nd.zeros(2, ctx=mx.gpu())
    with pytest.raises(GraphcError, match="no device type 'npu'"):
        mx.Context("npu")
