"""Learning-rate schedules: the numbers of MXNet 1.9.1, resuming, wrong arguments."""

from __future__ import annotations

import pytest

from graphc import lr_scheduler
from graphc.diagnostics import GraphcError
from graphc.lr_scheduler import (
    CosineScheduler,
    FactorScheduler,
    LRScheduler,
    MultiFactorScheduler,
    PolyScheduler,
)

# The rates of MXNet 1.9.1 for num_update = 0 to 11.
MXNET: list[tuple[str, list[float]]] = [
    (
        "FactorScheduler(step=3, factor=0.5, base_lr=1.0)",
        [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125],
    ),
    (
        "FactorScheduler(step=2, factor=0.1, stop_factor_lr=0.005, base_lr=1.0, warmup_steps=3, warmup_begin_lr=0.1)",
        [0.1, 0.4, 0.7, 0.1, 0.1, 0.01, 0.01, 0.005, 0.005, 0.005, 0.005, 0.005],
    ),
    (
        "MultiFactorScheduler(step=[2, 5, 6], factor=0.5, base_lr=0.8)",
        [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1],
    ),
    (
        "PolyScheduler(max_update=8, base_lr=1.0, pwr=2, final_lr=0.1)",
        [1.0, 0.7890625, 0.60625, 0.4515625, 0.325, 0.2265625, 0.15625, 0.1140625, 0.1, 0.1, 0.1, 0.1],
    ),
    (
        "PolyScheduler(max_update=8, base_lr=1.0, pwr=1, warmup_steps=2, warmup_mode='constant', warmup_begin_lr=0.3)",
        [0.3, 0.3, 1.0, 0.833333333, 0.666666667, 0.5, 0.333333333, 0.166666667, 0.0, 0.0, 0.0, 0.0],
    ),
    (
        "CosineScheduler(max_update=8, base_lr=1.0, final_lr=0.2, warmup_steps=2)",
        [0.0, 0.5, 1.0, 0.946410162, 0.8, 0.6, 0.4, 0.253589838, 0.2, 0.2, 0.2, 0.2],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), MXNET)
def test_rates_of_mxnet(text: str, expected: list[float]) -> None:
    schedule = eval(text, vars(lr_scheduler))
    assert [schedule(number) for number in range(12)] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(("text", "expected"), MXNET)
def test_a_resumed_run_has_the_same_rates(text: str, expected: list[float]) -> None:
    schedule = eval(text, vars(lr_scheduler))
    assert [schedule(number) for number in (11, 4, 0)] == pytest.approx(
        [expected[k] for k in (11, 4, 0)], abs=1e-8
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: FactorScheduler(step=0),
        lambda: FactorScheduler(step=1, factor=1.5),
        lambda: MultiFactorScheduler(step=[]),
        lambda: MultiFactorScheduler(step=[3, 2]),
        lambda: MultiFactorScheduler(step=[0, 2]),
        lambda: PolyScheduler(max_update=0),
        lambda: CosineScheduler(max_update=5, warmup_steps=5),
        lambda: CosineScheduler(max_update=5, warmup_steps=-1),
        lambda: CosineScheduler(max_update=5, warmup_begin_lr=1.0),
        lambda: CosineScheduler(max_update=5, warmup_mode="slow"),
    ],
)
def test_wrong_arguments(make: type[LRScheduler]) -> None:
    with pytest.raises(GraphcError) as caught:
        make()
    assert caught.value.diagnostic.code == "G104"
