"""The hand-made kernels that every way of running Triton must get right: suites of cases and sizes to run them at."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir.graph import Attributes
from graphc.ir.kernel import AnchorOperation
from graphc.types import DType
from support import cpp_cases as c
from support.kernels import NestBuilder, make_kernel, types
from support.native_programs import Arrays, Case

Suite = tuple[list[Case], list[dict[str, int]]]


def matrix_cases(rows: object, columns: object, tag: str) -> list[Case]:
    return [
        c.gelu_residual(rows, columns, f"gelu_{tag}"),
        c.softmax(rows, columns, f"softmax_{tag}"),
        c.layer_norm(rows, columns, f"norm_{tag}"),
        c.column_statistics(rows, columns, f"columns_{tag}"),
        c.row_statistics(rows, columns, f"rows_{tag}"),
        c.total((rows, columns), f"total_{tag}"),
        c.cross_entropy(rows, columns, f"entropy_{tag}"),
        c.transpose_scale(rows, columns, f"transpose_{tag}"),
        c.half_precision(rows, columns, "f16", f"half_{tag}"),
    ]


ODD = [(1, 1), (1, 17), (7, 1), (3, 64), (5, 130), (13, 1031)]


def odd_shapes() -> Suite:
    return [case for k, (rows, columns) in enumerate(ODD) for case in matrix_cases(rows, columns, str(k))], [
        {}
    ]


def symbolic_sizes() -> Suite:
    cases = [
        *matrix_cases("N", "M", "symbolic"),
        c.batch_norm("N", 3, "M", "bn"),
        c.channel_softmax("N", 5, "M", "channels"),
        c.sgd_updates(("N", 7, "M"), "sgd"),
        c.dense("N", 10, "M", False, True, name="fc"),
        c.dense("M", 10, "N", True, False, name="fc_gradient"),
        c.embedding("N", 11, "M", "embedding"),
        c.convolution("", "N", 3, 5, (7, 6), (3, 3), 1, 1, 1, 1, name="conv"),
        scatter_add(2, "N", 6, "M", "scatter"),
    ]
    return cases, [{"N": 1, "M": 1}, {"N": 4, "M": 9}, {"N": 3, "M": 300}]


def larger_than_a_block() -> Suite:
    return [
        c.gelu_residual(30, 1000, "gelu"),
        c.softmax(3, 20000, "softmax"),
        c.channel_softmax(2, 90, 70, "channels"),
        c.column_statistics(700, 130, "columns"),
        c.row_statistics(3, 30000, "rows"),
        c.batch_norm(3, 4, 1000, "bn"),
        c.batch_norm(4, 2, 4099, "bn_split"),
        c.total((90, 1100), "total"),
        c.heads_transpose(2, 33, 3, 20, "heads"),
        c.transpose_scale(613, 71, "transpose"),
        c.max_pool(4, 30, 31, 3, 2, 1, "pool"),
        c.sgd_updates((3001, 3, 1, 90), "sgd"),
        c.pad_concat(40, 13, 7, "concat"),
        c.embedding(90, 11, 70, "embedding"),
    ], [{}]


def scatter_add(before: int, count: Any, size: int, behind: Any, name: str) -> Case:
    """Updates added at clipped indices, scaled by an epilogue; indices reach past the end."""
    ts = types(at=f"i64[{count}]", u=f"f32[{before},{count},{behind}]", y=f"f32[{before},{size},{behind}]")
    b = NestBuilder(ts, p=before, v=size, d=ts["y"].shape[2]).at("embedding", "Embedding", 4)
    b.store("y", ["p", "v", "d"], b.compute("mul", b.anchor(), 3.0))
    anchor = AnchorOperation(
        "scatter_add", ("at", "u"), Attributes({"axis": 1, "size": size}), ts["y"], DType.F32, b.origins
    )

    def expected(a: Arrays) -> Arrays:
        result = np.zeros((before, size, a["u"].shape[2]))
        for position, index in enumerate(np.clip(a["at"], 0, size - 1)):
            result[:, index] += a["u"][:, position]
        return {"y": 3 * result}

    return Case(make_kernel(name, ts, [b], outputs=["y"], anchor=anchor), expected)


def products() -> Suite:
    return [
        scatter_add(2, 50, 3, 7, "scatter"),
        scatter_add(1, 5, 20, 70, "scatter_sparse"),
        scatter_add(3, 33, 4, 1, "scatter_numbers"),
        c.dense(70, 90, 130, False, False, name="nn"),
        c.dense(1, 90, 130, False, True, name="row"),
        c.dense(90, 1, 13, True, False, name="column"),
        c.dense(33, 65, 20, True, True, batch=(2, 3), name="batched"),
        c.dense(20, 17, 5000, False, True, name="split_sum"),
        c.dense(33, 20, 17, False, True, "f64", name="wide"),
        c.dense(9, 20, 17, False, True, "f16", name="narrow"),
        c.dense(7, 5, 0, False, False, name="empty_sum"),
    ], [{}]


def convolutions() -> Suite:
    cases = []
    for which in ("", "_data_gradient", "_weight_gradient"):
        tag = which or "_forward"
        cases += [
            c.convolution(which, 2, 3, 5, (7, 8), (3, 3), 1, 1, 1, 1, name=f"plain{tag}"),
            c.convolution(which, 2, 4, 6, (9, 8), (3, 2), 2, 1, 2, 2, name=f"groups{tag}"),
            c.convolution(which, 3, 2, 4, (19,), (5,), 3, 2, 1, 1, plain=False, name=f"line{tag}"),
            c.convolution(which, 1, 2, 2, (5, 4, 6), (2, 3, 2), 2, 1, 1, 1, name=f"volume{tag}"),
            c.convolution(which, 2, 4, 4, (6, 5), (3, 3), 1, 1, 1, 4, name=f"depthwise{tag}"),
            c.convolution(which, 2, 4, 6, (6, 5), (1, 1), 1, 0, 1, 1, "f16", name=f"half{tag}"),
        ]
    return cases, [{}]


SUITES = {
    "odd_shapes": odd_shapes,
    "symbolic_sizes": symbolic_sizes,
    "larger_than_a_block": larger_than_a_block,
    "products": products,
    "convolutions": convolutions,
}
