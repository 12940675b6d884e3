"""Shapes and types from what is known, forward and backward."""

from typing import Any

import numpy
import pytest
import torch

import graphc as mx
from graphc.operators import operator
from graphc.types import symbol as dimension_symbol
from support.cases import Case
from support.operator_cases import CASES

data = mx.sym.Variable("data")


def test_weights_from_data() -> None:
    net = mx.sym.FullyConnected(data, name="fc1", num_hidden=30)
    net = mx.sym.FullyConnected(mx.sym.Activation(net, act_type="relu"), name="fc2", num_hidden=10)
    arguments, outputs, auxiliary = net.infer_shape(data=(100, 3, 5))
    assert dict(zip(net.list_arguments(), arguments, strict=True)) == {
        "data": (100, 3, 5),
        "fc1_weight": (30, 15),
        "fc1_bias": (30,),
        "fc2_weight": (10, 30),
        "fc2_bias": (10,),
    }
    assert (outputs, auxiliary) == ([(100, 10)], [])


def test_shapes_may_be_positional() -> None:
    assert (data + mx.sym.Variable("b")).infer_shape((2, 3))[0] == [(2, 3), (2, 3)]


def test_too_little_gives_none() -> None:
    net = mx.sym.FullyConnected(data, num_hidden=3)
    assert net.infer_shape() == (None, None, None)
    assert net.infer_shape(data=(0, 5)) == (None, None, None)


def test_partial() -> None:
    net = mx.sym.FullyConnected(data, name="fc", num_hidden=3)
    assert net.infer_shape_partial() == ([(), (3, 0), (3,)], [()], [])
    assert net.infer_shape_partial(data=(0, 5)) == ([(0, 5), (3, 5), (3,)], [(0, 3)], [])


def test_convolution_with_unknown_sizes() -> None:
    net = mx.sym.Convolution(data, name="conv", kernel=(3, 3), num_filter=4, stride=(2, 2), pad=(1, 1))
    arguments, outputs, _ = net.infer_shape_partial(data=(0, 3, 9, 0))
    assert arguments == [(0, 3, 9, 0), (4, 3, 3, 3), (4,)]
    assert outputs == [(0, 4, 5, 0)]


def test_data_from_weight() -> None:
    net = mx.sym.Convolution(data, name="conv", kernel=(3, 3), num_filter=4, num_group=2)
    assert net.infer_shape_partial(conv_weight=(4, 5, 3, 3))[0][0] == (0, 10, 0, 0)


def test_shapes_flow_back_through_operators() -> None:
    """Only the output's other operand is known: it fixes the batch of data."""
    hidden = mx.sym.Activation(mx.sym.FullyConnected(data, num_hidden=4, name="fc"), act_type="tanh")
    net = hidden + mx.sym.Variable("state")
    arguments = net.infer_shape(data=(0, 7), state=(5, 4))[0]
    assert arguments == [(5, 7), (4, 7), (4,), (5, 4)]


def test_recurrent_state_from_its_use() -> None:
    """A state of unknown batch, used twice before anything tells its size."""
    state = mx.sym.Variable("state")
    net = mx.sym.FullyConnected(state, num_hidden=6, name="h2h") + mx.sym.FullyConnected(
        data, num_hidden=6, name="i2h"
    )
    found = dict(zip(net.list_arguments(), net.infer_shape(data=(8, 3), state=(0, 6))[0], strict=True))
    assert found["state"] == (8, 6)
    assert found["h2h_weight"] == (6, 6)


def test_concat_backward() -> None:
    net = mx.sym.Concat(data, mx.sym.Variable("b"), dim=1)
    assert net.infer_shape_partial(data=(2, 3, 4), b=(0, 5, 0)) == ([(2, 3, 4), (2, 5, 4)], [(2, 8, 4)], [])


def test_hints_of_variables() -> None:
    net = mx.sym.Variable("x", shape=(2, 0)) + mx.sym.Variable("y", shape=(0, 3))
    assert net.infer_shape() == ([(2, 3), (2, 3)], [(2, 3)], [])
    with pytest.raises(mx.GraphcError, match="not the one it was declared with"):
        net.infer_shape(x=(4, 3))


def test_symbolic_dimensions() -> None:
    batch = dimension_symbol("N")
    net = mx.sym.FullyConnected(mx.sym.Flatten(data), name="fc", num_hidden=3)
    assert net.infer_shape(data=("N", 4, 5)) == ([(batch, 4, 5), (3, 20), (3,)], [(batch, 3)], [])
    wide = mx.sym.Reshape(data, shape=(-1, 2))
    assert wide.infer_shape(data=("N", 4))[1] == [(2 * batch, 2)]


def test_group_and_auxiliary_shapes() -> None:
    net = mx.sym.Group([mx.sym.BatchNorm(data, name="bn"), mx.sym.sum(data, axis=1)])
    assert net.infer_shape(data=(2, 3, 4)) == (
        [(2, 3, 4), (3,), (3,)],
        [(2, 3, 4), (2, 4)],
        [(3,), (3,)],
    )


def test_full_reductions_have_one_axis() -> None:
    assert mx.sym.sum(data).infer_shape(data=(2, 3))[1] == [(1,)]
    assert mx.sym.dot(data, data).infer_shape(data=(3,))[1] == [(1,)]
    assert mx.sym.squeeze(data).infer_shape(data=(1, 1))[1] == [(1,)]


@pytest.mark.parametrize(
    ("shape", "codes", "reverse", "expected"),
    [
        ((2, 3, 4), (-1,), False, (24,)),
        ((2, 3, 4), (0, -1), False, (2, 12)),
        ((2, 3, 4), (4, 0, 2), False, (4, 3, 2)),
        ((2, 3, 4), (-2, 1, 1), False, (2, 3, 4, 1, 1)),
        ((2, 3, 4), (-3, 4), False, (6, 4)),
        ((2, 3, 4, 5), (-3, -3), False, (6, 20)),
        ((2, 3, 4), (0, -3), False, (2, 12)),
        ((2, 3, 4), (-4, 1, 2, -2), False, (1, 2, 3, 4)),
        ((2, 3, 4), (2, -4, -1, 3, -2), False, (2, 1, 3, 4)),
        ((10, 5, 4), (-1, 0), False, (40, 5)),
        ((10, 5, 4), (-1, 0), True, (50, 4)),
    ],
)
def test_reshape_codes(shape: Any, codes: Any, reverse: bool, expected: Any) -> None:
    """The examples of MXNet's documentation."""
    net = mx.sym.Reshape(data, shape=codes, reverse=reverse)
    assert net.infer_shape(data=shape)[1] == [expected]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad", "expected"),
    [(7, 3, 2, 0, 3), (8, 3, 2, 1, 5), (7, 2, 2, 0, 4), (7, 3, 2, 1, 4), (11, 5, 3, 2, 5), (7, 2, 2, 1, 5)],
)
def test_full_pooling(size: int, kernel: int, stride: int, pad: int, expected: int) -> None:
    """Sizes measured with MXNet 1.9.1."""
    net = mx.sym.Pooling(
        data, kernel=(kernel,), stride=(stride,), pad=(pad,), pool_type="max", pooling_convention="full"
    )
    assert net.infer_shape(data=(2, 3, size))[1] == [(2, 3, expected)]


def test_types() -> None:
    net = mx.sym.FullyConnected(mx.sym.Cast(data, dtype="float16"), num_hidden=2, name="fc")
    assert net.infer_type(data="uint8") == (
        [numpy.uint8, numpy.float16, numpy.float16],
        [numpy.float16],
        [],
    )
    assert net.infer_type()[0] == [numpy.float32, numpy.float16, numpy.float16]


def test_types_flow_back() -> None:
    """The weight is scaled before it meets the data that tells its type."""
    net = mx.sym.FullyConnected(data, weight=mx.sym.Variable("w") * 2, num_hidden=2, no_bias=True)
    assert net.infer_type(data=numpy.float64)[0] == [numpy.float64, numpy.float64]
    net = mx.sym.Embedding(data, input_dim=3, output_dim=2) + mx.sym.Variable("y", dtype="float16")
    assert net.infer_type(data=numpy.int32) == (
        [numpy.int32, numpy.float16, numpy.float16],
        [numpy.float16],
        [],
    )


def test_bfloat16_is_torchs() -> None:
    assert (data + 1).infer_type(data="bfloat16")[1] == [torch.bfloat16]


def test_deep_graphs() -> None:
    """10,000 operators, far beyond Python's own recursion limit."""
    net = data
    for _ in range(5000):
        net = mx.sym.Activation(net, act_type="tanh") + 1.0
    assert net.infer_shape(data=(3, 4))[1] == [(3, 4)]
    assert net.infer_shape_partial(data=(0, 4))[1] == [(0, 4)]
    assert net.infer_type(data="float16")[1] == [numpy.float16]
    assert len(net.get_internals().entries) == 10001
    loaded = mx.sym.load_json(net.tojson())
    assert loaded(data=mx.sym.Variable("other")).list_arguments() == ["other"]


def test_equal_applications_are_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand layers of one shape cost one look at the operator."""
    from graphc.symbol import infer

    calls = []
    original = infer._compose
    monkeypatch.setattr(infer, "_compose", lambda *given: calls.append(given) or original(*given))
    net = data
    for _ in range(100):
        net = mx.sym.FullyConnected(net, num_hidden=4)
    net.infer_shape(data=(3, 4))
    assert len(calls) == 1


def agrees(partial: tuple[Any, ...], full: tuple[Any, ...]) -> bool:
    """Unknown is always right; what is known must be the truth."""
    return not partial or (
        len(partial) == len(full)
        and all(known in (0, true) for known, true in zip(partial, full, strict=True))
    )


# An index or a condition may have two shapes; when nothing is known of it, the usual one is taken.
USUAL = ("pick", "where")


@pytest.mark.parametrize("case", [case for case in CASES if case.shapes], ids=str)
def test_partial_inference_never_errs(case: Case) -> None:
    """With dimensions or whole shapes hidden, what is inferred is what is true."""
    inputs = {name: mx.sym.Variable(name) for name in case.shapes}
    function = getattr(mx.sym, case.operator)
    counted = operator(case.operator).counted
    net = function(*inputs.values(), **case.parameters) if counted else function(**inputs, **case.parameters)
    full = net.infer_shape(**case.shapes)
    hidings = [
        {name: (0, *shape[1:]) for name, shape in case.shapes.items()},
        {name: (*shape[:-1], 0) for name, shape in case.shapes.items()},
        {name: (0,) * len(shape) for name, shape in case.shapes.items()},
    ]
    if case.operator not in USUAL:
        for hidden in case.shapes:
            hidings.append({name: shape for name, shape in case.shapes.items() if name != hidden})
    for given in hidings:
        partial = net.infer_shape_partial(**given)
        for found, true in zip(partial, full, strict=True):
            assert all(agrees(*pair) for pair in zip(found, true, strict=True)), (given, partial, full)
