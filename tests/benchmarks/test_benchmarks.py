"""The benchmark measures what it says: every candidate agrees with float64, and ratios favour the peers."""

import importlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
MODULES = ("candidate", "fused", "fused.graphs", "models", "report", "rows", "training", "updates")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`benchmark("rows")` imports a module of benchmarks/; other folders have modules of these names too."""
    monkeypatch.syspath_prepend(str(FOLDER))
    saved = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    torch.manual_seed(0)
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(saved)


CASES = {
    "bias_gelu_residual": ("_torch_gelu", (6, 40), {"x": (6, 40), "bias": (40,), "residual": (6, 40)}),
    "softmax": ("_torch_softmax", (6, 40), {"x": (6, 40)}),
    "layer_norm": ("_torch_layer_norm", (6, 40, False), {"x": (6, 40), "gamma": (40,), "beta": (40,)}),
    "layer_norm_residual": (
        "_torch_layer_norm_residual",
        (6, 40, True),
        {"x": (6, 40), "residual": (6, 40), "gamma": (40,), "beta": (40,)},
    ),
    "cross_entropy": ("_torch_cross_entropy", (6, 40), {"logits": (6, 40)}),
}


@pytest.mark.parametrize("name", CASES)
def test_fused_rows_agree_with_float64(benchmark: Any, name: str) -> None:
    rows, graphs = benchmark("rows"), benchmark("fused.graphs")
    function, arguments, shapes = CASES[name]

    def inputs() -> dict[str, torch.Tensor]:
        given = {key: torch.randn(shape) for key, shape in shapes.items()}
        return given | ({"labels": torch.randint(0, 40, (6,))} if name == "cross_entropy" else {})

    graph = getattr(graphs, "layer_norm" if name == "layer_norm_residual" else name)
    row = rows.function_row(name, 1, 1, lambda: graph(*arguments), inputs, getattr(rows, function))
    candidates = row.make(["graphc", "eager"])
    assert [candidate.name for candidate in candidates] == ["graphc", "eager"]
    for candidate in candidates:
        candidate.call()
        assert candidate.error() < 1e-5


def test_explicit_cross_entropy_is_the_usual_one(benchmark: Any) -> None:
    rows = benchmark("rows")
    logits, labels = torch.randn(5, 9, dtype=torch.float64), torch.randint(0, 9, (5,))
    usual = rows._torch_cross_entropy(logits, labels)
    for one, other in zip(rows._explicit_cross_entropy(logits, labels), usual, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_updates_agree_with_float64(benchmark: Any, kind: str) -> None:
    for candidate in benchmark("updates").update_candidates(kind, 1000, ["graphc", "eager"]):
        candidate.call()
        assert candidate.error() < 1e-5


def test_training_steps_agree_with_float64(benchmark: Any) -> None:
    for candidate in benchmark("training").training_candidates("mlp", ["graphc", "eager"]):
        candidate.call()
        assert candidate.error() < 1e-5


def test_error_is_relative_to_the_largest_and_nan_is_infinite(benchmark: Any) -> None:
    relative_error = benchmark("candidate").relative_error
    reference = [torch.tensor([1.0, -4.0], dtype=torch.float64)]
    assert relative_error([torch.tensor([1.5, -4.0])], reference) == pytest.approx(0.125)
    assert relative_error([torch.tensor([float("nan"), -4.0])], reference) == math.inf


def record(row: str, peer: str, setting: str, median: float, **more: Any) -> dict[str, Any]:
    return {
        "suite": "fused",
        "row": row,
        "peer": peer,
        "setting": setting,
        "median_ms": median,
        "iqr_ms": 0.1,
        **more,
    }


@pytest.fixture
def report(benchmark: Any) -> ModuleType:
    module: ModuleType = benchmark("report")
    return module


def test_ratio_is_within_the_same_rounds_and_the_peer_chooses_its_setting(report: ModuleType) -> None:
    records = report.with_ratios([
        record("a", "graphc", "plain", 2.0), record("a", "eager", "plain", 8.0),
        record("a", "graphc", "kept", 4.0), record("a", "eager", "kept", 6.0),
        record("b", "eager", "plain", 1.0),
    ])  # fmt: skip
    assert [r["ratio"] for r in records] == [1.0, 4.0, 1.0, 1.5, None]
    best = {(r["row"], r["peer"]): (r["setting"], r["ratio"]) for r in report.best_setting(records)}
    assert best == {
        ("a", "graphc"): ("plain", 1.0),
        ("a", "eager"): ("kept", 1.5),
        ("b", "eager"): ("plain", None),
    }


def test_results_keep_rows_that_were_not_measured_again(report: ModuleType, tmp_path: Path) -> None:
    machine = {
        "processor": "P",
        "threads": 2,
        "versions": "v",
        "date": "monday",
        "bandwidth": 5e10,
        "flops": 4e11,
    }
    first = report.with_ratios([record("a", "graphc", "plain", 2.0), record("b", "graphc", "plain", 3.0)])
    report.write(tmp_path, "fused", machine, first)
    again = report.with_ratios([record("b", "graphc", "plain", 9.0, error=1.0, right=False)])
    path = report.write(tmp_path, "fused", {**machine, "date": "tuesday"}, again)
    data = json.loads(path.read_text())
    assert data["schema"] == 1
    assert [(r["row"], r["median_ms"], r["date"]) for r in data["records"]] == [
        ("a", 2.0, "monday"),
        ("b", 9.0, "tuesday"),
    ]
    table = path.with_suffix(".md").read_text()
    assert "50.0 GB/s, 400 GFLOP/s" in table
    assert "| a | graphc | plain | 2 | 0.1 | 1.00 |" in table
    assert "WRONG" in table
    assert sorted(item.name for item in tmp_path.iterdir()) == ["fused.json", "fused.md"]
