"""Small kernels in one parallel region: which ones, where threads wait, and the same bits for any number of them."""

import itertools

import pytest
import torch

import graphc as mx
from graphc.codegen.cpp.kernels import generate_function
from graphc.codegen.cpp.scratch import SCRATCH
from graphc.codegen.cpp.target import detect
from graphc.codegen.cpp.team import team_runs, teams
from graphc.driver.executable import Executable
from graphc.ir.kernel import Access
from graphc.ir.program import Program, Role
from graphc.passes.plan import plan


def training_step(widths: tuple[int, ...], batch: int, features: int) -> Executable:
    net = mx.sym.Variable("data")
    for number, width in enumerate(widths, 1):
        net = mx.sym.FullyConnected(net, num_hidden=width, name=f"fc{number}")
        if number < len(widths):
            net = mx.sym.Activation(net, act_type="relu", name=f"relu{number}")
    net = mx.sym.SoftmaxOutput(net, name="softmax", normalization="batch")
    shapes = {"data": (batch, features), "softmax_label": (batch,)}
    return mx.training_step(net, mx.optimizer.SGD(learning_rate=0.05, momentum=0.9), shapes=shapes)


@pytest.fixture(scope="module")
def small() -> Executable:
    return training_step((96, 80, 10), 72, 130)


def trained(step: Executable, threads: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    step.set_states({n: torch.randn(s.shape, generator=generator) / 8 for n, s in step.states.items()})
    batch, features = step.data_inputs[0].value.type.shape
    data = torch.randn(batch, features, generator=generator)
    label = torch.randint(0, 10, (batch,), generator=generator).float()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        outputs = [step(data=data, softmax_label=label).clone() for _ in range(5)]
    finally:
        torch.set_num_threads(before)
    return [*outputs, *(state.clone() for state in step.states.values())]


def test_the_same_bits_for_any_number_of_threads(small) -> None:
    assert any("GC_TEAM_WAITS" in text for name, text in small.source.items() if name.endswith(".cpp"))
    alone = trained(small, 1)
    for threads in (2, 3, 7):
        assert all(map(torch.equal, trained(small, threads), alone))


def test_timed_steps_are_those_of_the_program(small) -> None:
    trained(small, 1)
    data, label = torch.zeros(72, 130), torch.zeros(72)
    seconds = small.profile(data=data, softmax_label=label)
    assert len(seconds) == len(small.program.steps)
    assert all(second >= 0 for second in seconds)


def touched(program: Program, position: int, places: dict[int, tuple[int, int]]) -> tuple[list, list]:
    """The memory that a step reads, and what it writes: (arena or buffer, first byte, last byte)."""
    step = program.steps[position]
    reads, writes = [], []
    for index, parameter in zip(step.arguments, program.kernels[step.kernel].parameters, strict=True):
        if parameter.name == SCRATCH:
            continue
        start, size = places.get(index, (0, 1))
        where = ("arena" if index in places else index, start, start + size)
        if parameter.access is not Access.OUT:
            reads.append(where)
        if parameter.access is not Access.IN:
            writes.append(where)
    return reads, writes


def overlap(some: list, others: list) -> bool:
    return any(a[0] == b[0] and a[1] < b[2] and b[1] < a[2] for a, b in itertools.product(some, others))


@pytest.mark.parametrize("widths", [(96, 80, 10), (128, 64, 128, 64, 10)])
@pytest.mark.parametrize("memory", ["optimal", "inplace"])
def test_threads_that_do_not_wait_meet_nothing_of_each_others(widths, memory) -> None:
    program = training_step(widths, 72, 130).program
    target = detect()
    runs = team_runs(program, target)
    assert runs
    scratch = [generate_function(kernel, "f", target).scratch for kernel in program.kernels]
    places = {
        placement.buffer: (placement.offset, placement.size)
        for placement in plan(program, {}, memory).placements
    }
    waits = 0
    for team in teams(program, runs, scratch):
        for earlier, later in itertools.combinations(range(team.first, team.last + 1), 2):
            if any(earlier <= wait < later for wait in team.waits):
                continue
            (reads, writes), (more_reads, more_writes) = (
                touched(program, position, places) for position in (earlier, later)
            )
            assert not overlap(writes, more_reads + more_writes)
            assert not overlap(reads, more_writes)
        waits += len(team.waits)
        assert len(team.waits) < team.last - team.first, "weights' updates wait for nothing"
    assert waits
    assert any(buffer.role is Role.INTERMEDIATE for buffer in program.buffers)


def test_large_kernels_keep_their_own_regions() -> None:
    program = training_step((512, 512, 10), 128, 300).program
    shared = {
        step.kernel
        for first, last in team_runs(program, detect())
        for step in program.steps[first : last + 1]
    }
    products = [number for number, kernel in enumerate(program.kernels) if kernel.anchor is not None]
    large = [
        n
        for n in products
        if max(p.type.size for p in program.kernels[n].parameters if p.name != SCRATCH) >= 512 * 512
    ]
    assert large
    assert not shared & set(large)
