"""Products of every type that the CPU has a template for: floats, halves converted or in pairs, bytes in fours."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import graphc as mx
from graphc.codegen.cpp import CppProgram, CpuTarget, detect, generate, pack_constants
from graphc.driver.compile import Options, compile
from graphc.driver.cpu_backend import CpuBackend
from graphc.driver.executable import Executable
from graphc.ir.graph import Graph, InputKind
from graphc.passes.fusion import fuse
from graphc.primitives.builder import Builder
from graphc.types import DType, TensorType

SHAPES = (
    (5, 7, 3), (16, 33, 129), (30, 40, 65), (17, 70, 530), (29, 130, 514),
    (1, 9, 5), (6, 1, 40), (0, 4, 4), (4, 0, 4), (4, 4, 0), (2, 3, 1),
)  # fmt: skip
TYPES = (
    ("i8", "i8"),
    ("u8", "i8"),
    ("i8", "u8"),
    ("u8", "u8"),
    ("bf16", "bf16"),
    ("f16", "f16"),
    ("f64", "f64"),
)


def products(left: str, right: str, kind: InputKind) -> Graph:
    """One product of each shape in every stride order, one of a batch, and one of a symbolic size."""
    b = Builder("products")
    outputs = {}
    for number, (m, n, k) in enumerate(SHAPES):
        ta, tb = bool(number & 1), bool(number & 2)
        x = b.input(f"x{number}", TensorType.parse(f"{left}[{k},{m}]" if ta else f"{left}[{m},{k}]"))
        w = b.input(f"w{number}", TensorType.parse(f"{right}[{n},{k}]" if tb else f"{right}[{k},{n}]"), kind)
        outputs[f"y{number}"] = b.emit("dot", x, w, transpose_a=ta, transpose_b=tb)
    x, w = (
        b.input(f"{c}b", TensorType.parse(t))
        for c, t in (("x", f"{left}[3,9,21]"), ("w", f"{right}[3,21,35]"))
    )
    outputs["yb"] = b.emit("dot", x, w)
    x = b.input("xn", TensorType.parse(f"{left}[N,37]"))
    w = b.input("wn", TensorType.parse(f"{right}[19,37]"), kind)
    outputs["yn"] = b.emit("dot", x, w, transpose_b=True)
    return b.finish(outputs)


def value(type: TensorType, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    shape = type.concrete_shape({"N": 23})
    if type.dtype.is_integer:
        low, high = (0, 256) if type.dtype is DType.U8 else (-128, 128)
        return torch.randint(low, high, shape, generator=random).to(type.dtype.torch)
    return torch.randn(shape, generator=random, dtype=torch.float64).to(type.dtype.torch)


def check(executable: Executable, graph: Graph) -> dict[str, torch.Tensor]:
    values = {item.name: value(item.value.type, k) for k, item in enumerate(graph.inputs)}
    executable.set_states({name: values[name] for name in executable.states})
    found = executable.run(**{item.name: values[item.name] for item in executable.data_inputs})
    for node, name in zip((node for node in graph.nodes if node.primitive == "dot"), found, strict=True):
        a, b = (values[operand.name].double() for operand in node.inputs)
        a = a.mT if node.attributes["transpose_a"] else a
        b = b.mT if node.attributes["transpose_b"] else b
        result = found[name].double()
        if not node.output.type.dtype.is_float:
            assert found[name].dtype is torch.int32
            torch.testing.assert_close(result, a @ b, rtol=0, atol=0)
            continue
        # Rounding of the result in its own type, and of a sum of k terms in f32.
        units = {"bf16": 2.0**-8, "f16": 2.0**-11, "f32": 2.0**-22, "f64": 2.0**-50}[
            node.output.type.dtype.value
        ]
        bound = units * (a @ b).abs() + (a.shape[-1] + 1) * min(units, 2.0**-22) * (a.abs() @ b.abs()) + 1e-7
        assert ((result - a @ b).abs() <= bound).all(), (node, (result - a @ b).abs().max())
    return found


@pytest.mark.parametrize("kind", [InputKind.DATA, InputKind.PARAMETER])
@pytest.mark.parametrize("types", TYPES, ids="x".join)
def test_products_of_every_type_and_odd_shape(types: tuple[str, str], kind: InputKind) -> None:
    graph = products(*types, kind)
    check(compile(graph), graph)


def _built(graph: Graph, target: CpuTarget) -> Executable:
    made: CppProgram = generate(pack_constants(fuse(graph), target), target)
    return Executable.of(graph, graph, CpuBackend.build(made))


@pytest.mark.parametrize("types", [("i8", "i8"), ("bf16", "bf16")], ids="x".join)
def test_a_cpu_without_packets_converts(types: tuple[str, str]) -> None:
    graph = products(*types, InputKind.PARAMETER)
    executable = _built(graph, replace(detect(), packets=False))
    assert "packet.h" not in executable.source and executable.program.prologue is None
    check(executable, graph)


@pytest.mark.parametrize("types", [("i8", "i8"), ("bf16", "bf16")], ids="x".join)
def test_nothing_depends_on_the_threads(types: tuple[str, str]) -> None:
    b = Builder("large")
    x = b.input("x", TensorType.parse(f"{types[0]}[130,700]"))
    w = b.input("w", TensorType.parse(f"{types[1]}[300,700]"), InputKind.PARAMETER)
    graph = b.finish({"y": b.emit("dot", x, w, transpose_b=True)})
    executable = compile(graph)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = check(executable, graph)["y"]
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(check(executable, graph)["y"], alone)
    finally:
        torch.set_num_threads(before)


def test_nan_and_infinity_of_halves_stay_in_their_row_and_column() -> None:
    b = Builder("special")
    x, w = b.input("x", TensorType.parse("bf16[20,33]")), b.input("w", TensorType.parse("bf16[33,40]"))
    executable = compile(b.finish({"y": b.emit("dot", x, w)}))
    a, c = torch.ones(20, 33, dtype=torch.bfloat16), torch.ones(33, 40, dtype=torch.bfloat16)
    a[3, 32], c[0, 7] = float("nan"), float("inf")
    found = executable(x=a, w=c)
    assert found[3].isnan().all() and found[:3, 7].isinf().all()
    assert torch.equal(found[:3, :7], torch.full((3, 7), 33, dtype=torch.bfloat16))


def test_the_epilogue_of_a_product_of_bytes() -> None:
    """Quantized layers: i32 sums, scaled, shifted and rectified on the way out."""
    b = Builder("quantized")
    x = b.input("x", TensorType.parse("u8[N,50]"))
    w = b.input("w", TensorType.parse("i8[30,50]"), InputKind.PARAMETER)
    scale = b.input("scale", TensorType.parse("f32[30]"), InputKind.PARAMETER)
    sums = b.emit("dot", x, w, transpose_b=True)
    graph = b.finish({"y": b.maximum(b.mul(b.cast(sums, DType.F32), scale), 0.0)})
    executable = compile(graph)
    assert len(executable.program.steps) == 1
    given = {"x": value(x.type, 1), "w": value(w.type, 2), "scale": torch.rand(30)}
    executable.set_states({"w": given["w"], "scale": given["scale"]})
    expected = ((given["x"].double() @ given["w"].double().T) * given["scale"].double()).relu()
    torch.testing.assert_close(executable(x=given["x"]).double(), expected, rtol=1e-6, atol=1e-4)


def test_packed_and_plain_operands_give_the_same_bits() -> None:
    for types in (("f32", "f32"), ("bf16", "bf16"), ("i8", "i8")):
        b = Builder("same")
        x = b.input("x", TensorType.parse(f"{types[0]}[40,300]"))
        w = b.input("w", TensorType.parse(f"{types[1]}[90,300]"), InputKind.PARAMETER)
        graph = b.finish({"y": b.emit("dot", x, w, transpose_b=True)})
        given = {"x": value(x.type, 3), "w": value(w.type, 4)}
        results = []
        for constants in (True, False):
            executable = compile(graph, options=Options(constants=constants))
            executable.set_states({"w": given["w"]})
            results.append(executable(x=given["x"]))
        assert torch.equal(*results)


@pytest.mark.parametrize("kind", [InputKind.DATA, InputKind.PARAMETER])
def test_small_products_read_in_place_but_sum_alike_however_constants_are_held(kind: InputKind) -> None:
    b = Builder("small")
    x = b.input("x", TensorType.parse("f32[64,784]"))
    w = b.input("w", TensorType.parse("f32[33,784]"), kind)
    g = b.input("g", TensorType.parse("f32[64,33]"))
    graph = b.finish(
        {"y": b.emit("dot", x, w, transpose_b=True), "dw": b.emit("dot", g, x, transpose_a=True)}
    )
    text = "".join(compile(graph, options=Options(constants=False)).source.values())
    assert "gc_small_gemm<float>(33, 784, 64" in text
    assert ("gc_dot_gemm<float>(64, 33, 784" in text) is (kind is InputKind.DATA)
    check(compile(graph), graph)


def test_a_weight_that_the_program_updates_is_summed_by_lanes() -> None:
    dense = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=40, name="fc")
    net = mx.sym.SoftmaxOutput(dense, name="softmax")
    step = mx.training_step(net, mx.optimizer.SGD(), shapes={"data": (64, 300), "softmax_label": (64,)})
    assert "gc_dot_gemm<float>(64, 40, 300" in "".join(step.source.values())
