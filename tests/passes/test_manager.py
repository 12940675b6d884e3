"""The pass manager: order, verification, reports, dumps, and failures that name pass, node and line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from graphc.diagnostics import EXIT_BUG, GraphcError, Location, fail
from graphc.ir.graph import Graph, Origin, Value
from graphc.ir.text import parse_graph
from graphc.passes.base import NodeError
from graphc.passes.manager import PassError, PassManager, default_pipeline
from graphc.passes.prune import Prune
from graphc.passes.simplify import Simplify
from graphc.primitives.builder import Builder
from graphc.types import TensorType


def example() -> Graph:
    b = Builder("example")
    x = b.input("x", TensorType.parse("f32[2,3]"))
    with b.at((Origin("fc1", "FullyConnected", Location("net.py", 7)),), "fc1"):
        b.exp(x)
        y = b.mul(b.neg(b.neg(x)), 1.0)
        z = b.add(y, b.tanh(x))
    return b.finish({"z": z})


@dataclass(frozen=True)
class Broken:
    """A pass that does what `how` says."""

    name: ClassVar[str] = "broken"
    needs: ClassVar[tuple[str, ...]] = ("prune",)
    how: str

    def __call__(self, graph: Graph) -> Graph:
        if self.how == "wrong type":
            bad = Value(graph.nodes[-1].output.name, TensorType.parse("f32[3,2]"))
            node = replace(graph.nodes[-1], outputs=(bad,))
            return replace(graph, nodes=(*graph.nodes[:-1], node), outputs=(bad,))
        if self.how == "node":
            raise NodeError(graph.nodes[0]) from KeyError("axis")
        if self.how == "model":
            raise fail("G402", "no gradient", operator="floor")
        raise RuntimeError("out of luck")


def test_runs_in_order_and_reports() -> None:
    graph = example()
    result, report = PassManager(default_pipeline(), verify=True).run(graph)
    names = ["strip_markers", "prune", "attention", "fold", "cse", "simplify", "fold_scales"]
    assert [run.name for run in report.runs] == names
    assert [node.primitive for node in result.nodes] == ["tanh", "add"]
    assert (report.nodes_before, report.nodes_after, report.verified) == (7, 2, True)
    assert [run.changed for run in report.runs] == [False, True, False, False, False, True, False]
    assert report.seconds == sum(run.seconds for run in report.runs) > 0
    assert len(graph.nodes) == 7


def test_same_object_when_nothing_changes() -> None:
    once, _ = PassManager(default_pipeline(), verify=True).run(example())
    twice, report = PassManager(default_pipeline(), verify=True).run(once)
    assert twice is once
    assert not any(run.changed for run in report.runs)


def test_no_pass_at_all() -> None:
    graph = example()
    result, report = PassManager(()).run(graph)
    assert result is graph
    assert (report.runs, report.nodes_before, report.seconds) == ((), 0, 0)


def test_levels() -> None:
    assert [step.name for step in default_pipeline(0)] == ["strip_markers", "prune"]
    assert Simplify(strict=True) in default_pipeline(1)
    assert Simplify(strict=False) in default_pipeline(2)
    with pytest.raises(ValueError, match="0, 1 or 2"):
        default_pipeline(3)


def test_a_pass_comes_after_what_it_needs() -> None:
    with pytest.raises(ValueError, match="broken needs prune"):
        PassManager([Broken("model")])
    PassManager([Prune(), Broken("model")])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("wrong type", "the pass broken made a graph that breaks a rule"),
        ("node", "the pass broken failed at %fc1.1 = neg(%x): KeyError: 'axis'"),
        ("other", "the pass broken failed: RuntimeError: out of luck"),
    ],
)
def test_failures_name_pass_node_and_line(how: str, message: str) -> None:
    with pytest.raises(PassError) as caught:
        PassManager([Prune(), Broken(how)], verify=True).run(example())
    diagnostic = caught.value.diagnostic
    assert diagnostic.code == "G401"
    assert diagnostic.message.startswith(message)
    assert caught.value.exit_code == EXIT_BUG
    if how != "other":
        assert diagnostic.name == "fc1"
        assert diagnostic.operator == "FullyConnected"
        assert str(diagnostic.location) == "net.py:7"


def test_errors_about_the_model_pass_through() -> None:
    with pytest.raises(GraphcError) as caught:
        PassManager([Prune(), Broken("model")]).run(example())
    assert caught.value.diagnostic.code == "G402"


def test_a_failing_rule_names_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*arguments: object) -> None:
        raise ZeroDivisionError("in a rule")

    monkeypatch.setattr("graphc.passes.rewrite.Rewriter.splat", explode)
    with pytest.raises(PassError, match=r"the pass fold failed at %\S+ = .*ZeroDivisionError: in a rule"):
        PassManager(default_pipeline()).run(example())


def test_wrong_graphs_are_refused_before_the_first_pass() -> None:
    graph = example()
    wrong = replace(graph, nodes=graph.nodes[::-1])
    with pytest.raises(GraphcError) as caught:
        PassManager([Prune()], verify=True).run(wrong)
    assert caught.value.diagnostic.code == "G303"


@pytest.mark.parametrize(("value", "expected"), [(None, False), ("0", False), ("", False), ("1", True)])
def test_verification_follows_the_environment(
    value: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRAPHC_DEBUG", raising=False)
    if value is not None:
        monkeypatch.setenv("GRAPHC_DEBUG", value)
    assert PassManager(()).verify is expected
    assert PassManager((), verify=not expected).verify is not expected


def test_dumps_into_a_folder(tmp_path: Path) -> None:
    result, _ = PassManager(default_pipeline(), dump=tmp_path / "dump").run(example())
    files = sorted((tmp_path / "dump").iterdir())
    assert [file.name for file in files] == [
        "00-input.txt", "01-strip_markers.txt", "02-prune.txt", "03-attention.txt", "04-fold.txt", "05-cse.txt",
            "06-simplify.txt", "07-fold_scales.txt",
    ]  # fmt: skip
    assert parse_graph(files[0].read_text()) == example()
    assert parse_graph(files[-1].read_text()) == result


def test_dumps_to_a_callable() -> None:
    seen: list[tuple[int, str, int]] = []
    PassManager([Prune()], dump=lambda index, name, graph: seen.append((index, name, len(graph.nodes)))).run(
        example()
    )
    assert seen == [(0, "input", 7), (1, "prune", 6)]
