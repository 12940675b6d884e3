"""Operators with state or random numbers: BatchNorm, Dropout, uniform and normal tensors."""

import math
from typing import Any

import pytest
import torch

import graphc as mx
from graphc.driver.reference import run_reference
from graphc.ir.graph import InputKind
from graphc.passes.gradient import gradient
from graphc.primitives.verify import verify_graph
from graphc.symbol.trace import trace

Tensor = torch.Tensor


def batch_norm_oracle(
    inputs: dict[str, Tensor], train: bool, axis: int, eps: float, fix_gamma: bool, global_stats: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The result, and the statistics used."""
    data = inputs["data"].movedim(axis, -1)
    mean, variance = inputs["bn_moving_mean"], inputs["bn_moving_var"]
    if train and not global_stats:
        flat = data.reshape(-1, data.shape[-1])
        mean, variance = flat.mean(0), flat.var(0, unbiased=False)
    gamma = torch.ones_like(mean) if fix_gamma else inputs["bn_gamma"]
    result = (data - mean) / (variance + eps).sqrt() * gamma + inputs["bn_beta"]
    return result.movedim(-1, axis), mean, variance


def batch_norm_inputs(axis: int) -> dict[str, Tensor]:
    torch.manual_seed(5)
    shape = (4, 3, 5, 2)
    size = shape[axis]
    inputs = {"data": torch.randn(shape, dtype=torch.float64) * 2 + 3}
    for name in ("bn_gamma", "bn_beta", "bn_moving_mean"):
        inputs[name] = torch.randn(size, dtype=torch.float64)
    inputs["bn_moving_var"] = torch.rand(size, dtype=torch.float64) + 0.5
    return inputs


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("fix_gamma", [False, True])
@pytest.mark.parametrize("global_stats", [False, True])
def test_batch_norm(train: bool, axis: int, fix_gamma: bool, global_stats: bool) -> None:
    inputs = batch_norm_inputs(axis)
    symbol = mx.sym.BatchNorm(
        mx.sym.Variable("data"),
        name="bn",
        axis=axis,
        eps=0.01,
        momentum=0.7,
        fix_gamma=fix_gamma,
        use_global_stats=global_stats,
    )
    assert symbol.list_auxiliary_states() == ["bn_moving_mean", "bn_moving_var"]
    graph = trace(symbol, {"data": ("N", *inputs["data"].shape[1:])}, is_train=train)
    kinds = {item.name: item.kind for item in graph.inputs}
    assert kinds["bn_gamma"] is InputKind.PARAMETER
    assert kinds["bn_moving_mean"] is InputKind.STATE
    graph = gradient(graph, ("data", "bn_gamma", "bn_beta"), {"bn_output": "head"})
    verify_graph(graph)

    learned = {name: inputs[name].clone().requires_grad_(True) for name in ("data", "bn_gamma", "bn_beta")}
    wanted, mean, variance = batch_norm_oracle(
        {**inputs, **learned}, train, axis, 0.01, fix_gamma, global_stats
    )
    head = torch.randn_like(wanted)
    wanted.backward(head)
    given = {name: value for name, value in {**inputs, "head": head}.items() if name in graph.input_by_name}
    result = run_reference(graph, given)
    torch.testing.assert_close(result.outputs["bn_output"], wanted.detach())
    for name, value in learned.items():
        expected = value.grad if value.grad is not None else torch.zeros_like(value)
        torch.testing.assert_close(result.outputs[f"{name}_grad"], expected, rtol=1e-7, atol=1e-9)
    if train and not global_stats:
        for name, new in (("bn_moving_mean", mean), ("bn_moving_var", variance)):
            torch.testing.assert_close(result.updates[name], inputs[name] * 0.7 + new.detach() * 0.3)
    else:
        assert not result.updates


def test_batch_norm_gives_its_statistics() -> None:
    inputs = batch_norm_inputs(1)
    symbol = mx.sym.BatchNorm(mx.sym.Variable("data"), name="bn", output_mean_var=True, eps=0.01)
    assert symbol.list_outputs() == ["bn_output", "bn_mean", "bn_var"]
    graph = trace(symbol, {"data": inputs["data"].shape}, is_train=True)
    outputs = run_reference(graph, inputs).outputs
    _, mean, variance = batch_norm_oracle(inputs, True, 1, 0.01, True, False)
    torch.testing.assert_close(outputs["bn_mean"], mean)
    torch.testing.assert_close(outputs["bn_var"], (variance + 0.01).rsqrt())


def test_layer_norm_gives_its_statistics() -> None:
    data = torch.randn(2, 3, 4, dtype=torch.float64)
    symbol = mx.sym.LayerNorm(mx.sym.Variable("data"), name="ln", output_mean_var=True)
    graph = trace(symbol, {"data": data.shape})
    ones = torch.ones(4, dtype=torch.float64)
    outputs = run_reference(graph, {"data": data, "ln_gamma": ones, "ln_beta": 0 * ones}).outputs
    torch.testing.assert_close(outputs["ln_mean"], data.mean(-1, keepdim=True))
    deviation = (data.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(outputs["ln_std"], deviation)


def test_variance_keeps_its_digits() -> None:
    """Two passes: a mean of 10,000 leaves a variance of 1 exact in f32, where E[x²] - E[x]² loses it."""
    data = torch.tensor([10000.0, 10002.0]).reshape(2, 1)
    symbol = mx.sym.BatchNorm(mx.sym.Variable("data"), name="bn", eps=0.0)
    graph = trace(symbol, {"data": (2, 1)}, is_train=True)
    zero, one = torch.zeros(1), torch.ones(1)
    given = {"data": data, "bn_gamma": one, "bn_beta": zero, "bn_moving_mean": zero, "bn_moving_var": one}
    outputs = run_reference(graph, given, dtype=None).outputs
    assert outputs["bn_output"].flatten().tolist() == [-1.0, 1.0]


def test_half_precision_statistics_are_single() -> None:
    symbol = mx.sym.BatchNorm(mx.sym.Variable("data"), name="bn")
    types = symbol.infer_type(data="float16")
    assert [kind.__name__ for group in types for kind in group] == [
        *("float16", "float32", "float32"),
        "float16",
        *("float32", "float32"),
    ]
    graph = trace(symbol, {"data": (8, 3)}, {"data": "float16"}, is_train=True)
    verify_graph(graph)
    assert str(graph.outputs[0].type) == "f16[8,3]"
    assert str(graph.input_by_name["bn_moving_var"].value.type) == "f32[3]"


def test_shared_states_are_updated_in_order() -> None:
    """Two BatchNorms on one pair of states: the second update starts from the first."""
    x, mean, variance = (mx.sym.Variable(name) for name in ("x", "mean", "variance"))
    states = {"moving_mean": mean, "moving_var": variance, "momentum": 0.5}
    symbol = mx.sym.BatchNorm(mx.sym.BatchNorm(x, **states, name="a") + 1, **states, name="b")
    graph = trace(symbol, {"x": (4, 2)}, is_train=True)
    verify_graph(graph)
    data = torch.randn(4, 2, dtype=torch.float64)
    given = {"x": data, "mean": torch.full((2,), 8.0), "variance": torch.ones(2)}
    given |= {
        f"{name}_{part}": torch.full((2,), part == "gamma") * 1.0
        for name in "ab"
        for part in ("gamma", "beta")
    }
    updates = run_reference(graph, given).updates
    torch.testing.assert_close(updates["mean"], (4 + data.mean(0) / 2) / 2 + 0.5)


# Dropout


def dropped(seed: int, step: int, **parameters: Any) -> Tensor:
    symbol = mx.sym.Dropout(mx.sym.Variable("data"), name="drop", **parameters)
    graph = trace(symbol, {"data": ("N", 50)}, is_train=True)
    verify_graph(graph)
    result = run_reference(graph, {"data": torch.ones(40, 50), "random_state": torch.tensor([seed, step])})
    assert result.updates["random_state"].tolist() == [seed, step + 1]
    return result.outputs["drop_output"]


def test_dropout_scales_what_it_keeps() -> None:
    found = dropped(7, 0, p=0.25)
    assert set(found.unique().tolist()) == {0.0, 1 / 0.75}
    # 2,000 draws of probability 0.75: five standard deviations are 0.05.
    assert abs(float((found > 0).double().mean()) - 0.75) < 0.05


def test_dropout_repeats_and_moves_on() -> None:
    assert torch.equal(dropped(7, 3), dropped(7, 3))
    assert not torch.equal(dropped(7, 3), dropped(7, 4))
    assert not torch.equal(dropped(7, 3), dropped(8, 3))


def test_dropout_can_share_an_axis() -> None:
    found = dropped(1, 0, axes=(1,))
    assert torch.equal(found, found[:, :1].expand(40, 50))
    assert len(found[:, 0].unique()) == 2


def test_two_dropouts_draw_apart() -> None:
    x = mx.sym.Variable("x")
    both = mx.sym.Group([mx.sym.Dropout(x, name="a"), mx.sym.Dropout(x, name="b")])
    graph = trace(both, {"x": (40, 50)}, is_train=True)
    outputs = run_reference(graph, {"x": torch.ones(40, 50), "random_state": torch.tensor([1, 0])}).outputs
    assert not torch.equal(outputs["a_output"], outputs["b_output"])


@pytest.mark.parametrize(("parameters", "train"), [({}, False), ({"p": 0.0}, True)])
def test_dropout_may_do_nothing(parameters: dict[str, float], train: bool) -> None:
    graph = trace(mx.sym.Dropout(mx.sym.Variable("x"), **parameters), {"x": (2, 3)}, is_train=train)
    assert graph.nodes == ()
    assert [item.name for item in graph.inputs] == ["x"]


def test_dropout_may_act_always() -> None:
    graph = trace(mx.sym.Dropout(mx.sym.Variable("x"), mode="always"), {"x": (2, 3)})
    assert [item.name for item in graph.inputs] == ["x", "random_state"]


def test_dropout_passes_gradients_where_it_passes_values() -> None:
    symbol = mx.sym.Dropout(mx.sym.Variable("x"), name="drop", p=0.5)
    graph = gradient(trace(symbol, {"x": (40, 50)}, is_train=True), ("x",), {"drop_output": "ones"})
    outputs = run_reference(graph, {"x": torch.ones(40, 50), "random_state": torch.tensor([1, 0])}).outputs
    assert torch.equal(outputs["x_grad"], outputs["drop_output"])


# Random tensors


def drawn(symbol: Any) -> Tensor:
    graph = trace(symbol, {})
    return run_reference(graph, {"random_state": torch.tensor([11, 0])}).outputs[graph.output_names[0]]


def test_uniform() -> None:
    found = drawn(mx.sym.uniform(low=-1, high=3, shape=(200, 50)))
    assert float(found.min()) >= -1
    assert float(found.max()) < 3
    # The mean of 10,000 draws has a standard deviation of 4 / sqrt(12 * 10,000) = 0.012.
    assert abs(float(found.mean()) - 1) < 0.06


def test_normal() -> None:
    found = drawn(mx.sym.normal(loc=2, scale=0.5, shape=(200, 50)))
    assert abs(float(found.mean()) - 2) < 0.03
    assert abs(float(found.std()) - 0.5) < 0.02
    inside = ((found - 2).abs() < 0.5).double().mean()
    assert abs(float(inside) - math.erf(math.sqrt(0.5))) < 0.03


def test_random_leaky_slopes() -> None:
    symbol = mx.sym.LeakyReLU(
        mx.sym.Variable("x"), act_type="rrelu", lower_bound=0.1, upper_bound=0.3, name="it"
    )
    graph = trace(symbol, {"x": (40, 50)}, is_train=True)
    given = {"x": -torch.ones(40, 50), "random_state": torch.tensor([1, 0])}
    slopes = -run_reference(graph, given).outputs["it_output"]
    assert float(slopes.min()) >= 0.1
    assert float(slopes.max()) <= 0.3
    assert abs(float(slopes.mean()) - 0.2) < 0.01
