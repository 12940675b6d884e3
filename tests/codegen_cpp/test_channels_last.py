"""Convolutions of [N,...,C] as generated C++: each form, weights packed beforehand or in the call, odd sizes."""

import pytest
import torch

from graphc.codegen.cpp.choices import alternatives
from graphc.codegen.cpp.target import detect
from graphc.driver.compile import Options, compile, lower
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph, InputKind
from graphc.primitives.builder import Builder
from graphc.types import TensorType

ONE = {"stride": (1, 1), "pad": (0, 0), "dilate": (1, 1)}
CASES = {
    "direct_1x1": ("2,9,7,40", "35,40,1,1", {}),
    "direct_1x1_strided": ("2,9,7,256", "150,256,1,1", {"stride": (2, 3)}),
    "direct_3x3_strided": ("2,13,11,70", "33,70,3,3", {"stride": (2, 2), "pad": (1, 1)}),
    "direct_dilated": ("1,9,12,30", "20,30,3,2", {"dilate": (2, 3), "pad": (2, 1)}),
    "direct_padding_only": ("1,2,2,70", "3,70,2,2", {"pad": (3, 3)}),
    "direct_symbolic": ("N,10,M,68", "17,68,3,3", {"pad": (1, 1), "stride": (2, 1)}),
    "lines_stem": ("2,23,21,3", "40,3,7,7", {"stride": (2, 2), "pad": (3, 3)}),
    "lines_eleven": ("1,35,37,3", "17,3,11,11", {"stride": (4, 4), "pad": (2, 2)}),
    "lines_one_pixel": ("3,1,1,1", "2,1,3,3", {"pad": (1, 1)}),
    "lines_wide": ("1,9,700,4", "530,4,3,5", {"pad": (0, 4), "dilate": (3, 1)}),
    "lines_of_one_axis": ("2,33,2", "5,2,4", {"stride": (2,), "pad": (1,), "dilate": (1,)}),
    "winograd": ("2,14,14,64", "48,64,3,3", {"pad": (1, 1)}),
    "winograd_ragged": ("1,11,9,67", "83,67,3,3", {"pad": (0, 2)}),
    "winograd_five": ("2,15,13,48", "40,48,5,5", {"pad": (2, 2)}),
    "winograd_five_ragged": ("1,8,19,35", "83,35,5,5", {"pad": (4, 0)}),
    "winograd_symbolic": ("N,12,12,64", "64,64,3,3", {"pad": (1, 1)}),
}
SIZES = {"N": 3, "M": 13}


def networks(kind: InputKind, dtype: str) -> Graph:
    """For each case maximum(convolution + bias + residual, 0), bias a number a channel."""
    b = Builder("networks")
    outputs = {}
    for case, (image, weight, steps) in CASES.items():
        x = b.input(f"{case}_x", TensorType.parse(f"{dtype}[{image}]"))
        w = b.input(f"{case}_w", TensorType.parse(f"{dtype}[{weight}]"), kind)
        y = b.emit("channels_last_convolution", x, w, **{**ONE, **steps})
        bias = b.input(f"{case}_bias", TensorType(y.type.dtype, y.type.shape[-1:]))
        residual = b.input(f"{case}_residual", y.type)
        outputs[case] = b.maximum(b.add(b.add(y, bias), residual), 0.0)
    return b.finish(outputs)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(InputKind.PARAMETER, "f32"), (InputKind.DATA, "f32"), (InputKind.PARAMETER, "f64")],
    ids=["packed", "given", "packed_f64"],
)
def test_agrees_with_the_reference(kind: InputKind, dtype: str) -> None:
    graph = networks(kind, dtype)
    generator = torch.Generator().manual_seed(0)
    inputs = {}
    for item in graph.inputs:
        shape = item.value.type.concrete_shape(SIZES)
        inputs[item.name] = torch.randn(shape, generator=generator).to(item.value.type.dtype.torch)
    expected = run_reference(graph, inputs).outputs
    executable = compile(graph, target="cpu", options=Options(layout="keep"))
    states = {name: inputs[name] for name in executable.states}
    executable.set_states(states)
    results = executable(**{name: tensor for name, tensor in inputs.items() if name not in states})
    bound = 1e-13 if dtype == "f64" else 8e-6
    for name, got in zip(graph.output_names, results, strict=True):
        error = (got.double() - expected[name]).abs().max().item()
        assert error <= bound * expected[name].abs().max().item(), name


def test_tuning_may_take_the_other_algorithm() -> None:
    program = lower(networks(InputKind.PARAMETER, "f32"), Options(layout="keep")).program
    found = {choice["algorithm"] for kernel in program.kernels for choice in alternatives(kernel, detect())}
    assert found == {"direct", "winograd"}


def test_every_form_is_taken() -> None:
    executable = compile(networks(InputKind.PARAMETER, "f32"), target="cpu", options=Options(layout="keep"))
    text = "".join(executable.backend.sources.values())
    for call in (
        "gc_pixels_forward<float>",
        "gc_pixels_lines<float>",
        "gc_pixels_winograd<float>",
        "gc_pixels_winograd<float, 5>",
    ):
        assert call in text
