"""Optimizers: the numbers of MXNet 1.9.1, those of torch.optim where the formulas coincide, factors, errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from graphc import optimizer as optimizers
from graphc.diagnostics import GraphcError
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph
from graphc.optimizer import SGD, Adam, Optimizer, create
from graphc.passes.simplify import Simplify
from graphc.primitives.builder import Builder
from graphc.types import TensorType

COMMON = {"wd": 0.1, "clip_gradient": 1.0, "rescale_grad": 0.75}

# Weights of MXNet 1.9.1 after four updates: weights of numbers(0), gradients numbers(1) to numbers(4).
MXNET: list[tuple[str, dict[str, Any], list[float]]] = [
    ("SGD", {}, [-0.0515106, 1.9351345, -0.4471523, -1.8199084]),
    ("SGD", {"learning_rate": 0.1, "momentum": 0.9}, [-0.993367, 0.7100024, 0.8104072, -0.9188352]),
    ("SGD", {"learning_rate": 0.1, "momentum": 0.9, **COMMON}, [-0.6637837, 1.022419, 0.3568567, -1.0542817]),
    ("SGD", {"learning_rate": 0.1, **COMMON}, [-0.3250224, 1.5976993, -0.1168187, -1.5617077]),
    ("NAG", {"learning_rate": 0.1, "momentum": 0.9}, [-1.4091361, 0.3553845, 1.3175573, -0.6949043]),
    (
        "NAG", {"learning_rate": 0.1, "momentum": 0.9, "clip_gradient": 1.0, "rescale_grad": 0.75},
        [-0.9337986, 0.9521824, 0.6192776, -1.049258],
    ),
    ("Adam", {}, [-0.0039158, 1.9795045, -0.5070925, -1.8480146]),
    (
        "Adam", {"learning_rate": 0.1, "beta1": 0.8, "beta2": 0.95, "epsilon": 0.001, **COMMON},
        [-0.3964938, 1.5913857, -0.1108238, -1.4795479],
    ),
    ("AdaGrad", {}, [-0.0333993, 1.9611418, -0.4797792, -1.8331714]),
    (
        "AdaGrad", {"learning_rate": 0.1, "eps": 0.001, **COMMON},
        [-0.3136878, 1.6696963, -0.2038022, -1.5907036],
    ),
    ("RMSProp", {}, [-0.0107407, 1.9760877, -0.5009589, -1.8456621]),
    ("RMSProp", {"learning_rate": 0.1, **COMMON}, [-1.0326213, 1.1598117, 0.4285161, -1.1624734]),
    (
        "RMSProp", {"learning_rate": 0.01, "centered": True, "gamma1": 0.95, "gamma2": 0.8, "clip_weights": 1.7,
                    **COMMON},
        [-0.3302385, 1.4639559, -0.2065036, -1.4898942],
    ),
    ("AdaDelta", {}, [-0.054049, 1.9533207, -0.4620726, -1.8285035]),
    ("AdaDelta", {"rho": 0.8, "epsilon": 0.01, **COMMON}, [-0.9250785, 0.6676245, 0.5180449, -0.7803043]),
    ("Ftrl", {}, [-0.1877786, 1.1281579, -0.0604948, -1.0074755]),
    (
        "Ftrl", {"learning_rate": 0.5, "lamda1": 0.3, "beta": 2, **COMMON},
        [-0.4483268, 0.1387611, 0.365099, -0.2128751],
    ),
    ("Adamax", {}, [-0.006432, 1.9766893, -0.504085, -1.8456506]),
    (
        "Adamax", {"learning_rate": 0.1, "beta1": 0.8, "beta2": 0.95, **COMMON},
        [-0.3459562, 1.5888876, -0.1246491, -1.4985901],
    ),
    ("Signum", {}, [-0.04, 1.9433297, -0.4710823, -1.8116294]),
    (
        "Signum", {"learning_rate": 0.1, "momentum": 0.8, "wd_lh": 0.05, **COMMON},
        [-0.39701, 1.5469495, -0.103927, -1.4178635],
    ),
    (
        "Signum", {"learning_rate": 0.1, "momentum": 0.0, **COMMON},
        [-0.3940399, 1.5111387, -0.0969037, -1.584628],
    ),
]  # fmt: skip


def numbers(k: int) -> torch.Tensor:
    return torch.tensor([2 * math.sin(1.7 * i + 0.3 * k) for i in range(4)], dtype=torch.float64)


def update_graph(optimizer: Optimizer, name: str = "w_weight", type: str = "f32[4]") -> Graph:
    b = Builder("update")
    weight, gradient = b.input("weight", TensorType.parse(type)), b.input("gradient", TensorType.parse(type))
    states = {state: b.input(state, TensorType.parse(type)) for state in optimizer.states}
    rate = b.input("learning_rate", TensorType.parse("f32[]"))
    count = b.input("count", TensorType.parse("i64[]")) if optimizer.counts_updates else None
    new, changed = optimizer.update(b, name, weight, gradient, states, rate, count)
    assert changed.keys() == set(optimizer.states)
    return b.finish({"weight": new, **changed})


def train(
    optimizer: Optimizer,
    graph: Graph,
    gradients: Sequence[torch.Tensor],
    dtype: torch.dtype | None = torch.float64,
) -> torch.Tensor:
    values = {state: torch.zeros(4, dtype=torch.float64) for state in optimizer.states} | {
        "weight": numbers(0)
    }
    for number, gradient in enumerate(gradients, 1):
        given = values | {"gradient": gradient, "learning_rate": torch.tensor(optimizer.rate_at(number))}
        if optimizer.counts_updates:
            given["count"] = torch.tensor(number)
        values = run_reference(graph, given, dtype=dtype).outputs
    return values["weight"]


@pytest.mark.parametrize(("name", "arguments", "expected"), MXNET)
def test_weights_of_mxnet(name: str, arguments: dict[str, Any], expected: list[float]) -> None:
    optimizer = create(name, **arguments)
    gradients = [numbers(k) for k in range(1, 5)]
    graph = update_graph(optimizer)
    wanted = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(train(optimizer, graph, gradients), wanted, rtol=1e-5, atol=1e-6)
    simplified = train(optimizer, Simplify()(graph), gradients, dtype=None)
    torch.testing.assert_close(simplified.double(), wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (create("sgd", learning_rate=0.1), lambda p: torch.optim.SGD(p, 0.1)),
        (create("sgd", learning_rate=0.1, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
        (
            create("sgd", learning_rate=0.1, momentum=0.9, wd=0.01),
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
        ),
        (
            create("nag", learning_rate=0.1, momentum=0.9, wd=0.01),
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
        ),
        (create("adam", learning_rate=0.1, epsilon=1e-12), lambda p: torch.optim.Adam(p, 0.1, eps=1e-12)),
        (
            create("adam", learning_rate=0.1, wd=0.1, epsilon=1e-12),
            lambda p: torch.optim.Adam(p, 0.1, eps=1e-12, weight_decay=0.1),
        ),
        (create("adamw", learning_rate=0.1), lambda p: torch.optim.AdamW(p, 0.1)),
        (
            create("adamw", learning_rate=0.1, wd=0.3, beta1=0.8, beta2=0.95, epsilon=0.01),
            lambda p: torch.optim.AdamW(p, 0.1, betas=(0.8, 0.95), eps=0.01, weight_decay=0.3),
        ),
        (create("adamax", learning_rate=0.1), lambda p: torch.optim.Adamax(p, 0.1, eps=1e-8)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_weights_of_torch(
    ours: Optimizer, theirs: Callable[[list[torch.Tensor]], torch.optim.Optimizer]
) -> None:
    gradients = [numbers(k) for k in range(1, 12)]
    weight = numbers(0).requires_grad_()
    torch_optimizer = theirs([weight])
    for gradient in gradients:
        weight.grad = gradient.clone()
        torch_optimizer.step()
    torch.testing.assert_close(
        train(ours, update_graph(ours), gradients), weight.detach(), rtol=1e-6, atol=1e-7
    )


def test_adam_in_f32_is_exact_in_its_first_steps() -> None:
    """1 - 0.999 ** t computed in f32 would be wrong in the fourth digit."""
    optimizer = Adam(0.1)
    graph = update_graph(optimizer)
    single = train(optimizer, graph, [numbers(1)], dtype=None).double()
    torch.testing.assert_close(single, train(optimizer, graph, [numbers(1)]), rtol=3e-7, atol=3e-7)


def test_adamax_does_not_divide_by_zero() -> None:
    optimizer = create("adamax")
    moved = train(optimizer, update_graph(optimizer), [torch.zeros(4, dtype=torch.float64)])
    torch.testing.assert_close(moved, numbers(0))


@pytest.mark.parametrize(
    ("name", "factor"),
    [("fc_weight", 1.0), ("bn_gamma", 1.0), ("fc_bias", 0.0), ("bn_beta", 0.0), ("w", 0.0)],
)
def test_weight_decay_by_name(name: str, factor: float) -> None:
    optimizer = SGD(0.1, wd=0.5)
    zero = [torch.zeros(4, dtype=torch.float64)]
    torch.testing.assert_close(
        train(optimizer, update_graph(optimizer, name), zero), numbers(0) * (1 - 0.05 * factor)
    )
    optimizer.set_wd_mult({name: 2.0})
    torch.testing.assert_close(train(optimizer, update_graph(optimizer, name), zero), numbers(0) * 0.9)


def test_learning_rate_factors() -> None:
    optimizer = SGD(0.1)
    optimizer.set_lr_mult({"fc_weight": 3.0})
    ones = [torch.ones(4, dtype=torch.float64)]
    torch.testing.assert_close(train(optimizer, update_graph(optimizer, "fc_weight"), ones), numbers(0) - 0.3)
    torch.testing.assert_close(
        train(optimizer, update_graph(optimizer, "other_weight"), ones), numbers(0) - 0.1
    )


def test_no_work_that_does_nothing() -> None:
    assert [node.primitive for node in update_graph(SGD(0.1)).nodes] == ["broadcast", "mul", "sub"]


@pytest.mark.parametrize("type", ["f16[4]", "bf16[4]", "f64[4]"])
@pytest.mark.parametrize("name", ["sgd", "adam", "ftrl"])
def test_other_element_types(name: str, type: str) -> None:
    optimizer = create(name, learning_rate=0.1, wd=0.1, clip_gradient=1.0, rescale_grad=0.5)
    graph = update_graph(optimizer, type=type)
    assert all(str(value.type) == type for value in graph.outputs)
    train(optimizer, graph, [numbers(1), numbers(2)])


def test_schedulers_set_the_rate() -> None:
    optimizer = SGD(0.1, lr_scheduler=lambda number: 1.0 / number)
    assert [optimizer.rate_at(k) for k in (1, 2, 4)] == [1.0, 0.5, 0.25]
    assert SGD(0.1).rate_at(7) == 0.1


def test_names_in_any_case() -> None:
    for name in ("SGD", "NAG", "Adam", "AdamW", "AdaGrad", "RMSProp", "AdaDelta", "Ftrl", "Adamax", "Signum"):
        assert type(create(name)) is type(create(name.lower())) is getattr(optimizers, name)


@pytest.mark.parametrize(
    ("name", "arguments", "code", "message"),
    [
        ("adamm", {}, "G101", "there is no optimizer 'adamm'"),
        ("sgd", {"momentun": 0.9}, "G102", "there is no argument 'momentun'"),
        ("sgd", {"beta1": 0.9}, "G102", "there is no argument 'beta1'"),
    ],
)
def test_wrong_names(name: str, arguments: dict[str, Any], code: str, message: str) -> None:
    with pytest.raises(GraphcError, match=message) as caught:
        create(name, **arguments)
    assert caught.value.diagnostic.code == code
    assert caught.value.diagnostic.help
