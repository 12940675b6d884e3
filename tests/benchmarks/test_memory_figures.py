"""The memory table: MXNet's planner replayed to the byte on every published row, and graphc's plan beside it."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import graphc as mx

FOLDER = Path(__file__).parents[2] / "benchmarks"
ZOO = ("alexnet", "googlenet", "inception_bn", "vgg")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module benchmarks/memory.py; other folders have modules of such names too."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.syspath_prepend(str(FOLDER.parent / "examples"))
    names = ("memory", "mxnet_plan")
    saved = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    yield importlib.import_module("memory")
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(saved)


def rows(*nets: str) -> list[Any]:
    """(net, batch, training) of the rows of these nets."""
    batch = {"inception_bn": 32}
    return [(net, batch.get(net, 64), training) for net in nets for training in (False, True)]


def row_of(memory: Any, net: str, batch: int, training: bool) -> Any:
    (row,) = (r for r in memory.ROWS if (r.net, r.batch, r.training) == (net, batch, training))
    return row


@pytest.mark.parametrize(("net", "batch", "training"), [*rows(*ZOO), ("vgg", 1, False)])
def test_replay_gives_the_published_bytes(memory: Any, net: str, batch: int, training: bool) -> None:
    row = row_of(memory, net, batch, training)
    assert row.published
    for strategy, published in row.published.items():
        shapes = {"data": (batch, 3, 224, 224)}
        planned = memory.mxnet_plan.planned_bytes(
            memory.network(net), shapes, training, strategy, cudnn=row.cudnn
        )
        assert planned == published, strategy


@pytest.mark.parametrize(
    ("net", "best"), [("alexnet", 332853504), ("googlenet", 1708704000), ("vgg", 3128152320)]
)
def test_replay_without_cudnn(memory: Any, net: str, best: int) -> None:
    shapes = {"data": (64, 3, 224, 224)}
    assert memory.mxnet_plan.planned_bytes(memory.network(net), shapes, True, "both", cudnn=False) == best


@pytest.mark.parametrize(("net", "batch", "training"), [*rows(*ZOO), ("vgg", 1, False)])
def test_plan_reaches_its_targets(memory: Any, net: str, batch: int, training: bool) -> None:
    row = row_of(memory, net, batch, training)
    figures = memory.measure(row)
    assert memory.judge(row, figures) == []
    assert tuple(figures) == memory.FIGURES


def test_missed_targets_are_named(memory: Any) -> None:
    row = row_of(memory, "alexnet", 64, True)
    figures = {**row.published, "optimal": 400_000_000, "lower_bound": 380_000_000}
    assert len(memory.judge(row, figures)) == 2
    assert len(memory.judge(row, {**figures, "none": 1, "both": row.published["both"] + 1})) == 4


def test_results_are_written(memory: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib (pip install graphc[examples])")
    row = row_of(memory, "alexnet", 64, False)
    figures = {**row.published, "optimal": 100_000_000, "lower_bound": 100_000_000}
    memory.write(tmp_path, [(row, figures)])
    memory.show([(row, figures)])
    assert '"optimal": 100000000' in (tmp_path / "memory.json").read_text()
    assert "| AlexNet | 64 | forward |" in (tmp_path / "memory.md").read_text()
    assert (tmp_path / "memory.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize("net", ZOO)
def test_zoo_gives_probabilities_of_a_thousand_classes(memory: Any, net: str) -> None:
    network = memory.network(net)
    _, (output,), _ = network.infer_shape(data=(2, 3, 224, 224))
    assert output == (2, 1000)
    assert isinstance(network, mx.Symbol)
