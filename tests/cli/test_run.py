"""`graphc run` computes what the model says, on what the user gives, and says when numbers differ."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.numpy import save_file

from graphc.cli import compare
from graphc.cli.arrays import read_arrays
from graphc.cli.compare import compare_one

Command = Callable[..., Any]


def weights() -> dict[str, numpy.ndarray]:
    random = numpy.random.default_rng(3)
    shapes = {"fc1_weight": (4, 5), "fc1_bias": (4,), "fc2_weight": (3, 4), "fc2_bias": (3,)}
    return {name: random.standard_normal(shape, numpy.float32) for name, shape in shapes.items()}


def softmax_net(data: numpy.ndarray, w: dict[str, numpy.ndarray]) -> numpy.ndarray:
    hidden = numpy.maximum(data @ w["fc1_weight"].T + w["fc1_bias"], 0)
    scores = hidden @ w["fc2_weight"].T + w["fc2_bias"]
    powers = numpy.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_given_inputs_and_parameters(graphc: Command, folder: Path, kind: str) -> None:
    data = numpy.random.default_rng(1).standard_normal((2, 5), numpy.float32)
    save_file(weights(), folder / "weights.safetensors")
    if kind == "npy":
        numpy.save(folder / "x.npy", data)
    elif kind == "npz":
        numpy.savez(folder / "x.npz", data=data)
    else:
        save_file({"data": data}, folder / "x.safetensors")
    given = "data=x.npy" if kind == "npy" else f"x.{kind}"
    result = graphc("run", "net.py", "--input", given, "--params", "weights.safetensors", "--save", "out.npz")
    assert result.code == 0
    outputs = numpy.load(folder / "out.npz")
    numpy.testing.assert_allclose(outputs["softmax_output"], softmax_net(data, weights()), rtol=1e-5)
    assert "softmax_output" in result.out
    assert "f32[2,3]" in result.out


def test_seed_fixes_inputs_and_parameters(graphc: Command) -> None:
    first, same, other = (
        graphc("run", "net.py", "--json", "--seed", seed).json["outputs"] for seed in ("4", "4", "5")
    )
    assert first == same != other


@pytest.mark.parametrize("arguments", [[], ["--train"], ["--optimizer", "adam,learning_rate=0.01"]])
def test_check_agrees_with_float64(graphc: Command, arguments: list[str]) -> None:
    result = graphc("run", "net.py", "--check", "--json", *arguments)
    assert result.code == 0
    check = result.json["check"]
    assert check["equal"]
    assert 0 <= check["error"] < 1e-5
    assert result.json["target"] == "cpu"


@pytest.mark.parametrize("arguments", [[], ["--train"]])
def test_check_of_a_parameter_that_nothing_reads(graphc: Command, folder: Path, arguments: list[str]) -> None:
    (folder / "norm.py").write_text(
        "import graphc as mx\n"
        "net = mx.sym.BatchNorm(mx.sym.Variable('data'), fix_gamma=True, name='norm')\n"
        "shapes = {'data': (4, 3)}\n"
    )
    result = graphc("run", "norm.py", "--check", "--json", *arguments)
    assert (result.code, result.json["check"]["equal"]) == (0, True)


def test_named_dimension_takes_its_size_from_the_input(graphc: Command, folder: Path) -> None:
    numpy.save(folder / "x.npy", numpy.ones((6, 5), numpy.float32))
    result = graphc("run", "net.py", "--shape", "data=N,5", "--input", "data=x.npy", "--json")
    assert result.json["outputs"][0]["type"] == "f32[6,3]"


def test_numbers_that_differ_have_exit_code_3(graphc: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing agrees to the last bit of float64.
    monkeypatch.setitem(compare.TOLERANCES, "f32", 0.0)
    result = graphc("run", "net.py", "--check")
    assert result.code == 3
    assert "DIFFERS from float64: worst softmax_output[" in result.err


def test_repeat_tells_the_time_on_stderr(graphc: Command) -> None:
    result = graphc("run", "double.graph", "--repeat", "4")
    assert "median of 3 runs" in result.err
    assert "median" not in result.out


def test_worst_element_is_found() -> None:
    expected = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    got = expected.float()
    assert compare_one("y", got, expected).equal
    got[1, 0] = 3.5
    found = compare_one("y", got, expected)
    assert (found.equal, found.where, found.got, found.expected) == (False, "y[1, 0]", 3.5, 3.0)
    assert found.error == pytest.approx(0.125)
    got[0, 1] = float("nan")
    assert compare_one("y", got, expected).where == "y[0, 1]"
    zero = torch.tensor([1e-9, -1e-18], dtype=torch.float64)
    assert compare_one("cancelled", torch.zeros(2), zero).equal
    both = torch.full((2,), float("nan"))
    assert compare_one("y", both, both.double()).equal
    assert not compare_one("n", torch.tensor([3]), torch.tensor([4.0], dtype=torch.float64)).equal


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--input", "data=y.npy"], 2, "there is no file y.npy; did you mean 'x.npy'?"),
        (["--input", "x.npy"], 2, "write name=file.npy"),
        (["--input", "dta=x.npy"], 2, "the model has no input 'dta'; did you mean 'data'?"),
        (["--input", "data=x.npy"], 1, "error[G602]"),
        (["--input", "broken.npz"], 1, "error[G324]"),
        (["--params", "missing.safetensors"], 2, "there is no file missing.safetensors"),
        (["--params", "broken.safetensors"], 1, "error[G324]"),
        (["--params", "other.safetensors"], 1, "error[G601]"),
        (["--save", "missing/out.npz"], 2, "cannot write missing/out.npz"),
        (["--target", "tpu"], 2, "'tpu' is not one of"),
        (["--repeat", "0"], 2, "0 is not in the range"),
    ],
)
def test_wrong_requests(graphc: Command, folder: Path, arguments: list[str], code: int, told: str) -> None:
    numpy.save(folder / "x.npy", numpy.ones((3, 5), numpy.float32))
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 cut off")
    (folder / "broken.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{")
    save_file({"fc9_weight": numpy.ones(2, numpy.float32)}, folder / "other.safetensors")
    result = graphc("run", "net.py", *arguments)
    assert (result.code, result.out) == (code, "")
    assert told in result.err


def test_pickled_arrays_are_not_opened(folder: Path) -> None:
    numpy.save(folder / "x.npy", numpy.array([{}], object), allow_pickle=True)
    with pytest.raises(Exception, match="G324"):
        read_arrays(folder / "x.npy")


def test_without_a_compiler_the_reference_takes_over_aloud(
    graphc: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    result = graphc("run", "double.graph", "--json", "--check")
    assert result.code == 0
    assert result.json["target"] == "reference"
    assert result.err.startswith("warning: no working C++ compiler (tried no-such-compiler)")


def test_compiler_that_fails_is_reported_with_the_operator(
    graphc: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # It builds the probe, so it is found, and fails on everything that graphc generates.
    compiler = folder / "c++"
    compiler.write_text(
        '#!/bin/sh\nfor word; do case "$word" in *probe.cpp) exec g++ "$@";; esac; done\n'
        'echo "error: internal compiler error" >&2\nexit 1\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    result = graphc("run", "net.py")
    assert (result.code, result.out) == (4, "")
    assert "error[G502]" in result.err
    assert "internal compiler error" in result.err
