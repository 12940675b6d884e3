"""Initial values by name."""

import numpy as np
import pytest

import graphc as mx
from graphc.diagnostics import GraphcError


def filled(rule: mx.init.Initializer, name: str, shape: tuple[int, ...]) -> np.ndarray:
    array = mx.nd.full(shape, np.nan)
    rule(name, array)
    return array.asnumpy()


def test_names_choose_constants() -> None:
    rule = mx.init.Uniform(1.0)
    assert (filled(rule, "fc1_bias", (4,)) == 0).all()
    assert (filled(rule, "bn_gamma", (4,)) == 1).all()
    assert (filled(rule, "bn_moving_var", (4,)) == 1).all()
    assert (filled(rule, "bn_moving_mean", (4,)) == 0).all()


@pytest.mark.parametrize(
    ("rule", "deviation"),
    [
        (mx.init.Uniform(0.5), 0.5 / 3**0.5),
        (mx.init.Normal(0.3), 0.3),
        (mx.init.Xavier(), (3.0 / 150) ** 0.5 / 3**0.5),
        (mx.init.Xavier("gaussian", "in", 2.0), (2.0 / 100) ** 0.5),
        (mx.init.MSRAPrelu("out", 0.0), (2.0 / 200) ** 0.5),
    ],
)
def test_spread(rule, deviation) -> None:
    mx.random.seed(5)
    weights = filled(rule, "fc_weight", (200, 100))
    assert weights.std() == pytest.approx(deviation, rel=0.02)
    assert abs(weights.mean()) < 0.02 * deviation * 5


def test_a_seed_repeats() -> None:
    draws = []
    for _ in range(2):
        mx.random.seed(11)
        draws.append(filled(mx.init.Normal(), "w", (3, 3)))
    np.testing.assert_array_equal(*draws)


def test_orthogonal() -> None:
    w = filled(mx.init.Orthogonal(scale=1.0), "w", (4, 9))
    np.testing.assert_allclose(w @ w.T, np.eye(4), atol=1e-5)


def test_lstm_bias_and_bilinear() -> None:
    assert filled(mx.init.LSTMBias(1.0), "lstm_bias", (8,)).tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    w = filled(mx.init.Bilinear(), "up_weight", (1, 1, 4, 4))
    np.testing.assert_allclose(w[0, 0, 0], np.array([0.25, 0.75, 0.75, 0.25]) * 0.25)


def test_mixed_load_and_create() -> None:
    rule = mx.init.Mixed(["fc.*", ".*"], [mx.init.Constant(2.0), mx.init.One()])
    assert (filled(rule, "fc_weight", (2, 2)) == 2).all() and (filled(rule, "w", (2, 2)) == 1).all()
    load = mx.init.Load({"arg:w": mx.nd.ones((2, 2))}, mx.init.Zero())
    assert filled(load, "w", (2, 2)).sum() == 4 and filled(load, "v", (2, 2)).sum() == 0
    with pytest.raises(GraphcError, match=r"shape \(3,\), loaded \(2, 2\)"):
        filled(load, "w", (3,))
    assert mx.init.create(mx.init.Xavier(magnitude=2.0).dumps()).magnitude == 2.0
    with pytest.raises(GraphcError, match="did you mean 'xavier'"):
        mx.init.create("xavir")
    with pytest.raises(GraphcError, match="two or more dimensions"):
        filled(mx.init.Xavier(), "w", (3,))
