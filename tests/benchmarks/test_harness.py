"""A row is measured in processes of its own; wrong answers, missing peers and dead processes stand in the report."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

ROWS = """
import numpy as np
from harness.row import Row
ROWS = (Row("toy", "double", "doubling", lambda g: {"x": g.random(1000, np.float32)}, nbytes=8000),)
"""
FORMS = """
import os, time
from harness.row import CannotRun, Job

def _job(x, factor=2, seconds=0.0):
    return Job(lambda: time.sleep(seconds), lambda: [factor * x])

def float64(row, inputs):
    return {"float64": _job(inputs["x"].astype("f8"))}

def good(row, inputs):
    return {"slow": _job(inputs["x"], seconds=0.003), "fast": _job(inputs["x"], seconds=0.001)}

def wrong(row, inputs):
    return {"only": _job(inputs["x"], factor=3)}

def refuses(row, inputs):
    raise CannotRun("it cannot double")

def breaks(row, inputs):
    raise ValueError("no such thing")

def dies(row, inputs):
    print("a library talks on stdout")
    return {"only": Job(lambda: os._exit(5), lambda: [2 * inputs["x"]])}
"""


class Fixed:
    """A machine of constant speed."""

    def probe(self) -> tuple[float, float]:
        return 8e9, 1e12


@pytest.fixture
def contest(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """`contest("good", "wrong")` measures the toy row with these functions as peers, graphc being `good`."""
    package = tmp_path / "toy"
    package.mkdir()
    for name, text in (("__init__", ""), ("rows", ROWS), ("toy_forms", FORMS)):
        (package / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    peers, client, contests = (benchmark(f"harness.{name}") for name in ("peers", "client", "contest"))

    def run(*functions: str, python: Path = Path(sys.executable)) -> list[Any]:
        def made(name: str, function: str, python: Path) -> Any:
            peer = peers.Peer(name, "toy_forms", function, ("numpy",), python)
            return client.Client(peer, peers.AS_IT_COMES, 1, tmp_path / "logs")

        clients = [
            made("graphc" if function == "good" else function, function, python) for function in functions
        ]
        reference = made("float64", "float64", Path(sys.executable))
        row = benchmark("toy.rows").ROWS[0]
        effort = contests.Effort(rounds=3, round_seconds=0.002)
        try:
            return list(
                contests.Contest(
                    row, clients, reference, Fixed(), 7, effort, tmp_path, lambda text: None
                ).run()
            )
        finally:
            for each in (*clients, reference):
                each.stop()

    yield run  # type: ignore[misc]
    sys.modules.pop("toy", None)
    sys.modules.pop("toy.rows", None)


def test_the_fastest_form_counts_and_a_wrong_answer_is_no_rival(contest: Callable[..., list[Any]]) -> None:
    ours, wrong = contest("good", "wrong")
    assert (ours["peer"], ours["form"], ours["right"], ours["rounds"]) == ("graphc", "fast", True, 3)
    assert ours["median_ms"] >= 1.0
    assert ours["floor_ms"] == pytest.approx(0.001) and ours["bound"] == "memory"
    assert ours["fraction_of_limit"] == pytest.approx(ours["floor_ms"] / ours["median_ms"], rel=1e-6)
    assert wrong["error"] == pytest.approx(0.5, rel=1e-6) and not wrong["right"]
    assert ours["ratio_to_best_peer"] is None


def test_what_does_not_run_says_why(contest: Callable[..., list[Any]]) -> None:
    records = {record["peer"]: record for record in contest("good", "refuses", "breaks", "dies", "absent")}
    assert records["graphc"]["right"]
    assert records["refuses"]["reason"] == "it cannot double"
    assert records["breaks"]["reason"] == "ValueError: no such thing"
    assert records["dies"]["reason"].startswith("its process ended with exit code 5")
    assert records["absent"]["reason"] == "the toy suite has no form for it"


def test_nothing_is_measured_without_a_reference(contest: Callable[..., list[Any]], tmp_path: Path) -> None:
    (tmp_path / "toy" / "toy_forms.py").write_text(FORMS.replace("astype", "as_kind"))
    (record,) = contest("good")
    assert record["reason"].startswith("no reference to check against: AttributeError")


def test_a_peer_that_is_not_installed_is_reported(contest: Callable[..., list[Any]], tmp_path: Path) -> None:
    (record,) = contest("good", python=tmp_path / "nowhere" / "python")
    assert record["reason"].startswith("not installed")


def test_errors_are_relative_and_nan_is_infinite(benchmark: Any) -> None:
    error = benchmark("harness.row").relative_error
    reference = [np.array([1.0, -4.0])]
    assert error([np.array([1.5, -4.0], np.float32)], reference) == pytest.approx(0.125)
    assert error([np.array([np.nan, -4.0])], reference) == math.inf
    assert error([np.array([1.0])], reference) == math.inf
    assert error([], []) == math.inf
    assert error([np.zeros(2), np.zeros(1)], [np.array([0.0, 3.0]), np.array([4.0])], "whole") == 1.0
    assert error([np.array([0.0, 3.3])], [np.array([0.0, 3.0])], "whole") == pytest.approx(0.1)
    assert error([np.array([np.inf])], [np.ones(1)], "whole") == math.inf


def test_rows_and_peers_are_selected(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the command sets it for its process
    cpu, peers = benchmark("cpu"), benchmark("harness.peers")
    assert [row.key for row in cpu.selected((), ("softmax (",))] == ["softmax"]
    assert {row.suite for row in cpu.selected(("training",), ())} == {"training"}
    names = [(row.suite, row.name) for row in cpu.selected((), ())]
    assert len(set(names)) == len(names)
    assert [peer.name for peer in peers.select("jax,graphc,onnx runtime,eager")] == [
        "graphc", "torch eager", "JAX", "ONNX Runtime",
    ]  # fmt: skip
    for arguments in (["--peers", "tensorflow"], ["--only", "no such row"]):
        result = CliRunner().invoke(cpu.main, arguments)
        assert result.exit_code == 2, result.output
