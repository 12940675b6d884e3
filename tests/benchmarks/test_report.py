"""The report: each peer's better setting counts, rows of other runs stay, and the table and picture say it all."""

import json
from pathlib import Path
from typing import Any

import pytest

MACHINE = {"processor": "P", "threads": 2, "versions": {"graphc": "1"}, "date": "monday"}


def record(row: str, peer: str, setting: str, seconds: list[float], **more: Any) -> dict[str, Any]:
    return {
        "suite": "fused", "row": row, "peer": peer, "setting": setting, "form": "f",
        "median_ms": 1e3 * sorted(seconds)[len(seconds) // 2], "iqr_ms": 0.1, "seconds": seconds, "floor_ms": 1.0,
        "bound": "memory", "fraction_of_limit": 0.5, "bandwidth": 5e10, "peak": 4e11, "error": 1e-7, "right": True,
        **more,
    }  # fmt: skip


PLAIN, KEPT = "as it comes", "allocator keeps memory"


def test_the_better_setting_counts_and_ratios_are_of_the_same_rounds(benchmark: Any) -> None:
    contest = benchmark("harness.contest")
    ours, plain, kept, wrong = contest.with_ratios([
        record("a", "graphc", PLAIN, [1.0, 1.0, 4.0]),
        record("a", "JAX", PLAIN, [6.0, 6.0, 6.0]),
        record("a", "JAX", KEPT, [2.0, 3.0, 12.0]),
        record("a", "OpenVINO", PLAIN, [0.1, 0.1, 0.1], right=False),
    ])  # fmt: skip
    assert [r["counts"] for r in (ours, plain, kept, wrong)] == [True, False, True, True]
    assert [r["best_peer"] for r in (ours, plain, kept, wrong)] == [False, False, True, False]
    assert [r["ratio_to_best_peer"] for r in (ours, plain, kept)] == [3.0, 0.5, 1.0]
    assert "seconds" not in ours
    assert contest.with_ratios([record("a", "graphc", PLAIN, [1.0])])[0]["ratio_to_best_peer"] is None


def test_each_setting_keeps_its_fastest_form(benchmark: Any) -> None:
    seconds = {("JAX", PLAIN, "a"): [2.0], ("JAX", PLAIN, "b"): [1.0], ("JAX", KEPT, "a"): [3.0]}
    assert benchmark("harness.contest").fastest_forms(seconds) == [("JAX", PLAIN, "b"), ("JAX", KEPT, "a")]


def test_a_form_that_cannot_win_is_not_timed_further(benchmark: Any) -> None:
    once = {
        ("JAX", PLAIN, "a"): 2.0,
        ("JAX", PLAIN, "b"): 4.1,
        ("JAX", KEPT, "b"): 9.0,
        ("JAX", PLAIN, "c"): 4.0,
    }
    assert [key[1:] for key in benchmark("harness.contest").promising(once)] == [
        (PLAIN, "a"), (KEPT, "b"), (PLAIN, "c"),
    ]  # fmt: skip


@pytest.fixture
def results(benchmark: Any) -> Any:
    """Two rows of one run: in `b` a peer is missing and another is wrong."""
    contest, report = benchmark("harness.contest"), benchmark("harness.report")
    a = contest.with_ratios([
        record("a", "graphc", PLAIN, [1.0]), record("a", "JAX", PLAIN, [3.0]), record("a", "JAX", KEPT, [2.0]),
    ])  # fmt: skip
    b = contest.with_ratios([
        record("b", "graphc", PLAIN, [1.0]),
        record("b", "JAX", PLAIN, [1.0], right=False, error=0.5),
    ])  # fmt: skip
    b.append({"suite": "fused", "row": "b", "peer": "OpenVINO", "setting": PLAIN, "reason": "it is away"})
    empty = report.load(Path("/nonexistent"))
    return report.merge(empty, MACHINE, [*b, *a], ["a", "b"])


def test_the_table_names_settings_rivals_reasons_and_wrong_answers(benchmark: Any, results: Any) -> None:
    text = benchmark("harness.report").markdown(results)
    assert "P, 2 threads, 50 to 50 GB/s, 400 to 400 GFLOP/s f32" in text
    assert "| row | floor | graphc | of limit | JAX | OpenVINO | ratio | error |" in text
    assert "| a | 1 B | 1e+03 | 0.50 | **2e+03**\\* |  | 2.00 | 1.0e-07 |" in text
    assert "| b | 1 B | 1e+03 | 0.50 | WRONG (5.0e-01) | - |  | 1.0e-07 |" in text
    assert "- OpenVINO, fused: it is away (b)" in text
    lines = benchmark("harness.report").row_table([r for r in results["records"] if r["row"] == "b"])
    assert any("WRONG" in line for line in lines) and any("it is away" in line for line in lines)


def test_rows_of_an_earlier_run_stay_with_their_date(benchmark: Any, results: Any, tmp_path: Path) -> None:
    contest, report = benchmark("harness.contest"), benchmark("harness.report")
    path = tmp_path / "cpu.json"
    report.save(path, results)
    again = contest.with_ratios([record("b", "graphc", PLAIN, [9.0], bandwidth=9e10)])
    report.save(path, report.merge(report.load(path), {**MACHINE, "date": "tuesday"}, again, ["a", "b"]))
    data = json.loads(path.read_text())
    assert [(r["row"], r["peer"], r["date"]) for r in data["records"]] == [
        ("a", "graphc", "monday"), ("a", "JAX", "monday"), ("a", "JAX", "monday"), ("b", "graphc", "tuesday"),
    ]  # fmt: skip
    assert data["machine"]["bandwidth"] == [5e10, 9e10]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["cpu.json", "cpu.md"]
    path.write_text(json.dumps({"schema": 1}))
    assert report.load(path)["records"] == []


def test_the_picture_shows_every_row(benchmark: Any, results: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the examples extra")
    picture = benchmark("harness.picture")
    for name in ("one.svg", "two.svg"):
        picture.draw(results, tmp_path / name)
    text = (tmp_path / "one.svg").read_text()
    assert "Fused kernels" in text and "graphc" in text
    assert text == (tmp_path / "two.svg").read_text()
