"""The callable: arrays in and out, states, symbolic sizes, errors, threads."""

import threading
import warnings

import numpy as np
import pytest
import torch

import graphc
from graphc.diagnostics import GraphcError
from graphc.driver.compile import compile
from graphc.driver.initializer import Xavier
from graphc.driver.ndarray import NDArray
from graphc.driver.ndarray import array as nd_array
from graphc.ir.graph import Graph, InputKind
from graphc.primitives.builder import Builder
from graphc.types import TensorType


def affine(rows: str = "N") -> Graph:
    """y = x w + b, and the count of rows seen as a state."""
    builder = Builder("affine")
    x = builder.input("x", TensorType.parse(f"f32[{rows},3]"))
    w = builder.input("w", TensorType.parse("f32[3,5]"), InputKind.PARAMETER)
    b = builder.input("bias", TensorType.parse("f32[5]"), InputKind.PARAMETER)
    calls = builder.input("calls", TensorType.parse("f32[]"), InputKind.STATE)
    y = builder.add(builder.dot(x, w, transpose_a=False, transpose_b=False), b)
    builder.update(calls, builder.add(calls, 1.0))
    return builder.finish({"y": y})


@pytest.fixture(scope="module")
def executable() -> graphc.driver.executable.Executable:
    return compile(affine())


@pytest.fixture
def values() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {"w": torch.randn(3, 5, generator=generator), "bias": torch.randn(5, generator=generator)}


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_any_size_of_a_named_dimension(executable, values, rows) -> None:
    executable.set_states(values)
    x = torch.randn(rows, 3)
    torch.testing.assert_close(executable(x), x @ values["w"] + values["bias"])


def test_a_named_dimension_is_at_least_one(executable, values) -> None:
    executable.set_states(values)
    with pytest.raises(GraphcError, match="N must be at least 1"):
        executable(torch.ones(0, 3))


def test_empty_tensors(values) -> None:
    empty = compile(affine("0"), parameters=values)
    assert empty(torch.ones(0, 3)).shape == (0, 5)


def test_result_is_of_the_callers_kind(executable, values) -> None:
    executable.set_states(values)
    x = np.ones((2, 3), np.float32)
    expected = (torch.ones(2, 3) @ values["w"] + values["bias"]).numpy()
    for given, kind in ((x, np.ndarray), (torch.from_numpy(x), torch.Tensor), (nd_array(x), NDArray)):
        result = executable(x=given)
        assert isinstance(result, kind)
        np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-6)


def test_inputs_that_are_not_dense_or_not_writable(executable, values) -> None:
    executable.set_states(values)
    x = np.arange(24, dtype=np.float32).reshape(3, 8).T[::2]
    frozen = x.copy()
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for given in (x, x[::-1], frozen, np.asfortranarray(x)):
            expected = given @ values["w"].numpy() + values["bias"].numpy()
            np.testing.assert_allclose(executable(given), expected, rtol=1e-5)


def test_an_output_never_changes_on_a_later_call(executable, values) -> None:
    executable.set_states(values)
    first = executable(torch.ones(4, 3))
    kept = first.clone()
    for _ in range(3):
        executable(torch.zeros(4, 3))
    assert torch.equal(first, kept)


def test_a_dropped_output_is_used_again(executable, values) -> None:
    executable.set_states(values)
    x = torch.ones(4000, 3)  # a large output: malloc looks after small ones
    address = executable(x).data_ptr()
    view = executable(x)[1:]
    assert executable(x).data_ptr() != view.untyped_storage().data_ptr()
    del view
    assert any(executable(x).data_ptr() == address for _ in range(4))


def test_output_into_the_callers_array(executable, values) -> None:
    executable.set_states(values)
    x, out = torch.randn(2, 3), torch.full((2, 5), float("nan"))
    result = executable(x, out={"y": out})
    assert result.data_ptr() == out.data_ptr()
    torch.testing.assert_close(out, x @ values["w"] + values["bias"])
    with pytest.raises(GraphcError, match=r"G602.*output 'y'"):
        executable(x, out={"y": torch.empty(3, 5)})
    with pytest.raises(GraphcError, match=r"G601.*no output 'z'"):
        executable(x, out={"z": out})


def test_states_are_updated_and_survive_a_failed_call(executable, values) -> None:
    executable.set_states({**values, "calls": 0.0})
    executable(torch.ones(1, 3))
    with pytest.raises(GraphcError):
        executable(torch.ones(1, 4))
    executable(torch.ones(1, 3))
    assert executable.states["calls"].item() == 2.0


def test_parameters_without_a_value() -> None:
    fresh = compile(affine())
    with pytest.raises(GraphcError, match=r"G603.*bias, w"):
        fresh(torch.ones(1, 3))
    fresh.initialize(Xavier())
    assert torch.equal(fresh.states["bias"], torch.zeros(5))
    assert fresh(torch.ones(1, 3)).shape == (1, 5)


def test_states_are_found_again_after_a_parameter_that_came_with_a_call(executable, values) -> None:
    executable.set_states(values)
    x, other = torch.randn(2, 3), torch.randn(3, 5)
    for w in (other, values["w"]):
        named = {"w": w} if w is other else {}
        torch.testing.assert_close(executable(x, **named), x @ w + values["bias"])
    shared = torch.randn(3, 5)
    executable.share_state("w", shared)
    torch.testing.assert_close(executable(x), x @ shared + values["bias"])


def test_a_parameter_may_come_with_the_call(executable, values) -> None:
    executable.set_states(values)
    w = torch.randn(3, 5)
    x = torch.randn(2, 3)
    torch.testing.assert_close(executable(x, w=w), x @ w + values["bias"])
    torch.testing.assert_close(executable(x), x @ values["w"] + values["bias"])


@pytest.mark.parametrize(
    ("arguments", "named", "code", "text"),
    [
        ((), {}, "G601", "input 'x' is missing"),
        ((), {"X": torch.ones(1, 3)}, "G601", "'X' is no input"),
        ((torch.ones(1, 3),), {"y": 1}, "G601", "no input 'y'"),
        ((torch.ones(1, 3), 1, 2), {}, "G601", "takes 1 data input"),
        ((torch.ones(1, 3),), {"x": torch.ones(1, 3)}, "G601", "given twice"),
        ((torch.ones(1, 3),), {"calls": 1.0}, "G601", "updated by the program"),
        ((torch.ones(1, 4),), {}, "G602", r"f32\[N,3\], given shape \(1, 4\)"),
        ((torch.ones(3),), {}, "G602", "given shape"),
        ((torch.ones(1, 3, dtype=torch.float64),), {}, "G605", "x.to"),
        ((np.ones((1, 3)),), {}, "G605", "float64"),
        (("text",), {}, "G605", "is a str"),
        (([[1.0, "a", 2.0]],), {}, "G605", "input 'x'"),
    ],
)
def test_wrong_calls(executable, values, arguments, named, code, text) -> None:
    executable.set_states(values)
    with pytest.raises(GraphcError, match=text) as caught:
        executable(*arguments, **named)
    assert caught.value.diagnostic.code == code


def test_wrong_states_leave_all_as_it_was(executable, values) -> None:
    executable.set_states(values)
    with pytest.raises(GraphcError, match="G602"):
        executable.set_states({"w": torch.zeros(3, 5), "bias": torch.zeros(6)})
    with pytest.raises(GraphcError, match=r"no parameter or state is named 'biass'.*") as caught:
        executable.set_states({"w": torch.zeros(3, 5), "biass": torch.zeros(5)})
    assert "did you mean 'bias'" in str(caught.value)
    assert torch.equal(executable.states["w"], values["w"])


def test_several_threads_at_once() -> None:
    builder = Builder("square_sum")
    x = builder.input("x", TensorType.parse("f32[N,33]"))
    shared = compile(builder.finish({"y": builder.sum(builder.mul(builder.exp(x), x), (1,))}))
    failures: list[str] = []

    def work(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(40):
            given = torch.randn(1 + seed, 33, generator=generator)
            if not torch.allclose(shared(given), (given.exp() * given).sum(1), rtol=1e-4, atol=1e-4):
                failures.append(f"thread {seed}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_outputs_that_are_inputs_states_or_the_same_value() -> None:
    builder = Builder("odd_outputs")
    x = builder.input("x", TensorType.parse("f32[4]"))
    s = builder.input("s", TensorType.parse("f32[4]"), InputKind.STATE)
    y = builder.add(x, s)
    builder.update(s, y)
    odd = compile(builder.finish({"x_again": x, "old": s, "y": y, "y_again": y}))
    odd.set_states({"s": torch.full((4,), 10.0)})
    x_given = torch.arange(4.0)
    x_again, old, y_given, y_again = odd(x_given)
    assert torch.equal(x_again, x_given) and x_again.data_ptr() != x_given.data_ptr()
    assert torch.equal(old, torch.full((4,), 10.0))
    assert torch.equal(y_given, x_given + 10) and torch.equal(y_again, y_given)
    assert torch.equal(odd.states["s"], x_given + 10)


def test_the_reference_target_gives_the_same(values) -> None:
    reference = compile(affine(), target="reference", parameters=values)
    x = torch.randn(3, 3)
    torch.testing.assert_close(reference(x), x @ values["w"] + values["bias"])
    assert reference.states["calls"].item() == 1.0


def test_unknown_target() -> None:
    with pytest.raises(GraphcError, match=r"G506.*no target 'tpu'"):
        compile(affine(), target="tpu")


def test_the_plan_needs_every_size(executable) -> None:
    with pytest.raises(GraphcError, match="needs sizes of N"):
        executable.plan()
    plan = executable.plan(N=8)
    assert plan.lower_bound <= plan.size <= max(plan.naive, 1) + 64 * len(plan.placements)


def test_memory_is_known_before_anything_runs(executable) -> None:
    report = executable.memory(N=8)
    assert report["arena"]["planned"] == executable.plan(N=8).size
    assert report["bytes"]["input"] == 8 * 3 * 4
    assert report["sizes"] == {"N": 8}


def test_a_batch_that_changes_keeps_few_arenas(executable, values) -> None:
    executable.set_states(values)
    for rows in range(1, 40):
        executable(torch.ones(rows, 3))
    assert len(executable._frames) <= 8


def test_a_whole_checkpoint_fits_a_program_that_reads_part_of_it() -> None:
    builder = Builder("part")
    x = builder.input("x", TensorType.parse("f32[2]"))
    builder.input("unread_weight", TensorType.parse("f32[3]"), InputKind.PARAMETER)
    part = compile(builder.finish({"y": builder.neg(x)}), parameters={"unread_weight": torch.ones(3)})
    assert part(torch.ones(2)).tolist() == [-1, -1]


def test_profile_runs_once_and_times_each_step(values) -> None:
    executable = compile(affine()).set_states(values)
    seconds = executable.profile(torch.randn(4, 3))
    assert len(seconds) == len(executable.program.steps)
    assert all(0 <= second < 60 for second in seconds) and sum(seconds) > 0
    assert float(executable.states["calls"]) == 1
    executable(torch.randn(4, 3))
    assert float(executable.states["calls"]) == 2
    with pytest.raises(GraphcError, match="G506"):
        compile(affine(), target="reference").set_states(values).profile(torch.randn(4, 3))
