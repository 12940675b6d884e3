"""Very large tensors are worked on part by part: the same results, a fraction of the memory, the same few kernels."""

import importlib
from dataclasses import replace

import pytest

import graphc as mx
from graphc.driver.compile import Options, as_graph, lower
from graphc.ir.kernel_text import print_program
from graphc.ir.program import Program
from graphc.passes.chunk import chunk
from graphc.passes.fusion import fuse
from graphc.passes.manager import PassManager, default_pipeline
from graphc.passes.plan import plan
from support.fusion_checks import check_program
from support.graphs import random_graph
from support.heads import LOSSES, head, random_rows

PART = 128 * 512 * 4
"""Bytes of 128 rows of 512 logits."""


def reasons(program: Program) -> list[str]:
    return [decision.reason for decision in program.decisions if "parts" in decision.reason]


@pytest.mark.parametrize("rows", [512, 500, 257])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_head_in_parts_computes_the_same(loss: str, train: bool, rows: int) -> None:
    graph = head(loss, rows, 512, 16, train)
    whole = lower(graph, Options(chunk_bytes=0)).program
    cut = lower(graph, Options(chunk_bytes=PART)).program
    check_program(graph, cut)
    if loss == "softmax_output" and not train:
        assert cut.steps == whole.steps  # the probabilities are the caller's, and nothing else is that wide
        return
    (reason,) = reasons(cut)
    assert reason.startswith(f"run in {-(-rows // 128)} parts of 128 rows: {PART:,} bytes")
    assert plan(cut).size < 0.65 * plan(whole).size
    assert all(b.type.nbytes <= PART for b in cut.buffers if b.role.value == "intermediate")
    # First, between and last part of a sum; another set where the last part is shorter.
    assert len(cut.kernels) <= 3 * len(whole.kernels)


@pytest.mark.parametrize("train", [True, False])
def test_the_logits_of_a_large_vocabulary_are_never_stored_whole(train: bool) -> None:
    rows, vocabulary, width = 4096, 131072, 512
    graph = head("cross_entropy", rows, vocabulary, width, train)
    whole = plan(lower(graph, Options(chunk_bytes=0)).program).size
    program = lower(graph).program
    logits, gradient = 4 * rows * vocabulary, 4 * vocabulary * width if train else 0
    assert whole >= (2 if train else 1) * logits
    assert plan(program).size <= gradient + logits // 6
    widest = max(b.type.nbytes for b in program.buffers if b.role.value == "intermediate")
    assert widest <= max(gradient, logits // 16)


def test_parts_run_one_after_the_other_on_their_rows() -> None:
    program = lower(head("picked_rows", 512, 512, 16), Options(chunk_bytes=PART)).program
    text = print_program(program)
    number = next(n for n, b in enumerate(program.buffers) if b.name == "label")
    starts = [step.offset(number) for step in program.steps if number in step.arguments]
    assert starts == [0, 128, 256, 384]
    assert f"{number} from 384" in text
    parts = [step.kernel for step in program.steps if number in step.arguments]
    assert len(set(parts)) == 1


def test_what_mixes_rows_stays_whole_and_says_why() -> None:
    label = mx.sym.Variable("label")
    data = mx.sym.Variable("data")
    wide = mx.sym.FullyConnected(data, num_hidden=512, name="head")
    down = mx.sym.sum(mx.sym.log_softmax(wide, axis=0) * label)
    graph = as_graph(down, {"data": (512, 16), "label": (512, 512)})
    program = lower(graph, Options(chunk_bytes=PART)).program
    check_program(graph, program)
    assert any(reason.startswith("not cut into parts") for reason in reasons(program))
    dropped = head("cross_entropy", 512, 512, 16, dropout=0.5)
    program = lower(dropped, Options(chunk_bytes=PART)).program
    check_program(dropped, program)
    assert any("needs the number of a row" in reason for reason in reasons(program))


def test_small_symbolic_and_exact_programs_stay_as_they_are() -> None:
    graph = head("cross_entropy", 512, 512, 16)
    for options in (Options(), Options(chunk_bytes=0), Options(level=1, chunk_bytes=PART)):
        assert not reasons(lower(graph, options).program)
    few = lower(head("cross_entropy", 128, 512, 16), Options(chunk_bytes=128)).program
    assert any("make no two parts" in reason for reason in reasons(few))
    net = mx.sym.softmax(mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=512, name="head"))
    program = lower(as_graph(mx.sym.sum(net, axis=1), {"data": ("N", 16)}), Options(chunk_bytes=1)).program
    assert not reasons(program)


def test_groups_of_rows_stay_together() -> None:
    data, label = mx.sym.Variable("data"), mx.sym.Variable("label")
    logits = mx.sym.FullyConnected(data, num_hidden=512, flatten=False, name="head")
    loss = mx.sym.sum(mx.sym.pick(mx.sym.log_softmax(logits, axis=-1), label, axis=2))
    graph = as_graph(loss, {"data": (24, 32, 16), "label": (24, 32)})
    program = lower(graph, Options(chunk_bytes=PART)).program
    check_program(graph, program)
    assert any(reason.startswith("run in ") for reason in reasons(program))


@pytest.mark.parametrize("first", range(0, 160, 40))
def test_random_nets_in_parts(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("graphc.passes.chunk.chunk")
    monkeypatch.setattr(module, "FEWEST_ROWS", 1)
    monkeypatch.setattr(module, "_ROW_MULTIPLE", 1)
    cut = 0
    for seed in range(first, first + 40):
        graph = random_rows(seed) if seed % 4 else random_graph(seed, size=8, symbolic=False)
        whole = fuse(PassManager(default_pipeline(2)).run(graph)[0])
        program = chunk(whole, 16 * (1 + seed % 8))
        if program.steps != whole.steps:
            cut += 1
            check_program(graph, program, seed)
        assert chunk(replace(program, decisions=()), 0).steps == program.steps
    assert cut >= 12
