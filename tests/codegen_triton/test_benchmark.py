"""The GPU benchmark without a GPU: its rows are right, its rounds alternate, its figures are what they say."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from graphc.runtime.gpu.interpreter import Interpreter

MODULES = ("fused", "fused.graphs", "fused.rows", "gpu_fused", "harness", "harness.row")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    saved = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    torch.manual_seed(0)
    yield importlib.import_module("gpu_fused")
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(saved)


def test_every_row_agrees_with_float64(benchmark: Any, interpreter: Interpreter) -> None:
    for row in benchmark.ROWS:
        assert benchmark.dry_run(row, interpreter) <= row.tolerance, row.name


def test_rounds_alternate_and_the_median_counts(benchmark: Any) -> None:
    order: list[str] = []
    given = {"a": iter([5.0, 1.0, 9.0]), "b": iter([2.0, 2.0, 4.0])}

    def seconds(name: str) -> float:
        order.append(name)
        return next(given[name])

    medians = benchmark.measure({"a": "a", "b": "b"}, 3, seconds)
    assert medians == {"a": 5.0, "b": 2.0}
    assert order == ["a", "b", "b", "a", "a", "b"]


def test_records_give_bandwidth_beside_a_copy(benchmark: Any) -> None:
    row = benchmark.ROWS[0]
    nbytes = row.nbytes(*row.sizes)
    copy = 2 * benchmark.COPY_BYTES / 4e12
    (record,) = benchmark.records(row, {"graphc": nbytes / 3e12, "copy": copy}, {"graphc": 1e-7})
    assert record["gigabytes_per_second"] == pytest.approx(3000)
    assert record["share"] == pytest.approx(0.75)
    assert record["right"] and "75.0% of a copy" in benchmark.line_of(record)
    wrong = benchmark.records(row, {"graphc": 1.0, "copy": copy}, {"graphc": 1.0})[0]
    assert "WRONG" in benchmark.line_of(wrong)
