"""The suites measure what they say: at small sizes graphc and torch agree with float64, row by row."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

FUSED = {
    "gelu": (6, 40),
    "softmax": (6, 40),
    "layer_norm": (6, 40),
    "cross_entropy": (6, 40),
    "adam": (1000,),
    "rms_norm": (6, 40),
    "chain": (1000,),
    "reductions": (7, 33, 0),
    "batch_norm": (2, 3, 5, 4),
    "layer_norm_backward": (6, 40),
    "transpose": (2, 5, 3, 4),
    "gemm": (20,),
}


def agree(benchmark: Any, row: Any) -> None:
    relative_error = benchmark("harness.row").relative_error
    torch_forms, graphc_forms = (
        benchmark(f"{row.suite}.{module}") for module in ("torch_forms", "graphc_forms")
    )
    inputs = row.inputs(np.random.default_rng(3))
    (reference,) = torch_forms.float64(row, inputs).values()
    exact = reference.results()
    assert all(np.asarray(result).dtype == np.float64 for result in exact)
    jobs = {**torch_forms.eager(row, inputs), **graphc_forms.graphc(row, inputs)}
    for name, job in jobs.items():
        assert relative_error(job.results(), exact, row.norm) <= min(row.tolerance, 1e-3), name
        job.call()


@pytest.mark.parametrize("kernel", FUSED)
def test_fused_rows(benchmark: Any, kernel: str) -> None:
    agree(benchmark, getattr(benchmark("fused.rows"), kernel)(*FUSED[kernel]))


def test_every_fused_kernel_is_tested(benchmark: Any) -> None:
    assert {row.options["kernel"] for row in benchmark("fused.rows").ROWS} == set(FUSED)


@pytest.mark.parametrize("kind", ["sgd", "momentum", "adam", "adamw"])
def test_training_of_an_mlp(benchmark: Any, kind: str) -> None:
    networks, rows = benchmark("training.networks"), benchmark("training.rows")
    agree(benchmark, rows.row("mlp", "an MLP", rows.Recipe(networks.mlp((12, 8, 10), 6), kind, 0.01)))


@pytest.mark.parametrize("network", ["transformer", "lstm"])
def test_training_of_language_models(benchmark: Any, network: str) -> None:
    networks, rows = benchmark("training.networks"), benchmark("training.rows")
    small = {"transformer": (1, 16, 5, 11, 2), "lstm": (6, 3, 11, 2)}[network]
    recipe = rows.Recipe(getattr(networks, network)(*small), "sgd", 0.05)
    agree(benchmark, rows.row(network, network, recipe))


def test_the_arithmetic_of_a_step_is_counted(benchmark: Any) -> None:
    networks = benchmark("training.networks")
    # Two layers: forward and weights' gradients of both, data's gradient of the second.
    assert networks.mlp((784, 64, 10), 64).flops == 2 * 64 * (2 * 784 * 64 + 3 * 64 * 10)
    # ResNet-18 for 32x32 pictures: 0.556 G multiply-adds a picture.
    assert sum(count for count, _ in networks.resnet18(1).products) == pytest.approx(0.556e9, rel=1e-2)
    inner = replace(networks.resnet18(1), products=((10, True),))
    assert inner.flops == 60


def test_initial_values_are_the_same_everywhere(benchmark: Any) -> None:
    (row,) = (row for row in benchmark("training.rows").ROWS if row.key == "mlp")
    one, two = (row.inputs(np.random.default_rng(5)) for _ in range(2))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert one["data"].shape == (3, 64, 784)
