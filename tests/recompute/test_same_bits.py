"""Whatever is recomputed, every output and every update keeps all its bits, in a poisoned arena."""

import random

import pytest

from graphc.diagnostics import GraphcError
from graphc.driver.compile import Options, lower
from graphc.ir.graph import Graph
from graphc.ir.program import Program, Role
from graphc.passes.fusion import FusionOptions
from graphc.passes.fusion.bind import Binder
from graphc.passes.fusion.fuse import fuse_again
from graphc.passes.fusion.repeat import Repeater
from graphc.passes.gradient import gradient
from graphc.passes.recompute.arrange import arrange
from support.deep_networks import chain, transformer, values
from support.graphs import random_graph, random_inputs
from support.same_bits import run, same_bits

KINDS = ("elementwise", "reduction", "normalization", "shape", "join", "dot", "convolution", "pool", "random")

NETWORKS = {
    "chain": lambda: chain(8, 12, 20),
    "dropout": lambda: chain(6, 12, 20, "relu", dropout=0.3),
    "batch norm": lambda: chain(6, 12, 20, "relu", normalized=True),
    "batch norm and dropout": lambda: chain(6, 12, 20, "tanh", dropout=0.3, normalized=True),
    "transformer": lambda: transformer(2, 2, 6, 8, 2, 11, dropout=0.2),
}


def dropping(repeater: Repeater, dropped: set[str], turn: int) -> Program:
    """The program that makes some values again after a step."""
    schedule = repeater.schedule()
    made = arrange(schedule, turn, schedule.nbytes.keys() - dropped)
    storage, sequence = repeater.arranged(made)
    return Binder(repeater.part, storage, repeater.options).program(sequence)


def repeaters(graph: Graph) -> tuple[Program, list[Repeater]]:
    optimized = lower(graph, Options(constants=False), "reference").optimized
    return fuse_again(optimized, FusionOptions(), dict.fromkeys(optimized.symbols, 5))


@pytest.mark.parametrize("name", NETWORKS)
def test_named_networks(name: str) -> None:
    graph = NETWORKS[name]()
    plain, found = repeaters(graph)
    inputs = values(graph)
    expected = run(plain, inputs)
    assert not any(value.isnan().any() for value in expected.outputs.values())
    for repeater in found:
        schedule = repeater.schedule()
        saved = [name for name, steps in schedule.readers.items() if steps and steps[-1] >= schedule.turn]
        for dropped in (saved, saved[::2], saved[1::3]):
            program = dropping(repeater, set(dropped), schedule.turn)
            assert len(program.steps) > len(plain.steps)
            same_bits(expected, run(program, inputs))


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_with_random_choices(seed: int) -> None:
    graph = random_graph(seed, 8, KINDS)
    wanted = [item.name for item in graph.inputs if item.value.type.dtype.is_float]
    try:
        graph = gradient(graph, wanted)
    except GraphcError as error:
        # A primitive on the path has no derivative: the forward pass alone, then.
        assert error.diagnostic.code == "G402"
    plain, found = repeaters(graph)
    inputs = random_inputs(graph, seed, dict.fromkeys(graph.symbols, 5))
    expected = run(plain, inputs)
    chance = random.Random(seed)
    for repeater in found:
        schedule = repeater.schedule()
        for _ in range(3):
            dropped = {name for name in schedule.nbytes if chance.random() < 0.6}
            turn = chance.randint(1, max(schedule.steps - 1, 1))
            same_bits(expected, run(dropping(repeater, dropped, turn), inputs))


def test_random_graphs_do_recompute() -> None:
    """The test above is no empty one: most of its programs launch kernels again."""
    more = 0
    for seed in range(20):
        graph = random_graph(seed, 8, KINDS)
        wanted = [item.name for item in graph.inputs if item.value.type.dtype.is_float]
        plain, found = repeaters(gradient(graph, wanted))
        schedule = found[0].schedule()
        program = dropping(found[0], set(schedule.nbytes), schedule.turn)
        more += len(program.steps) > len(plain.steps)
    assert more >= 10


def test_a_moving_average_takes_one_step() -> None:
    """The launch that runs BatchNorm again writes its moving averages to scratch memory."""
    graph = NETWORKS["batch norm"]()
    plain, found = repeaters(graph)
    inputs = values(graph)
    schedule = found[0].schedule()
    again = dropping(found[0], set(schedule.nbytes), schedule.turn)
    scratch = [
        buffer.name
        for buffer in again.buffers
        if buffer.role is Role.INTERMEDIATE and "moving" in buffer.name
    ]
    assert len(scratch) >= 4
    state = {name: index for name, index in again.inputs if "moving" in name}
    for index in state.values():
        written = [
            step
            for step in again.steps
            for p, argument in zip(again.kernels[step.kernel].parameters, step.arguments, strict=True)
            if argument == index and p.access.value != "in"
        ]
        assert len(written) == 1
    same_bits(run(plain, inputs), run(again, inputs))
