"""A program that was compiled before starts from what was declared: nothing is traced, and the bits are the same."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import graphc as mx
from graphc import optimizer as optimizers
from graphc.diagnostics import Diagnostic, ToolchainError
from graphc.driver import start, store, training
from graphc.driver.compile import Options, compile
from graphc.driver.executable import Executable
from graphc.ir.graph import Graph, Value
from graphc.operators.declare import Operator, declare
from graphc.optimizer import SGD, Optimizer
from graphc.primitives.builder import Builder
from graphc.runtime import cache
from graphc.symbol import digest
from graphc.training import training_graph

SHAPES = {"data": (4, 6), "softmax_label": (4,)}


def net(hidden: int = 3, name: str = "fc") -> mx.Symbol:
    dense = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=hidden, name=name)
    return mx.sym.SoftmaxOutput(mx.sym.BatchNorm(dense, name="norm"), name="softmax")


def step_of(**changes: object) -> Executable:
    return mx.training_step(net(), SGD(0.1, momentum=0.9), shapes=SHAPES, **changes)


def result(step: Executable) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    step.set_states({n: torch.randn(s.shape, generator=generator) for n, s in step.states.items()})
    outputs = step(data=torch.randn(4, 6, generator=generator), softmax_label=torch.ones(4))
    return torch.cat([outputs.flatten(), *(state.flatten() for state in step.states.values())])


def no_graph(*_: object, **__: object) -> Graph:
    raise AssertionError("a graph was built")


def test_a_found_step_builds_no_graph_until_somebody_asks(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = step_of()
    with monkeypatch.context() as patch:
        patch.setattr("graphc.training.training_graph", no_graph)
        found = step_of()
        assert torch.equal(result(found), result(first))
        assert found.output_names == first.output_names
    assert found.graph == first.graph and found.optimized == first.optimized
    assert found.program == first.program and found.kernels == first.kernels
    assert found.source == first.source and found.source_paths() == first.source_paths()
    assert found.memory() == first.memory() and found.plan() == first.plan()


def test_a_found_program_with_constants_and_named_sizes(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = {"data": ("N", 6), "softmax_label": ("N",)}
    first = compile(net(), shapes=shapes)
    monkeypatch.setattr(start, "trace", no_graph)
    with pytest.raises(AssertionError, match="a graph was built"):
        compile(net(hidden=4), shapes=shapes)
    found = compile(net(), shapes=shapes)
    monkeypatch.undo()
    assert found.backend.prologue is not None
    values = {n: torch.rand(s.shape) for n, s in first.states.items()}
    for rows in (1, 5):
        x = torch.randn(rows, 6)
        a, b = (one.set_states(values)(data=x) for one in (first, found))
        assert torch.equal(a, b)


def test_what_tells_two_models_apart() -> None:
    def text(
        model: mx.Symbol, shapes: dict[str, object] | None = None, dtypes: dict[str, object] | None = None
    ) -> str:
        found = digest.digest_text(model, SHAPES | (shapes or {}), dtypes)
        assert found is not None
        return found

    models = [net(), net(4), net(name="other")]
    with mx.AttrScope(lr_mult="2"):
        models.append(net())
    texts = [text(model) for model in models]
    texts += [text(models[0], {"data": (4, "K")}), text(models[0], {}, {"data": "float64"})]
    texts.append(text(models[0].get_internals()["fc_output"], {}))
    assert len(set(texts)) == len(texts)
    copies = [net() for _ in range(2)]
    assert text(copies[0]) == text(copies[1])
    lines = [
        mx.sym.exp(mx.sym.Variable("data"), name="e"),
        mx.sym.exp(mx.sym.Variable("data"), name="e"),
    ]
    assert digest.digest_text(lines[0], {}) != digest.digest_text(lines[1], {}), "source lines are part of it"


@pytest.mark.parametrize(
    "changes",
    [{"options": Options(level=1)}, {"memory_budget": "2GB"}, {"dtypes": {"data": "float64"}}],
    ids=lambda changes: next(iter(changes)),
)
def test_other_options_are_another_program(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    step_of()
    monkeypatch.setattr("graphc.training.training_graph", no_graph)
    step_of()
    with pytest.raises(AssertionError, match="a graph was built"):
        step_of(**changes)


OPTIMIZERS = [
    kind
    for kind in vars(optimizers).values()
    if isinstance(kind, type) and issubclass(kind, Optimizer) and kind is not Optimizer
]


@pytest.mark.parametrize("kind", OPTIMIZERS, ids=lambda kind: kind.__name__)
def test_the_rate_is_an_input_of_every_optimizer(kind: type[Optimizer]) -> None:
    small, large = kind(learning_rate=0.25), kind(learning_rate=0.5)
    assert small.digest_text == large.digest_text
    model = net()
    graphs = [str(training_graph(model, one, shapes=SHAPES)) for one in (small, large)]
    assert graphs[0] == graphs[1]
    others = [kind(wd=0.5), kind(rescale_grad=0.5), kind(clip_gradient=1.0), kind(lr_mult={"fc_bias": 2.0})]
    assert len({small.digest_text, *(one.digest_text for one in others)}) == 5


def test_the_default_rate_is_the_optimizers_own(empty_cache: Path) -> None:
    steps = [mx.training_step(net(), SGD(rate), shapes=SHAPES) for rate in (0.0, 0.5)]
    before = [torch.ones(3, 6), torch.ones(3, 6)]
    for step, weight in zip(steps, before, strict=True):
        step.initialize(mx.init.One()).set_states({"fc_weight": weight})
        step(data=torch.arange(24.0).view(4, 6), softmax_label=torch.tensor([0.0, 1, 2, 0]))
    assert torch.equal(steps[0].states["fc_weight"], before[0])
    assert not torch.equal(steps[1].states["fc_bias"], torch.ones(3))


@dataclass
class Half(SGD):
    """A formula of the user's own."""


def test_what_is_not_graphcs_own_is_known_by_its_graph() -> None:
    assert Half(0.1).digest_text is None
    assert training._declared(net(), Half(0.1), SHAPES, {}).key is None
    own = Operator("TestStartDouble", "Twice the input.", lambda b, p, inputs, c: _double(b, inputs[0]))
    declare(own)
    doubled = mx.sym.TestStartDouble(mx.sym.Variable("data"), name="double")
    assert digest.digest_text(doubled, {"data": (2,)}) is None
    x = torch.rand(2)
    for _ in range(2):
        assert torch.equal(compile(doubled, shapes={"data": (2,)})(data=x), 2 * x)


def _double(builder: Builder, value: Value) -> Value:
    return builder.add(value, value)


@pytest.mark.parametrize("damage", ["library gone", "record cut", "no value"])
def test_a_damaged_start_is_made_again(empty_cache: Path, damage: str) -> None:
    expected = result(step_of())
    (entry,) = empty_cache.glob("start-*[!k]")
    if damage == "library gone":
        for library in empty_cache.glob("cpp-*/program.so"):
            library.unlink()
    elif damage == "record cut":
        (entry / cache.RECORD).write_text("{")
    else:
        (entry / "value.pickle").write_bytes(b"not a pickle")
    assert torch.equal(result(step_of()), expected)
    assert torch.equal(result(step_of()), expected)


def test_a_disk_that_is_full_for_shortcuts_alone(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise ToolchainError(Diagnostic("G503", "no space left"))

    monkeypatch.setattr(store, "get_or_build", full)
    assert result(step_of()).shape and not list(empty_cache.glob("start-*"))


PROGRAM = """
import sys
import graphc as mx
data = mx.sym.Variable("data")
step = mx.training_step(
    mx.sym.SoftmaxOutput(mx.sym.FullyConnected(data, num_hidden=3, name="fc"), name="softmax"),
    mx.optimizer.SGD(0.1),
    shapes={"data": (2, 4), "softmax_label": (2,)},
)
step.initialize(mx.init.One())
import torch
step.bind(data=torch.ones(2, 4), softmax_label=torch.zeros(2))()
heavy = ("graphc.passes.fusion", "graphc.passes.gradient", "graphc.codegen", "jinja2", "sympy", "triton")
print(*(name for name in heavy if name in sys.modules))
"""


def test_a_warm_start_imports_no_compiler(empty_cache: Path) -> None:
    environment = {**os.environ, "GRAPHC_CACHE_DIR": str(empty_cache)}
    command = [sys.executable, "-c", PROGRAM]
    cold, warm = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    )
    assert "graphc.passes.fusion" in cold and warm == []
