"""Calls with their arrays fixed: what they read and write, and what cannot be fixed."""

import numpy as np
import pytest
import torch

from graphc.diagnostics import GraphcError
from graphc.driver.compile import compile
from graphc.driver.executable import Executable
from graphc.driver.ndarray import NDArray
from graphc.driver.ndarray import array as nd_array
from graphc.ir.graph import Graph, InputKind
from graphc.primitives.builder import Builder
from graphc.types import TensorType


def accumulate() -> Graph:
    """y = scale x + w and the old total; total += y."""
    builder = Builder("accumulate")
    x = builder.input("x", TensorType.parse("f32[N,3]"))
    scale = builder.input("scale", TensorType.parse("f32[]"))
    w = builder.input("w", TensorType.parse("f32[3]"), InputKind.PARAMETER)
    total = builder.input("total", TensorType.parse("f32[3]"), InputKind.STATE)
    y = builder.add(builder.mul(x, scale), w)
    builder.update(total, builder.add(total, builder.reduce_sum(y, axes=(0,))))
    return builder.finish({"y": y, "w_out": w})


@pytest.fixture(scope="module", params=["cpu", "reference"])
def executable(request) -> Executable:
    return compile(accumulate(), target=request.param)


W = torch.tensor([1.0, 2.0, 3.0])


def test_inputs_are_read_where_they_lie_and_outputs_written_anew(executable) -> None:
    executable.set_states({"w": W, "total": torch.zeros(3)})
    x = torch.ones(2, 3)
    call = executable.bind(x=x, scale=2.0)
    y, w = call()
    torch.testing.assert_close(y, 2 * x + W)
    torch.testing.assert_close(w, W)
    x.copy_(torch.arange(6.0).reshape(2, 3))
    again, _ = call()
    assert again.data_ptr() == y.data_ptr() == call.outputs["y"].data_ptr()
    torch.testing.assert_close(y, 2 * x + W)
    torch.testing.assert_close(
        executable.states["total"], 2 * (torch.ones(3) * 2 + x.sum(0)) + 4 * W, rtol=1e-6, atol=1e-6
    )


def test_states_and_ordinary_calls_go_on(executable) -> None:
    executable.set_states({"w": W, "total": torch.zeros(3)})
    x = torch.ones(2, 3)
    call = executable.bind(x, 1.0)
    y, _ = call()
    executable.set_states({"w": -W})
    executable(torch.zeros(5, 3), 1.0)
    torch.testing.assert_close(y, x + W)
    torch.testing.assert_close(call()[0], x - W)
    shared = torch.full((3,), 7.0)
    executable.share_state("w", shared)
    torch.testing.assert_close(call()[0], x + 7)
    version = executable.states["total"]._version
    call()
    assert executable.states["total"]._version > version


def test_arrays_of_the_callers_kind_and_choice(executable) -> None:
    executable.set_states({"w": W})
    x = np.ones((2, 3), np.float32)
    out = torch.empty(2, 3)
    call = executable.bind(x=x, scale=1.0, out={"y": out})
    assert isinstance(call()[0], np.ndarray)
    torch.testing.assert_close(out, torch.ones(2, 3) + W)
    x[:] = 3
    call()
    torch.testing.assert_close(out, torch.full((2, 3), 3.0) + W)
    assert isinstance(executable.bind(x=nd_array(x), scale=1.0)()[0], NDArray)


@pytest.mark.parametrize(
    "x", [torch.ones(3, 2).T, np.ones((2, 6), np.float32)[:, ::2], np.ones((2, 3), np.float32)[::-1]]
)
def test_an_array_that_would_be_copied_is_refused(executable, x) -> None:
    executable.set_states({"w": W})
    with pytest.raises(GraphcError, match=r"G602.*read from a copy"):
        executable.bind(x=x, scale=1.0)


def test_wrong_arrays_are_refused_when_bound(executable) -> None:
    executable.set_states({"w": W})
    with pytest.raises(GraphcError, match=r"G601.*'scale' is missing"):
        executable.bind(x=torch.ones(2, 3))
    with pytest.raises(GraphcError, match=r"G602"):
        executable.bind(x=torch.ones(2, 4), scale=1.0)


def test_constants_follow_the_parameters() -> None:
    builder = Builder("packed")
    x = builder.input("x", TensorType.parse("f32[4,600]"))
    w = builder.input("w", TensorType.parse("f32[600,600]"), InputKind.PARAMETER)
    executable = compile(builder.finish({"y": builder.dot(x, w, transpose_a=False, transpose_b=False)}))
    assert executable.program.prologue is not None
    generator = torch.Generator().manual_seed(0)
    first, second, data = (
        torch.randn(shape, generator=generator) for shape in ((600, 600), (600, 600), (4, 600))
    )
    executable.set_states({"w": first})
    call = executable.bind(data)
    torch.testing.assert_close(call(), data @ first, rtol=1e-4, atol=1e-4)
    executable.set_states({"w": second})
    torch.testing.assert_close(call(), data @ second, rtol=1e-4, atol=1e-4)
