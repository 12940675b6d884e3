"""Convolutions and their gradients through the templates and through reduction nests."""

from graphc.codegen.cpp.anchors import has_template
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
            c.convolution(kind, 2, 4, 4, (6, 5), (3, 3), 1, 1, 1, 1, dtype="f16", name=f"half_{tag}"),
            c.convolution(kind, 2, 4, 4, (6, 5), (3, 3), 1, 0, 1, 1, plain=False, name=f"turned_{tag}"),
        ]
    native = Native(joined([case.kernel for case in cases]))
    assert all(has_template(case.kernel) for case in cases if "half" not in case.kernel.name)
    check(native, cases)
    workspaces = [b for b in native.program.buffers if b.role.value == "workspace"]
    assert [b.name for b in workspaces] == [
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
