"""The generated text: golden files, the same bytes every time, and a module that stands alone."""

import ast
from collections.abc import Callable

import pytest

from graphc.codegen.triton import generate
from graphc.ir.kernel import Affine
from support import cpp_cases as c
from support.kernels import NestBuilder, make_kernel, program_of, types
from support.native_programs import Case

GOLDEN = {
    "gelu": lambda: c.gelu_residual(8192, 1024),
    "softmax_in_registers": lambda: c.softmax(4096, 1000),
    "softmax_looped": lambda: c.softmax("N", 50000),
    "layer_norm_symbolic": lambda: c.layer_norm("N", 1024),
    "column_statistics": lambda: c.column_statistics(4096, 4096),
    "total_in_two_stages": lambda: c.total((1000, 4096)),
    "transpose": lambda: c.transpose_scale(4096, 4096),
    "max_pool": lambda: c.max_pool(64, 28, 28, 3, 2, 1),
    "sgd_updates": lambda: c.sgd_updates((784 * 128, 128, "N")),
    "dense_f16": lambda: c.dense(4096, 4096, 4096, False, True, "f16"),
    "convolution": lambda: c.convolution("", "N", 64, 64, (56, 56), (3, 3), 1, 1, 1, 1),
    "convolution_data_gradient": lambda: c.convolution(
        "_data_gradient", 32, 64, 64, (28, 28), (3, 3), 2, 1, 1, 1
    ),
    "weight_gradient_in_parts": lambda: c.convolution(
        "_weight_gradient", 64, 8, 16, (28, 28), (5, 5), 1, 2, 1, 1
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str, golden: Callable[[str, str], None]) -> None:
    case: Case = GOLDEN[name]()
    golden(f"codegen_triton/{name}.py", generate(program_of(case.kernel)).source)


def test_same_bytes_every_time() -> None:
    for make in GOLDEN.values():
        assert generate(program_of(make().kernel)).source == generate(program_of(make().kernel)).source


def test_lines_fit_and_parse() -> None:
    for name, make in GOLDEN.items():
        source = generate(program_of(make().kernel)).source
        ast.parse(source)
        long = [line for line in source.splitlines() if len(line) > 130 and not line.startswith("#")]
        assert not long, (name, long)


def test_the_module_needs_only_torch_and_triton() -> None:
    source = generate(program_of(c.softmax("N", 100).kernel)).source
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert {alias.name for node in imports for alias in node.names} == {
        "torch",
        "triton",
        "triton.language",
        "sys",
    }
    assert "def main():" in source and "python FILE N" in source


def test_names_that_mean_something_to_python_or_triton() -> None:
    """Buffers and scalars called like keywords, modules, helpers, sizes and the template's own variables."""
    names = ["tl", "lambda", "program", "tanh", "row", "1st.x", "N"]
    ts = types(**dict.fromkeys(names, "f32[N,33]"), y="f32[N,33]")
    b = NestBuilder(ts, i=ts["tl"].shape[0], j=33)
    total = b.load(names[0], "i", "j")
    for name in names[1:]:
        total = b.compute("tanh", b.compute("add", total, b.load(name, "i", "j")), name=name)
    b.store("y", ["i", "j"], total)
    source = generate(program_of(make_kernel("run", ts, [b], outputs=["y"]))).source
    compile(source, "names", "exec")
    assert source.count("def run(") == 1


def test_masks_only_where_the_extent_does_not_divide() -> None:
    assert "mask=" not in generate(program_of(c.gelu_residual(1024, 1024).kernel)).source
    assert "mask=" in generate(program_of(c.gelu_residual(1023, 1023).kernel)).source
    assert "mask=" not in generate(program_of(c.gelu_residual("N", 1024).kernel)).source


def test_indices_take_64_bits_only_where_a_buffer_needs_them() -> None:
    assert "int64" not in generate(program_of(c.gelu_residual(1024, 1024).kernel)).source
    assert "tl.program_id(0).to(tl.int64)" in generate(program_of(c.gelu_residual(2**21, 1024).kernel)).source
    assert "INDEX=index_type(1024 * N)" in generate(program_of(c.gelu_residual("N", 1024).kernel)).source


def test_every_fused_operator_has_one_comment_with_its_line() -> None:
    ts = types(x="f32[64,64]", y="f32[64,64]")
    b = NestBuilder(ts, i=64, j=64)
    b.at("fc1", "FullyConnected", 12)
    x = b.compute("mul", b.load("x", Affine.axis("i"), "j"), 2.0)
    b.at("relu1", "Activation", 13)
    b.store("y", ["i", "j"], b.compute("maximum", x, 0.0))
    source = generate(program_of(make_kernel("fc1_relu1", ts, [b], outputs=["y"]))).source
    body = source.split("@triton.jit")[1]
    assert body.count("# model.py:12 FullyConnected fc1") == 1
    assert body.count("# model.py:13 Activation relu1") == 1
