"""compile(..., tune=, choices=): measures within a budget, writes a file, follows it."""

from pathlib import Path

import pytest
import torch

import graphc as mx
from graphc.diagnostics import GraphcError
from graphc.driver import tuning
from graphc.driver.compile import lower
from graphc.ir.graph import Graph
from graphc.primitives.builder import Builder
from graphc.symbol.trace import trace
from graphc.types import TensorType


def statistics(rows: int | str = 600) -> Graph:
    """Column sums, and a row softmax of the same tensor."""
    b = Builder("statistics")
    x = b.input("x", TensorType.parse(f"f32[{rows},1300]"))
    e = b.exp(b.sub(x, b.reduce("reduce_max", x, [1], keepdims=True)))
    return b.finish({"sums": b.sum(x, [0]), "softmax": b.div(e, b.sum(e, [1], keepdims=True))})


def network() -> mx.Symbol:
    data = mx.sym.Variable("data")
    first = mx.sym.Convolution(data, kernel=(3, 3), pad=(1, 1), num_filter=40, name="first")
    return mx.sym.Convolution(
        mx.sym.Activation(first, act_type="relu"), kernel=(3, 3), num_filter=24, name="next"
    )


def test_what_is_found_is_written_and_followed(tmp_path: Path) -> None:
    path = tmp_path / "net.choices"
    tuned = mx.compile(statistics(), target="cpu", tune="10min", choices=path)
    text = path.read_text()
    assert len(text.splitlines()) == 3
    again = mx.compile(statistics(), target="cpu", choices=path)
    assert again.source == tuned.source
    x = torch.randn(600, 1300)
    for one, other in zip(tuned(x), again(x), strict=True):
        assert torch.equal(one, other)
    torch.testing.assert_close(tuned(x)[1], torch.softmax(x, 1))
    # Nothing is left to measure, so nothing changes.
    mx.compile(statistics(), target="cpu", tune="10min", choices=path)
    assert path.read_text() == text


def test_a_pinned_algorithm_is_followed_where_weights_are_packed_once(tmp_path: Path) -> None:
    shapes = {"data": (2, 24, 22, 22)}
    program = lower(trace(network(), shapes)).program
    path = tmp_path / "net.choices"
    results = []
    x = torch.randn(2, 24, 22, 22)
    parameters = {
        "first_weight": torch.randn(40, 24, 3, 3) / 15, "first_bias": torch.randn(40),
        "next_weight": torch.randn(24, 40, 3, 3) / 15, "next_bias": torch.randn(24),
    }  # fmt: skip
    for algorithm in ("direct", "winograd"):
        choices = tuning.read_choices(path, missing_ok=True)
        for kernel in program.kernels:
            choices = choices.with_choice(kernel, {"algorithm": algorithm}, "")
        tuning.write_choices(path, str(choices))
        executable = mx.compile(network(), shapes=shapes, target="cpu", choices=path, parameters=parameters)
        assert ("winograd.h" in executable.source) == (algorithm == "winograd")
        results.append(executable(data=x))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)


def test_a_budget_that_is_over_at_once_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "net.choices"
    executable = mx.compile(statistics(), target="cpu", tune=1e-9, choices=path)
    assert path.read_text() == "# graphc choices 1\n"
    assert executable.source == mx.compile(statistics(), target="cpu").source


def test_named_dimensions_are_measured_with_the_sizes_given() -> None:
    graph = statistics("N")
    with pytest.raises(GraphcError, match="needs sizes of N"):
        mx.compile(graph, target="cpu", tune="1s")
    executable = mx.compile(graph, target="cpu", tune="2s", tune_sizes={"N": 50})
    x = torch.randn(7, 1300)
    torch.testing.assert_close(executable(x)[1], torch.softmax(x, 1))


@pytest.mark.parametrize("budget", ["soon", "30 parsecs", "", "-1s", 0, -3.0, float("nan")])
def test_what_is_no_time_is_an_error(budget: str | float) -> None:
    with pytest.raises(GraphcError) as raised:
        mx.compile(statistics(), target="cpu", tune=budget)
    assert raised.value.diagnostic.code == "G507"


def test_wrong_files_and_targets_are_errors(tmp_path: Path) -> None:
    missing, binary = tmp_path / "missing.choices", tmp_path / "binary.choices"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, target in ((missing, "cpu"), (binary, "cpu"), (tmp_path, "cpu"), (binary, "reference")):
        with pytest.raises(GraphcError) as raised:
            mx.compile(statistics(), target=target, choices=path)
        assert raised.value.diagnostic.code == "G507"
    with pytest.raises(GraphcError, match="cannot write choices"):
        mx.compile(statistics(), target="cpu", tune=1e-9, choices=tmp_path / "no" / "folder" / "net.choices")


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("2min", 120), ("500ms", 0.5), ("7", 7), (3, 3)])
def test_budgets(text: str | float, seconds: float) -> None:
    assert tuning.budget_seconds(text) == seconds
