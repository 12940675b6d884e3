"""Convolutions and their gradients through the templates and through reduction nests."""

import pytest
import torch

from graphc.codegen.cpp.anchors import has_template
from graphc.driver.compile import compile
from graphc.primitives.builder import Builder
from graphc.types import DType, TensorType
from support import cpp_cases as c
from support.native_programs import Case, Native, check, joined

KINDS = ("", "_data_gradient", "_weight_gradient")


def test_planes_rows_and_volumes() -> None:
    cases: list[Case] = []
    for kind in KINDS:
        tag = kind.strip("_") or "forward"
        cases += [
            c.convolution(kind, 3, 4, 6, (9, 8), (3, 3), 1, 1, 1, 1, name=f"plane_{tag}"),
            c.convolution(kind, 2, 4, 6, (11, 7), (3, 2), 2, 1, 1, 2, name=f"grouped_{tag}"),
            c.convolution(kind, 2, 5, 5, (11, 7), (3, 2), 2, 1, 1, 5, name=f"depthwise_{tag}"),
            c.convolution(kind, 2, 3, 3, (19,), (4,), 1, 1, 2, 3, name=f"depthwise_row_{tag}"),
            c.convolution(kind, 6, 32, 40, (12, 10), (3, 3), 1, 1, 1, 1, name=f"winograd_{tag}"),
            c.convolution(kind, 2, 3, 5, (13,), (3,), 1, 2, 2, 1, name=f"row_{tag}"),
            c.convolution(kind, 2, 2, 4, (5, 6, 4), (2, 3, 2), 2, 1, 1, 2, name=f"volume_{tag}"),
            c.convolution(kind, 2, 3, 5, (5, 7, 9), (3, 3, 3), 1, 1, 1, 1, name=f"dense_volume_{tag}"),
            c.convolution(kind, 2, 4, 4, (6, 5), (3, 3), 1, 1, 1, 1, "f16", name=f"half_{tag}"),
            c.convolution(kind, 3, 20, 32, (9, 7), (3, 3), 1, 1, 1, 1, "f16", name=f"half_fast_{tag}"),
            c.convolution(kind, 2, 4, 4, (6, 5), (3, 3), 1, 0, 1, 1, plain=False, name=f"turned_{tag}"),
        ]
    native = Native(joined([case.kernel for case in cases]))
    assert all(has_template(case.kernel) for case in cases)
    check(native, cases)
    workspaces = [b.name for b in native.program.buffers if b.role.value == "workspace"]
    assert [name for name in workspaces if not name.startswith("half")] == [
        "winograd_forward.anchor_weight",
        "winograd_data_gradient.anchor_weight",
        "turned_data_gradient.anchor_result",
        "winograd_weight_gradient.anchor_sums",
        "scratch",
    ]


def test_symbolic_batch() -> None:
    cases = [c.convolution(kind, "N", 3, 5, (8, 8), (3, 3), 1, 1, 1, 1, name=f"conv{kind}") for kind in KINDS]
    native = Native(joined([case.kernel for case in cases]))
    for batch in (1, 7):
        inputs = native.inputs(N=batch)
        results = native.run(inputs, N=batch)
        static = [
            c.convolution(kind, batch, 3, 5, (8, 8), (3, 3), 1, 1, 1, 1, name=f"conv{kind}") for kind in KINDS
        ]
        again = Native(joined([case.kernel for case in static])).run(inputs)
        for case in static:
            assert (results[f"{case.kernel.name}.y"] == again[f"{case.kernel.name}.y"]).all()


@pytest.mark.parametrize("dtype", ["bf16", "f16", "f64"])
@pytest.mark.parametrize("size", [(9, 7), (5, 6, 4), (11,)], ids=str)
def test_other_types_beside_float64(dtype: str, size: tuple[int, ...]) -> None:
    b, rank = Builder("types"), len(size)
    kind = DType.of(dtype)
    geometry = {name: (value,) * rank for name, value in (("stride", 1), ("pad", 1), ("dilate", 1))}
    x = b.input("x", TensorType(kind, (2, 20, *size)))
    w = b.input("w", TensorType(kind, (33, 20, *(3,) * rank)))
    dy = b.input("dy", TensorType(kind, (2, 33, *size)))
    graph = b.finish(
        {
            "y": b.emit("convolution", x, w, **geometry, groups=1),
            "dx": b.emit("convolution_data_gradient", dy, w, shape=x.type.shape, **geometry, groups=1),
            "dw": b.emit("convolution_weight_gradient", x, dy, shape=w.type.shape, **geometry, groups=1),
        }
    )
    random = torch.Generator().manual_seed(1)
    given = {
        item.name: torch.randn(item.value.type.concrete_shape({}), generator=random, dtype=torch.float64).to(
            kind.torch
        )
        for item in graph.inputs
    }
    found = compile(graph).run(**given)
    function = (torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d)[rank - 1]
    image, weight = (given[name].double().requires_grad_() for name in "xw")
    y = function(image, weight, padding=1)
    dx, dw = torch.autograd.grad(y, (image, weight), given["dy"].double())
    # Rounding of the result in its own type, and of sums in f32.
    unit, sums = {"bf16": (2.0**-8, 1e-5), "f16": (2.0**-11, 1e-5), "f64": (2.0**-50, 1e-14)}[dtype]
    for name, exact in (("y", y), ("dx", dx), ("dw", dw)):
        assert found[name].dtype is kind.torch
        bound = unit * exact.abs() + sums * exact.abs().max()
        assert ((found[name].double() - exact).abs() <= bound).all(), name
