"""Every network of the tables is the same in graphc and in torch: values, and gradients where it is trained."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import graphc as mx
from graphc.driver.compile import as_graph
from graphc.ir.graph import InputKind
from graphc.passes.gradient import gradient
from graphc.primitives.declare import Kind, primitive
from graphc.types import product

FOLDER = Path(__file__).parents[2] / "benchmarks"
Zoo = Mapping[str, ModuleType]


@pytest.fixture(scope="module")
def networks() -> Iterator[Zoo]:
    """The modules of benchmarks/networks, and those of examples/zoo that it finds."""
    names = ("catalog", "symbols", "exchange", "torch_vision", "torch_language", "twins")
    zoo = ("alexnet", "bert", "gpt2", "inception_bn", "lstm_lm", "resnet", "transformer", "vgg")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        found = {name: importlib.import_module(f"networks.{name}") for name in names}
        yield found | {name: importlib.import_module(name) for name in zoo}


@dataclass(frozen=True)
class Twins:
    """A network at a small size, twice, and inputs for it."""

    symbol: mx.Symbol
    module: torch.nn.Module
    inputs: Mapping[str, np.ndarray[Any, Any]]
    fixed_gamma: bool = False


def _images(size: int, batch: int = 2) -> dict[str, np.ndarray[Any, Any]]:
    return {"data": np.random.default_rng(0).standard_normal((batch, 3, size, size), np.float32)}


def _words(vocabulary: int, *shape: int) -> dict[str, np.ndarray[Any, Any]]:
    return {"data": np.random.default_rng(0).integers(0, vocabulary, shape)}


def _alexnet(zoo: Zoo) -> Twins:
    return Twins(zoo["alexnet"].network(classes=7), zoo["torch_vision"].AlexNet(7, pixels=1), _images(67))


def _vgg(zoo: Zoo) -> Twins:
    groups = ((8,), (8, 12), (12, 12, 12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo["vgg"], "CONFIGURATIONS", {16: groups})
        symbol = zoo["vgg"].network(classes=7, layers=16)
    return Twins(symbol, zoo["torch_vision"].VGG(groups, 7, pixels=1), _images(8))


def _inception(zoo: Zoo) -> Twins:
    """One block of each kind, so that a picture of 112 is left with 7x7."""
    blocks = {name: zoo["inception_bn"].BLOCKS[name] for name in ("3a", "3c", "5b")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo["inception_bn"], "BLOCKS", blocks)
        symbol = zoo["inception_bn"].network(classes=7)
    return Twins(symbol, zoo["torch_vision"].InceptionBN(blocks, 7), _images(112, 1), fixed_gamma=True)


def _resnet(zoo: Zoo, layers: int, units: tuple[int, ...], size: int) -> Twins:
    """As many stages as `units` says, which is fewer than the network has."""
    widths = (4, 6, 8)[: len(units)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo["resnet"], "UNITS", {layers: units})
        symbol = zoo["resnet"].network(classes=7, layers=layers, small=layers < 50, widths=widths)
    module = zoo["torch_vision"].ResNet(units, layers >= 50, 7, small=layers < 50, widths=widths)
    return Twins(symbol, module, _images(size, 3))


def _transformer(zoo: Zoo) -> Twins:
    symbol = zoo["transformer"].logits(1, 24, 3, length=10, vocabulary=50, dropout=0)
    return Twins(symbol, zoo["torch_language"].Transformer(1, 24, 3, 50, 10), _words(50, 3, 10))


def _gpt2(zoo: Zoo) -> Twins:
    symbol = zoo["transformer"].logits(1, 24, 2, 9, 50, positions=16, activation="gelu_tanh", dropout=0.1)
    return Twins(symbol, zoo["torch_language"].Transformer(1, 24, 2, 50, 16, "tanh"), _words(50, 2, 9))


def _bert(zoo: Zoo) -> Twins:
    symbol = zoo["bert"].network(1, 24, 3, length=11, vocabulary=50)
    lengths = np.array([[11], [7]])
    place = np.arange(11)[None]
    inputs = {
        **_words(50, 2, 11),
        "token_types": ((place > 4) & (place < lengths)).astype(np.int64),
        "mask": (place < lengths).astype(np.float32),
    }
    return Twins(symbol, zoo["torch_language"].Bert(1, 24, 3, 50), inputs)


def _lstm(zoo: Zoo) -> Twins:
    symbol = mx.sym.Group(list(zoo["lstm_lm"].logits(2, 10, 17, dropout=0)))
    states = np.random.default_rng(1).standard_normal((2, 2, 3, 10), np.float32)
    inputs = {**_words(17, 5, 3), "lstm_state": states[0], "lstm_state_cell": states[1]}
    return Twins(symbol, zoo["torch_language"].LstmModel(2, 10, 17), inputs)


NETWORKS: Mapping[str, Callable[[Zoo], Twins]] = {
    "alexnet": _alexnet,
    "vgg16": _vgg,
    "inception_bn": _inception,
    "resnet50": lambda zoo: _resnet(zoo, 50, (1, 2), 33),
    "resnet18": lambda zoo: _resnet(zoo, 18, (1, 2, 1), 16),
    "transformer": _transformer,
    "gpt2": _gpt2,
    "bert": _bert,
    "lstm": _lstm,
}


def _filled(zoo: Zoo, twins: Twins) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """The module in float64 with the values of the parameters' names, and these values for graphc."""

    def value(name: str, shape: tuple[int, ...]) -> Any:
        return zoo["catalog"].parameter(name, shape, fixed_gamma=twins.fixed_gamma)

    module = zoo["exchange"].fill(twins.module.double(), value)
    return module, zoo["exchange"].to_graphc(module)


def _tensors(twins: Twins) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in twins.inputs.items()}


def _in_double(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.double() if value.is_floating_point() else value for name, value in tensors.items()}


def _types(twins: Twins) -> dict[str, dict[str, Any]]:
    return {
        "shapes": {name: array.shape for name, array in twins.inputs.items()},
        "dtypes": {name: str(array.dtype) for name, array in twins.inputs.items()},
    }


def _distance(given: torch.Tensor, exact: torch.Tensor) -> float:
    assert tuple(given.shape) == tuple(exact.shape)
    given, exact = given.detach(), exact.detach()
    return float((given - exact).abs().max() / exact.abs().max().clamp_min(1e-12))


TRAINED = ("resnet18", "transformer", "lstm")


@pytest.mark.parametrize("key", [key for key in NETWORKS if key not in TRAINED])
def test_a_network_gives_what_its_torch_twin_gives(networks: Zoo, key: str) -> None:
    twins = NETWORKS[key](networks)
    module, values = _filled(networks, twins)
    executable = mx.compile(twins.symbol, **_types(twins), target="cpu", parameters=values)
    given = executable(**_tensors(twins))
    with torch.no_grad():
        exact = module.eval()(**_in_double(_tensors(twins)))
    results = given if isinstance(given, tuple | list) else (given,)
    expected = exact if isinstance(exact, tuple) else (exact,)
    assert len(results) == len(expected)
    for one, other in zip(results, expected, strict=True):
        assert _distance(one, other) < 1e-4
        assert float(other.std()) > 1e-3, "an answer that is the same everywhere shows nothing"


def _trained(zoo: Zoo, key: str) -> tuple[Twins, mx.Symbol, torch.Tensor]:
    """The network, its Symbol with a loss, and labels."""
    twins = NETWORKS[key](zoo)
    if key == "resnet18":
        return twins, twins.symbol, torch.tensor([1, 6, 3])
    labels = torch.from_numpy(np.roll(twins.inputs["data"], -1, axis=1))
    if key == "lstm":
        return twins, zoo["lstm_lm"].network(2, 10, 17, dropout=0), labels
    return twins, zoo["transformer"].with_loss(twins.symbol), labels


@pytest.mark.parametrize("key", TRAINED)
def test_values_and_gradients_are_those_of_the_torch_twin(networks: Zoo, key: str) -> None:
    twins, symbol, labels = _trained(networks, key)
    module, values = _filled(networks, twins)
    types = _types(twins)
    types["shapes"]["softmax_label"] = tuple(labels.shape)
    graph = as_graph(symbol, **types, is_train=True)
    names = [item.name for item in graph.inputs if item.kind is InputKind.PARAMETER]
    executable = mx.compile(gradient(graph, names), target="cpu", parameters=values)
    results = executable(**_tensors(twins), softmax_label=labels.float())
    given = dict(zip(names, results[len(graph.outputs) :], strict=True))

    outputs = module.train()(**_in_double(_tensors(twins)))
    scores = outputs[0] if isinstance(outputs, tuple) else outputs
    assert _distance(results[0], scores.flatten(0, -2).softmax(-1)) < 1e-4
    functional.cross_entropy(scores.flatten(0, -2), labels.flatten(), reduction="sum").backward()
    exact = networks["exchange"].gradients(module)
    scale = 1.0 if key == "resnet18" else 1 / labels.numel()
    assert set(given) == set(exact)
    for name in names:
        assert _distance(given[name], exact[name] * scale) < 1e-3, name


def test_parameters_come_back_from_graphc(networks: Zoo) -> None:
    zoo = networks["exchange"]
    first, second = (networks["torch_language"].Transformer(1, 8, 2, 5, 4) for _ in range(2))
    zoo.to_torch(second, zoo.to_graphc(first))
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_tables_of_the_twins_are_those_of_the_zoo(networks: Zoo) -> None:
    assert networks["vgg"].CONFIGURATIONS[16] == networks["twins"].VGG16
    assert networks["twins"].INCEPTION_BLOCKS == networks["inception_bn"].BLOCKS


@pytest.mark.parametrize("key", ["alexnet", "vgg16", "inception_bn", "resnet50", "bert", "gpt2", "lstm"])
def test_the_catalog_counts_what_the_graph_does(networks: Zoo, key: str) -> None:
    """Multiply-adds, parameters and outputs of one example, counted in the graph that is compiled."""
    network = networks["catalog"].BY_KEY[key]
    inputs = network.inputs(np.random.default_rng(0), 1)
    graph = as_graph(
        networks["symbols"].SYMBOLS[key](),
        {name: array.shape for name, array in inputs.items()},
        {name: str(array.dtype) for name, array in inputs.items()},
    )
    done = sum(
        primitive(node.primitive).flops(node)
        for node in graph.nodes
        if primitive(node.primitive).kind is Kind.CONTRACTION
    )
    unseen = 12 * 2 * 768 * (128 * 128 - 128 * 129 // 2) if key == "gpt2" else 0
    recurrent = 35 * 2 * 4 * 650 * 650 if key == "lstm" else 0
    assert done // 2 + recurrent - unseen == network.multiply_adds

    read = {value.name for node in graph.nodes for value in node.inputs}
    held = [item.value for item in graph.inputs if item.kind is not InputKind.DATA and item.name in read]
    tables = {"bert": 30522 + 512 - 128 + 2, "gpt2": 1024 - 128}
    columns = {"bert": 768, "gpt2": 768}
    parameters = sum(product(value.type.shape) for value in held)
    skipped = tables.get(key, 0) * columns.get(key, 0) + (10000 * 650 if key == "lstm" else 0)
    assert parameters - skipped == network.parameters
    assert sum(product(value.type.shape) for value in graph.outputs) == network.outputs
