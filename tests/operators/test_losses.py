"""Operators whose gradient is not that of their forward: values, gradients, and MXNet's own figures."""

import itertools
from typing import Any

import pytest
import torch

import graphc as mx
from graphc.driver.reference import run_reference
from graphc.passes.gradient import gradient
from graphc.symbol import Symbol
from graphc.symbol.trace import trace

Tensor = torch.Tensor


def forward_and_gradient(
    symbol: Symbol, inputs: dict[str, Tensor], head: Tensor | None = None, batch: Any = None
) -> tuple[Tensor, Tensor]:
    """The only output, and the gradient of `data` with this head (ones by default)."""
    shapes = {name: (batch or value.shape[0], *value.shape[1:]) for name, value in inputs.items()}
    graph = trace(symbol, shapes, is_train=True)
    (name,) = graph.output_names
    graph = gradient(graph, ("data",), {name: "ones" if head is None else "head"})
    given = {**inputs, "head": head} if head is not None else inputs
    given = {key: value for key, value in given.items() if key in graph.input_by_name}
    outputs = run_reference(graph, given).outputs
    return outputs[name], outputs["data_grad"]


def inputs_for(mode: str) -> dict[str, Tensor]:
    torch.manual_seed(3)
    shape, label = {
        "plain": ((6, 4), (6,)),
        "multi_output": ((3, 4, 5), (3, 5)),
        "preserve_shape": ((3, 2, 4), (3, 2)),
    }[mode]
    data = torch.randn(shape, dtype=torch.float64)
    return {"data": data, "label": torch.randint(4, label).double()}


def softmax_output_oracle(
    data: Tensor,
    label: Tensor,
    mode: str,
    grad_scale: float,
    use_ignore: bool,
    normalization: str,
    alpha: float,
) -> tuple[Tensor, Tensor]:
    axis = 1 if mode != "preserve_shape" else -1
    probability = data.softmax(axis)
    onehot = torch.nn.functional.one_hot(label.long(), 4).double()
    onehot = onehot.movedim(-1, axis)
    target = onehot * (1 - alpha) + (1 - onehot) * alpha / 3
    result = (probability - target) * grad_scale
    kept = label != 1
    if use_ignore:
        result = result * kept.unsqueeze(axis)
    positions = label[0].numel() if mode == "multi_output" else 1
    divisor = {"null": positions, "batch": label.numel(), "valid": int(kept.sum())}[normalization]
    return probability, result / divisor


@pytest.mark.parametrize("mode", ["plain", "multi_output", "preserve_shape"])
@pytest.mark.parametrize("normalization", ["null", "batch", "valid"])
@pytest.mark.parametrize(("use_ignore", "out_grad"), list(itertools.product((False, True), repeat=2)))
def test_softmax_output(mode: str, normalization: str, use_ignore: bool, out_grad: bool) -> None:
    inputs = inputs_for(mode)
    head = torch.randn_like(inputs["data"])
    for grad_scale, alpha in ((1.0, 0.0), (2.5, 0.1)):
        symbol = mx.sym.SoftmaxOutput(
            mx.sym.Variable("data"),
            mx.sym.Variable("label"),
            grad_scale=grad_scale,
            smooth_alpha=alpha,
            ignore_label=1,
            use_ignore=use_ignore,
            normalization=normalization,
            out_grad=out_grad,
            **({} if mode == "plain" else {mode: True}),
        )
        value, wanted = softmax_output_oracle(
            *inputs.values(), mode, grad_scale, use_ignore, normalization, alpha
        )
        for batch in (None, "N"):
            found = forward_and_gradient(symbol, inputs, head, batch)
            torch.testing.assert_close(found[0], value)
            torch.testing.assert_close(found[1], wanted * head if out_grad else wanted)


def test_softmax_output_flattens_an_example() -> None:
    symbol = mx.sym.SoftmaxOutput(mx.sym.Variable("data"), name="it")
    assert symbol.infer_shape(data=(2, 3, 4))[0] == [(2, 3, 4), (2,)]
    data, label = torch.randn(2, 3, 4, dtype=torch.float64), torch.tensor([5.0, 11.0])
    value, found = forward_and_gradient(symbol, {"data": data, "it_label": label})
    probability = data.flatten(1).softmax(1)
    wanted = probability - torch.nn.functional.one_hot(label.long(), 12)
    torch.testing.assert_close(value, probability.reshape(2, 3, 4))
    torch.testing.assert_close(found, wanted.reshape(2, 3, 4))


def test_softmax_output_with_probabilities_as_label() -> None:
    data, label = torch.randn(3, 4, dtype=torch.float64), torch.rand(3, 4, dtype=torch.float64)
    symbol = mx.sym.SoftmaxOutput(mx.sym.Variable("data"), mx.sym.Variable("label"), grad_scale=2)
    value, found = forward_and_gradient(symbol, {"data": data, "label": label})
    torch.testing.assert_close(value, data.softmax(1))
    torch.testing.assert_close(found, 2 * (data.softmax(1) - label))


def test_softmax_output_is_stable() -> None:
    data = torch.tensor([[1e4, -1e4, 0.0]])
    symbol = mx.sym.SoftmaxOutput(mx.sym.Variable("data"), mx.sym.Variable("label"))
    value, found = forward_and_gradient(symbol, {"data": data, "label": torch.zeros(1)})
    torch.testing.assert_close(value, torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64))
    assert torch.equal(found, torch.zeros(1, 3, dtype=torch.float64))


def test_softmax_output_as_mxnet_computes_it() -> None:
    """Figures of MXNet 1.9.1 for data 0.1 * arange, labels 0 and 2, of which 2 is ignored."""
    data = torch.arange(6, dtype=torch.float64).reshape(2, 3) / 10
    symbol = mx.sym.Softmax(
        mx.sym.Variable("data"),
        mx.sym.Variable("label"),
        use_ignore=True,
        ignore_label=2,
        normalization="valid",
        grad_scale=0.5,
    )
    _, found = forward_and_gradient(symbol, {"data": data, "label": torch.tensor([0.0, 2.0])})
    wanted = torch.tensor([[-0.3496952, 0.1661125, 0.1835827], [0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("operator", "predict", "slope"),
    [
        ("LinearRegressionOutput", torch.clone, torch.clone),
        ("LogisticRegressionOutput", torch.sigmoid, torch.clone),
        ("MAERegressionOutput", torch.clone, torch.sign),
    ],
)
@pytest.mark.parametrize(
    ("shape", "label_shape"), [((4,), (4,)), ((4, 1), (4,)), ((4, 3), (4, 3)), ((2, 3, 2), (2, 6))]
)
def test_regression(operator: str, predict: Any, slope: Any, shape: Any, label_shape: Any) -> None:
    data = torch.randn(shape, dtype=torch.float64)
    label = torch.randn(label_shape, dtype=torch.float64)
    symbol = getattr(mx.sym, operator)(mx.sym.Variable("data"), name="it", grad_scale=1.5)
    inferred = symbol.infer_shape(data=shape)[0][1]
    assert inferred == (shape if label_shape == (2, 6) else label_shape)
    value, found = forward_and_gradient(symbol, {"data": data, "it_label": label}, torch.randn_like(data))
    torch.testing.assert_close(value, predict(data))
    wanted = slope(predict(data) - label.reshape(shape)) * 1.5 / data[0].numel()
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("normalization", ["null", "batch", "valid"])
def test_make_loss(normalization: str) -> None:
    data = torch.tensor([[0.1, 0.9], [0.7, 0.2], [0.6, 0.3]], dtype=torch.float64)
    symbol = mx.sym.MakeLoss(
        mx.sym.square(mx.sym.Variable("data")), grad_scale=3, normalization=normalization, valid_thresh=0.4
    )
    value, found = forward_and_gradient(symbol, {"data": data}, torch.randn(3, 2))
    torch.testing.assert_close(value, data.square())
    divisor = {"null": 1, "batch": 3, "valid": 2}[normalization]  # 0.81 and 0.49 lie above
    torch.testing.assert_close(found, 2 * data * 3 / divisor)


def test_plain_make_loss() -> None:
    data = torch.randn(3, 2, dtype=torch.float64)
    symbol = mx.sym.make_loss(mx.sym.square(mx.sym.Variable("data")), name="it")
    assert symbol.list_outputs() == ["it_loss"]
    value, found = forward_and_gradient(symbol, {"data": data}, torch.randn(3, 2))
    torch.testing.assert_close(value, data.square())
    torch.testing.assert_close(found, 2 * data)


def test_block_gradient() -> None:
    data, head = torch.randn(3, 2, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    variable = mx.sym.Variable("data")
    value, found = forward_and_gradient(mx.sym.BlockGrad(variable) * variable, {"data": data}, head)
    torch.testing.assert_close(value, data * data)
    torch.testing.assert_close(found, data * head)


@pytest.mark.parametrize(
    ("build", "shapes", "text"),
    [
        (
            lambda d, y: mx.sym.SoftmaxOutput(d, y),
            {"data": (4, 3), "label": (3,)},
            "no class for each prediction",
        ),
        (lambda d, y: mx.sym.SoftmaxOutput(d, y), {"data": (4,), "label": (4,)}, "an axis of examples"),
        (
            lambda d, y: mx.sym.LinearRegressionOutput(d, y),
            {"data": (4, 3), "label": (4,)},
            "different numbers of elements",
        ),
    ],
)
def test_wrong_labels(build: Any, shapes: dict[str, tuple[int, ...]], text: str) -> None:
    symbol = build(mx.sym.Variable("data"), mx.sym.Variable("label"))
    for attempt in (lambda: trace(symbol, shapes), lambda: symbol.infer_shape(**shapes)):
        with pytest.raises(mx.GraphcError, match=text) as caught:
            attempt()
        assert caught.value.diagnostic.code == "G203"
        assert "test_losses.py" in str(caught.value)
