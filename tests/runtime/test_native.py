"""Building, loading and calling native programs."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from graphc.diagnostics import GraphcError, ToolchainError
from graphc.runtime import cache, toolchain
from graphc.runtime.cpu import load
from support import cpp_cases
from support.native_programs import Native, check, joined

SOURCE = """#include <stdint.h>
// model.py:3 Activation relu1
static void relu1(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] *= 2.0f;
}
extern "C" __attribute__((visibility("default"))) int32_t graphc_run(char** buffers, const int64_t* sizes) {
  relu1((float*)buffers[0], sizes[0]);
  return sizes[0] > 4 ? 7 : 0;
}
"""


@dataclass(frozen=True)
class Sources:
    files: tuple[tuple[str, str], ...] = (("unit.cpp", SOURCE),)
    name: str = "doubling"
    flags: tuple[str, ...] = ("-std=c++17", "-O1", "-fvisibility=hidden", "-shared", "-fPIC")
    labels: tuple[tuple[str, str], ...] = (("unit.cpp", "relu1"),)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    cache._writable.cache_clear()
    toolchain._probed.cache_clear()
    yield tmp_path / "cache"
    cache._writable.cache_clear()


def test_build_call_and_find_again(folder: Path) -> None:
    first, second = load(Sources()), load(Sources())
    assert (first.cached, second.cached) == (False, True) and first.path == second.path
    x = np.arange(3, dtype=np.float32)
    second.run([x.ctypes.data], [3])
    assert x.tolist() == [0, 2, 4]
    with pytest.raises(GraphcError, match="doubling stopped with status 7"):
        second.run((ctypes.c_void_p * 1)(np.zeros(5, np.float32).ctypes.data), (ctypes.c_int64 * 1)(5))


def test_a_truncated_library_is_built_again(folder: Path) -> None:
    path = load(Sources()).path
    data = path.read_bytes()
    path.unlink()  # the loaded library keeps its own copy
    path.write_bytes(data[: len(data) // 2])
    assert not load(Sources()).cached


def test_units_build_side_by_side(folder: Path) -> None:
    entry = SOURCE.replace(
        "static void relu1(float* x, int64_t n) {", "void relu1(float* x, int64_t n);\n#if 0\n{"
    )
    entry = entry.replace("extern", "#endif\nextern", 1)
    kernel = "#include <stdint.h>\nvoid relu1(float* x, int64_t n) { for (int64_t i = 0; i < n; ++i) x[i] *= 2.0f; }\n"
    native = load(Sources((("entry.cpp", entry), ("kernel.cpp", kernel))))
    x = np.ones(2, np.float32)
    native.run([x.ctypes.data], [2])
    assert x.tolist() == [2, 2]
    assert not list(native.path.parent.glob("*.o"))


def test_a_compiler_error_names_the_operator_and_keeps_the_source(folder: Path) -> None:
    broken = SOURCE.replace("x[i] *= 2.0f", "x[i] *= two")
    with pytest.raises(ToolchainError) as caught:
        load(Sources((("unit.cpp", broken),)))
    message = str(caught.value)
    assert caught.value.diagnostic.code == "G502"
    assert "relu1 (model.py:3 Activation relu1)" in message and "two" in message
    (kept,) = folder.glob("failed-*")
    assert str(kept) in message and (kept / "unit.cpp").read_text() == broken


def test_no_compiler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(ToolchainError) as caught:
        load(Sources())
    assert caught.value.diagnostic.code == "G501" and "/nowhere/c++" in str(caught.value)


def test_a_compiler_that_builds_nothing_is_none(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "c++"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CXX", str(fake))
    with pytest.raises(ToolchainError) as caught:
        load(Sources())
    assert caught.value.diagnostic.code == "G501"


def test_a_full_disk_in_the_compiler(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "c++"
    fake.write_text(
        '#!/bin/sh\ncase "$*" in *unit.cpp*) echo "cc1plus: fatal error: No space left on device" >&2; exit 1;; esac\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("CXX", str(fake))
    with pytest.raises(ToolchainError) as caught:
        load(Sources())
    assert caught.value.diagnostic.code == "G503"
    assert not [
        path
        for path in folder.iterdir()
        if path.name.startswith((".building", "cpp-", "failed-")) and path.is_dir()
    ]


def test_findings_about_a_compiler_are_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = toolchain.find_toolchain()
    toolchain._probed.cache_clear()
    monkeypatch.setattr(toolchain.subprocess, "run", lambda *a, **k: pytest.fail("a process was run"))
    assert toolchain.find_toolchain() == found


def test_a_warm_start_runs_no_process(folder: Path) -> None:
    load(Sources())
    program = (
        "import subprocess, sys\n"
        "def forbidden(*a, **k): raise SystemExit('a process was started')\n"
        "subprocess.Popen.__init__ = forbidden\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from graphc.runtime.cpu import load\n"
        "import importlib.util\n"
        "spec = importlib.util.spec_from_file_location('sources', sys.argv[2])\n"
        "sys.modules['sources'] = module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "assert load(module.Sources()).cached\n"
    )
    tests = Path(__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", program, str(tests), __file__], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_several_threads_run_one_program() -> None:
    cases = [cpp_cases.softmax(90, 1200, "softmax"), cpp_cases.dense(64, 48, 200, False, True, name="fc")]
    native = Native(joined([case.kernel for case in cases]))
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for turn in range(3):
                check(native, cases, seed=10 * seed + turn)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_unaligned_buffers() -> None:
    case = cpp_cases.gelu_residual(2100, 1003, "gelu")
    native = Native(joined([case.kernel]))
    aligned = native.run(native.inputs())
    shifted = {}
    for name, array in native.inputs().items():
        memory = np.empty(array.size + 1, np.float32)
        shifted[name] = memory[1:].reshape(array.shape)
        shifted[name][...] = array
    memory = np.full(2100 * 1003 + 3, np.nan, np.float32)
    shifted["gelu.y"] = memory[3:].reshape(2100, 1003)
    native.call(shifted)
    assert (shifted["gelu.y"] == aligned["gelu.y"]).all() and np.isnan(memory[:3]).all()


@pytest.mark.parametrize("threads", ["1", "3"])
def test_the_same_bits_on_any_number_of_threads(threads: str) -> None:
    program = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1])\n"
        "from support import cpp_cases as c\n"
        "from support.native_programs import Native, joined\n"
        "cases = [c.total((700, 1100), 'total'), c.column_statistics(3000, 40, 'columns')]\n"
        "cases.append(c.softmax(200, 1001, 'softmax'))\n"
        "native = Native(joined([case.kernel for case in cases]))\n"
        "got = native.run(native.inputs())\n"
        "print(hashlib.sha256(b''.join(got[name].tobytes() for name in sorted(got))).hexdigest())\n"
    )
    tests = str(Path(__file__).parents[1])

    def digest(count: str) -> str:
        import os

        result = subprocess.run(
            [sys.executable, "-c", program, tests], capture_output=True, text=True, check=False,
            env={**os.environ, "OMP_NUM_THREADS": count},
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert digest(threads) == digest("2")
