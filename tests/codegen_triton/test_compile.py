"""Everything compiles to sm_90 machine code, without spills, within the shared memory of a multiprocessor."""

import sys
from pathlib import Path

import pytest

from graphc.codegen.triton import GpuTarget, TritonProgram, generate
from graphc.driver.compile import lower
from graphc.optimizer import SGD, Adam
from graphc.primitives.builder import Builder
from graphc.runtime.gpu import KernelReport, compile_for
from graphc.symbol import Symbol
from graphc.training import training_graph
from graphc.types import TensorType
from support import cpp_cases as c
from support.kernels import program_of
from support.native_programs import Case, joined
from support.triton_suites import SUITES

SPILLS = 16

REAL_SIZES = {
    "gelu": lambda: c.gelu_residual(8192, 1024),
    "softmax": lambda: c.softmax(4096, 4096),
    "softmax_narrow": lambda: c.softmax(65536, 100),
    "softmax_widest_in_registers": lambda: c.softmax(512, 16384),
    "softmax_looped": lambda: c.softmax(64, 50000),
    "softmax_symbolic": lambda: c.softmax("N", "M"),
    "layer_norm": lambda: c.layer_norm(8192, 1024),
    "batch_norm": lambda: c.batch_norm(32, 64, 3136),
    "column_statistics": lambda: c.column_statistics(4096, 4096),
    "row_statistics": lambda: c.row_statistics(4096, 4096),
    "total": lambda: c.total((4096, 4096)),
    "cross_entropy": lambda: c.cross_entropy(4096, 8192),
    "transpose": lambda: c.transpose_scale(4096, 4096),
    "heads": lambda: c.heads_transpose(16, 512, 12, 64),
    "max_pool": lambda: c.max_pool(2048, 56, 56, 3, 2, 1),
    "sgd": lambda: c.sgd_updates((784 * 1024, 1024, 1024 * 1024, 1024, 10240, 10)),
    "embedding": lambda: c.embedding(4096, 32000, 512),
    "dense_f32": lambda: c.dense(1024, 1024, 1024, False, True),
    "dense_f16": lambda: c.dense(4096, 4096, 4096, False, True, "f16"),
    "dense_f16_small": lambda: c.dense(16, 1024, 1024, False, False, "f16"),
    "dense_f64": lambda: c.dense(256, 256, 256, True, False, "f64"),
    "convolution": lambda: c.convolution("", 32, 64, 64, (56, 56), (3, 3), 1, 1, 1, 1, "f16"),
    "convolution_f32": lambda: c.convolution("", 32, 64, 128, (28, 28), (3, 3), 2, 1, 1, 1),
    "data_gradient": lambda: c.convolution(
        "_data_gradient", 32, 64, 128, (28, 28), (3, 3), 2, 1, 1, 1, "f16"
    ),
    "weight_gradient": lambda: c.convolution(
        "_weight_gradient", 32, 64, 64, (28, 28), (3, 3), 1, 1, 1, 1, "f16"
    ),
}


def assert_fits(reports: tuple[KernelReport, ...]) -> None:
    assert reports
    for report in reports:
        assert report.spills <= SPILLS, report
        assert report.shared_bytes <= GpuTarget().shared_bytes, report


@pytest.mark.parametrize("name", REAL_SIZES)
def test_real_sizes(name: str) -> None:
    case: Case = REAL_SIZES[name]()
    assert_fits(compile_for(generate(program_of(case.kernel))))


@pytest.mark.parametrize("suite", ["symbolic_sizes", "products"])
def test_suites(suite: str) -> None:
    cases, _ = SUITES[suite]()
    assert_fits(compile_for(generate(joined([case.kernel for case in cases]))))


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_convolutions_with_the_channels_last(dtype: str) -> None:
    b = Builder("network")
    x = b.input("x", TensorType.parse(f"{dtype}[N,56,56,64]"))
    w, bias = (
        b.input(name, TensorType.parse(f"{dtype}[{dims}]"))
        for name, dims in (("w", "128,64,3,3"), ("s", "128"))
    )
    y = b.emit("channels_last_convolution", x, w, stride=(2, 2), pad=(1, 1), dilate=(1, 1))
    program = lower(b.finish([b.maximum(b.add(y, bias), 0.0)]), target="gpu").program
    assert len(program.steps) == 1
    assert_fits(compile_for(generate(program)))


def test_products_on_the_tensor_cores_with_tf32() -> None:
    generated = generate(program_of(c.dense(1024, 1024, 1024, False, True).kernel), GpuTarget(tf32=True))
    assert_fits(compile_for(generated))


def training_program(
    model: Symbol, optimizer: object, shapes: dict[str, tuple[object, ...]]
) -> TritonProgram:
    return generate(lower(training_graph(model, optimizer, shapes=shapes)).program)  # type: ignore[arg-type]


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    sys.modules.pop("models", None)
    import models

    return models


def test_mlp_training_step(models: object) -> None:
    shapes = {"data": ("N", 784), "softmax_label": ("N",)}
    program = training_program(models.mlp(), SGD(learning_rate=0.1, momentum=0.9), shapes)  # type: ignore[attr-defined]
    assert_fits(compile_for(program))


def test_lenet_training_step(models: object) -> None:
    shapes = {"data": (64, 1, 8, 8), "softmax_label": (64,)}
    assert_fits(compile_for(training_program(models.lenet(), Adam(learning_rate=0.01), shapes)))  # type: ignore[attr-defined]


def test_equal_launches_are_compiled_once() -> None:
    kernel = c.softmax(64, 100).kernel
    program = joined([kernel])
    twice = generate(
        type(program)(
            **{f: getattr(program, f) for f in program.__dataclass_fields__} | {"steps": program.steps * 2}
        )
    )
    assert len(twice.launches) == 2
    assert len(compile_for(twice)) == 1


def test_buffers_of_two_to_the_31_elements() -> None:
    rows = 2**21
    cases = [
        c.gelu_residual(rows, 1024, "gelu"),
        c.layer_norm(rows, 1024, "norm"),
        c.softmax(2**15, 2**17, "softmax"),
        c.column_statistics(rows, 1024, "columns"),
        c.row_statistics(2**12, 2**20, "rows"),
        c.max_pool(2**22, 28, 28, 3, 2, 1, "pool"),
        c.transpose_scale(2**16, 2**16, "transpose"),
        c.dense(rows, 1024, 64, False, True, "f16", name="dense"),
    ]
    generated = generate(joined([case.kernel for case in cases]))
    assert generated.source.count(".to(tl.int64)") >= len(cases)
    assert_fits(compile_for(generated))


def test_named_sizes_with_wide_indices() -> None:
    cases, _ = SUITES["symbolic_sizes"]()
    assert_fits(compile_for(generate(joined([case.kernel for case in cases])), wide=True))
