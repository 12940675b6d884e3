"""MXNet's executor: bind, forward, backward, gradient requests, deferral."""

import numpy as np
import pytest
import torch

import graphc as mx
from graphc.diagnostics import GraphcError


def mlp() -> mx.Symbol:
    data = mx.sym.Variable("data")
    fc1 = mx.sym.FullyConnected(data, name="fc1", num_hidden=6)
    act = mx.sym.Activation(fc1, name="relu1", act_type="relu")
    fc2 = mx.sym.FullyConnected(act, name="fc2", num_hidden=3)
    return mx.sym.SoftmaxOutput(fc2, name="softmax")


def filled(executor, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for name, array in executor.arg_dict.items():
        value = torch.randn(array.shape, generator=generator)
        array[:] = torch.tensor([0.0, 2.0, 1.0, 1.0]) if name == "softmax_label" else value
        values[name] = array.tensor.double().clone()
    return values


def expected_gradients(values: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    leaves = {k: v.clone().requires_grad_() for k, v in values.items() if k != "softmax_label"}
    hidden = torch.relu(leaves["data"] @ leaves["fc1_weight"].T + leaves["fc1_bias"])
    logits = hidden @ leaves["fc2_weight"].T + leaves["fc2_bias"]
    loss = torch.nn.functional.cross_entropy(logits, values["softmax_label"].long(), reduction="sum")
    loss.backward()
    return torch.softmax(logits, 1).detach(), {k: v.grad for k, v in leaves.items()}


@pytest.mark.parametrize("look_first", [False, True])
def test_forward_backward(look_first: bool) -> None:
    executor = mlp().simple_bind(mx.cpu(), data=(4, 5))
    values = filled(executor)
    probabilities, gradients = expected_gradients(values)
    outputs = executor.forward(is_train=True)
    if look_first:
        np.testing.assert_allclose(outputs[0].asnumpy(), probabilities, atol=1e-6)
    executor.backward()
    np.testing.assert_allclose(executor.outputs[0].asnumpy(), probabilities, atol=1e-6)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(executor.grad_dict[name].asnumpy(), gradient, atol=1e-5, err_msg=name)
    assert executor.output_dict.keys() == {"softmax_output"}


def test_a_write_between_forward_and_backward_does_not_reach_the_forward() -> None:
    executor = mlp().simple_bind(mx.cpu(), data=(4, 5))
    values = filled(executor)
    probabilities, gradients = expected_gradients(values)
    outputs = executor.forward(is_train=True)
    executor.arg_dict["data"][0] = 100.0
    np.testing.assert_allclose(outputs[0].asnumpy(), probabilities, atol=1e-6)
    executor.arg_dict["data"][:] = values["data"].float()
    executor.backward()
    np.testing.assert_allclose(executor.grad_dict["fc1_weight"].asnumpy(), gradients["fc1_weight"], atol=1e-5)


def test_grad_req_add_and_null() -> None:
    requests = {"fc1_weight": "add", "fc2_weight": "write"}
    executor = mlp().simple_bind(mx.cpu(), grad_req=requests, data=(4, 5))
    _, gradients = expected_gradients(filled(executor))
    assert executor.grad_dict["data"] is None and executor.grad_dict["fc1_bias"] is None
    for _ in range(3):
        executor.forward(is_train=True)
        executor.backward()
    np.testing.assert_allclose(
        executor.grad_dict["fc1_weight"].asnumpy(), 3 * gradients["fc1_weight"], atol=1e-4
    )
    np.testing.assert_allclose(executor.grad_dict["fc2_weight"].asnumpy(), gradients["fc2_weight"], atol=1e-5)


@pytest.mark.parametrize("look_first", [False, True])
def test_head_gradients(look_first: bool) -> None:
    x = mx.sym.Variable("x")
    both = mx.sym.Group([x * x, mx.sym.exp(x)])
    executor = both.simple_bind(mx.cpu(), x=(3,))
    executor.forward(is_train=True, x=np.array([1.0, 2.0, 3.0], np.float32))
    if look_first:
        assert executor.outputs[0].asnumpy().tolist() == [1, 4, 9]
    heads = [mx.nd.array([1.0, 1.0, 2.0]), mx.nd.array([0.0, 1.0, 0.0])]
    executor.backward(heads)
    expected = np.array([2.0, 4.0 + np.exp(2.0), 12.0])
    np.testing.assert_allclose(executor.grad_dict["x"].asnumpy(), expected, rtol=1e-6)


def test_batch_norm_statistics_move_in_training_only_and_once() -> None:
    net = mx.sym.BatchNorm(mx.sym.Variable("data"), name="bn", fix_gamma=False, momentum=0.5)
    executor = net.simple_bind(mx.cpu(), data=(8, 2))
    executor.aux_dict["bn_moving_var"][:] = 1
    executor.arg_dict["bn_gamma"][:] = 1
    x = np.random.default_rng(0).normal(3.0, 2.0, (8, 2)).astype(np.float32)
    executor.forward(is_train=False, data=x)
    np.testing.assert_allclose(executor.outputs[0].asnumpy(), x / np.sqrt(1 + 1e-3), rtol=1e-4)
    assert executor.aux_dict["bn_moving_mean"].asnumpy().tolist() == [0, 0]
    executor.forward(is_train=True, data=x)
    normalised = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3)
    np.testing.assert_allclose(executor.outputs[0].asnumpy(), normalised, atol=1e-4)
    executor.backward()
    np.testing.assert_allclose(executor.aux_dict["bn_moving_mean"].asnumpy(), x.mean(0) * 0.5, rtol=1e-5)


def test_dropout_draws_once_a_step() -> None:
    x = mx.sym.Variable("x")
    net = mx.sym.Dropout(x, name="drop", p=0.5)
    executor = net.simple_bind(mx.cpu(), x=(1000,))
    executor.forward(is_train=True, x=np.ones(1000, np.float32))
    first = executor.outputs[0].asnumpy()
    assert set(np.unique(first)) == {0.0, 2.0} and 380 < (first == 0).sum() < 620
    executor.backward()
    np.testing.assert_array_equal(executor.grad_dict["x"].asnumpy(), first)
    executor.forward(is_train=True)
    executor.backward()
    second = executor.outputs[0].asnumpy()
    assert (first != second).any()
    np.testing.assert_array_equal(executor.grad_dict["x"].asnumpy(), second)
    executor.forward(is_train=False)
    assert (executor.outputs[0].asnumpy() == 1).all()


def test_bind_reads_and_writes_the_given_arrays() -> None:
    a, b = mx.sym.Variable("a"), mx.sym.Variable("b")
    arrays = [mx.nd.array([1.0, 2.0]), mx.nd.array([3.0, 4.0])]
    gradient = mx.nd.zeros(2)
    executor = (a * b).bind(mx.cpu(), arrays, args_grad={"a": gradient})
    assert executor.forward()[0].asnumpy().tolist() == [3, 8]
    arrays[0][:] = 10
    assert executor.forward()[0].asnumpy().tolist() == [30, 40]
    executor.forward(is_train=True)
    executor.backward()
    assert gradient.asnumpy().tolist() == [3, 4]
    assert executor.grad_arrays[1] is None


def test_copy_params_and_reshape() -> None:
    executor = mlp().simple_bind(mx.cpu(), data=(4, 5))
    executor.copy_params_from({"fc1_bias": mx.nd.ones(6)})
    assert executor.arg_dict["fc1_bias"].asnumpy().sum() == 6
    wider = executor.reshape(data=(7, 5), softmax_label=(7,))
    assert wider.arg_dict["fc1_bias"] is executor.arg_dict["fc1_bias"]
    assert wider.forward()[0].shape == (7, 3)
    with pytest.raises(GraphcError, match="partial_shaping"):
        executor.reshape(data=(4, 9))
    with pytest.raises(GraphcError, match="did you mean 'fc1_bias'"):
        executor.copy_params_from({"fc1_bia": mx.nd.ones(6), "fc2_bias": mx.nd.ones(3)})
    assert executor.arg_dict["fc2_bias"].asnumpy().sum() == 0
    assert executor.debug_str().splitlines()[-1].startswith("Total ")


def test_errors() -> None:
    executor = mlp().simple_bind(mx.cpu(), data=(4, 5))
    with pytest.raises(GraphcError, match="G403"):
        executor.backward()
    with pytest.raises(GraphcError, match="no argument is named 'dat'"):
        executor.forward(dat=np.zeros((4, 5)))
    with pytest.raises(GraphcError, match=r"bound with shape \(4, 5\), given \(4, 6\)"):
        executor.forward(data=np.zeros((4, 6)))
    with pytest.raises(GraphcError, match="grad_req"):
        mlp().simple_bind(mx.cpu(), grad_req="wrong", data=(4, 5))
    with pytest.raises(GraphcError, match="no array for"):
        mlp().bind(mx.cpu(), {"data": mx.nd.zeros((4, 5))})
    with pytest.raises(GraphcError, match="takes 1 head"):
        executor.forward(is_train=True)
        executor.backward([mx.nd.zeros((4, 3)), mx.nd.zeros((4, 3))])
