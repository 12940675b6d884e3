"""The module cache and the errors of the GPU runtime."""

import sys
from pathlib import Path

import pytest
import torch

from graphc.codegen.triton import TritonProgram, generate
from graphc.diagnostics import ToolchainError
from graphc.runtime.gpu import load
from graphc.runtime.gpu.interpreter import Interpreter, InterpreterError
from graphc.runtime.gpu.module import import_module, write_module
from support import cpp_cases as c
from support.kernels import program_of


def test_a_source_is_written_once_and_named_by_its_content(cache_folder: Path) -> None:
    first = write_module("a program", "x = 1\n")
    written = first.stat().st_mtime_ns
    assert write_module("a program", "x = 1\n") == first and first.stat().st_mtime_ns == written
    other = write_module("a program", "x = 2\n")
    assert other != first and other.parent == first.parent == cache_folder / "triton"
    assert not list(first.parent.glob("*.partial"))
    assert import_module(other).x == 2
    assert import_module(other) is import_module(other)


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(ToolchainError, match="G503"):
        write_module("program", "x = 3\n")


def test_no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ToolchainError, match="G505"):
        import_module(write_module("program", "x = 4\n"))


def softmax() -> TritonProgram:
    return generate(program_of(c.softmax("N", 10).kernel))


def test_the_number_of_buffers_and_sizes_is_checked() -> None:
    program = load(softmax())
    with pytest.raises(ValueError, match="takes 2 buffers and 1 sizes, not 1 and 1"):
        program.run([torch.zeros(10)], [1])
    with pytest.raises(ValueError, match="not 2 and 0"):
        program.run([torch.zeros(10), torch.zeros(10)], [])


def test_the_interpreter_reports_a_kernel_that_fails_and_goes_on(interpreter: Interpreter) -> None:
    good = softmax()
    broken = TritonProgram(
        "broken", good.source.replace("tl.exp(", "tl.no_such_function("), good.launches, good.program
    )
    with pytest.raises(InterpreterError, match="no_such_function"):
        interpreter.run(broken, [torch.zeros(20), torch.zeros(20)], [2])
    _, result = interpreter.run(good, [torch.zeros(20), torch.zeros(20)], [2])
    torch.testing.assert_close(result, torch.full((20,), 0.1))
