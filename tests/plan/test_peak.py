"""Fusion never raises the planned peak: on random graphs and on the nets of the zoo, trained and not."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import graphc as mx
from graphc.driver.compile import Options, lower
from graphc.ir.graph import Graph
from graphc.passes.fusion import FusionOptions, fuse, unfused
from graphc.passes.fusion.fuse import unfused_peak
from graphc.passes.plan import plan
from graphc.symbol.trace import trace
from graphc.training import training_graph
from support.graphs import random_graph

ZOO = Path(__file__).parents[2] / "examples" / "zoo"
IMAGES = {"data": (2, 3, 224, 224), "softmax_label": (2,)}
NETS = {
    "alexnet": IMAGES,
    "googlenet": IMAGES,
    "inception_bn": IMAGES,
    "resnet": IMAGES,
    "transformer": {"data": (4, 64), "softmax_label": (4, 64)},
}


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a file of examples/zoo; other folders have modules of such names too."""
    monkeypatch.syspath_prepend(str(ZOO))
    saved = {name: sys.modules.pop(name) for name in NETS if name in sys.modules}
    yield importlib.import_module
    for name in NETS:
        sys.modules.pop(name, None)
    sys.modules.update(saved)


def check_peak(graph: Graph) -> None:
    """The fused program needs no more than the unfused one, by plan and by what is live at one step."""
    sizes = dict.fromkeys(graph.symbols, FusionOptions().assumed_size)
    fused, plain = plan(fuse(graph), sizes), plan(unfused(graph), sizes)
    assert fused.lower_bound <= plain.lower_bound
    assert fused.size <= plain.size


@pytest.mark.parametrize("start", range(2000, 2500, 50))
def test_random_graphs(start: int) -> None:
    for seed in range(start, start + 50):
        check_peak(random_graph(seed, size=6))


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_nets_of_the_zoo(name: str, train: bool, zoo: Any) -> None:
    net = zoo(name).network()
    graph = (
        training_graph(net, mx.optimizer.SGD(0.1, momentum=0.9), shapes=NETS[name])
        if train
        else trace(net, NETS[name])
    )
    stages = lower(graph, Options(constants=False))
    limit = unfused_peak(stages.optimized, FusionOptions())
    assert plan(stages.program).lower_bound <= limit
