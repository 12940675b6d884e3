"""The generated text: golden files, same bytes for the same input, equal kernels once, units, other targets."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from graphc.codegen.cpp import CpuTarget, generate
from graphc.cpu_target import detect
from graphc.ir.kernel import Kernel
from graphc.runtime.toolchain import find_toolchain
from support import cpp_cases as c
from support.native_programs import Case, Native, check, joined

AVX512 = CpuTarget("avx512", 64, 2, 48 << 10, 1 << 20, 32 << 20)

CASES = {
    "gelu_residual": lambda: c.gelu_residual(64, 100, "gelu"),
    "softmax": lambda: c.softmax("N", 1000, "softmax"),
    "layer_norm_large": lambda: c.layer_norm(8192, 1024, "layer_norm"),
    "column_sums": lambda: c.column_statistics(64, "M", "columns"),
    "momentum_updates": lambda: c.sgd_updates((50176, 64, 640, 10), "momentum"),
    "max_pool": lambda: c.max_pool(64, 28, 28, 2, 2, 0, "pool"),
    "dense_relu": lambda: c.dense("N", 64, 784, False, True, name="fc1_relu1"),
    "split_batch_norm": lambda: c.batch_norm(64, 3, 1024, "bn"),
    "transpose": lambda: c.transpose_scale(512, 512, "transpose"),
}


def source_of(case: Case) -> str:
    program = generate(joined([case.kernel]), AVX512)
    return "\n".join(text for name, text in program.files if name.endswith(".cpp"))


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"cpp/{name}.cpp", source_of(CASES[name]()))


def test_the_same_bytes_for_the_same_input() -> None:
    first, second = (generate(joined([case().kernel for case in CASES.values()]), AVX512) for _ in range(2))
    assert first.files == second.files and first.flags == second.flags


def test_equal_kernels_are_printed_once() -> None:
    kernels = [c.softmax(8, 30, name).kernel for name in ("first", "second")]
    other = c.softmax(8, 31, "third").kernel
    source = source_of_all([*kernels, other])
    assert source.count("static void") == 2 and source.count(": first(") == 2 and "second(" not in source


def source_of_all(kernels: list[Kernel]) -> str:
    return "\n".join(text for name, text in generate(joined(kernels), AVX512).files if name.endswith(".cpp"))


def test_large_programs_become_units_that_agree_with_one() -> None:
    cases = [c.layer_norm(5, 20 + k, f"norm_{k}") for k in range(30)]
    native = Native(joined([case.kernel for case in cases]), replace(detect(), cores=4))
    units = [name for name, _ in native.generated.files if name.endswith(".cpp")]
    assert len(units) > 2 and [unit for unit, _ in native.generated.labels] == units
    check(native, cases)


@pytest.mark.parametrize("width", [16, 32])
def test_other_vector_widths(width: int) -> None:
    cases = [
        c.softmax(9, 100, "softmax"),
        c.column_statistics(30, 70, "columns"),
        c.row_statistics(9, 200, "rows"),
        c.transpose_scale(70, 130, "transpose"),
    ]
    target = replace(AVX512, isa="other", vector_bytes=width)
    check(Native(joined([case.kernel for case in cases]), target), cases)


def test_a_program_runs_alone(tmp_path: Path) -> None:
    program = generate(
        joined([c.dense("N", 10, 30, False, True, name="fc").kernel, c.softmax("N", 9, "softmax").kernel])
    )
    for name, text in program.files:
        (tmp_path / name).write_text(text)
    flags = [flag for flag in program.flags if flag != "-shared"]
    sources = [name for name, _ in program.files if name.endswith(".cpp")]
    command = [*find_toolchain().command, "-DGC_ALONE", *find_toolchain().flags(flags), *sources]
    subprocess.run([*command, "-o", "alone", *find_toolchain().libraries], cwd=tmp_path, check=True)
    result = subprocess.run(
        ["./alone", "N=5", "runs=3"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    rows = dict(line.split()[::2] for line in result.stdout.splitlines()[:-1])
    assert float(rows["softmax.y"]) == pytest.approx(5, abs=1e-4)
    assert "best of 3 runs" in result.stdout
