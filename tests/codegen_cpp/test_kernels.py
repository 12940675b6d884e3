"""Hand-made kernels, compiled natively and compared with float64."""

import numpy as np

from support import cpp_cases as c
from support.native_programs import Case, Native, check, joined


def named(cases: list[Case]) -> Native:
    return Native(joined([case.kernel for case in cases]))


ODD = [(1, 1), (1, 17), (7, 1), (3, 64), (5, 130), (13, 1031)]


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


def test_odd_shapes() -> None:
    cases = [case for k, (rows, columns) in enumerate(ODD) for case in matrix_cases(rows, columns, str(k))]
    check(named(cases), cases)


def test_symbolic_sizes_without_recompiling() -> None:
    cases = [
        *matrix_cases("N", "M", "symbolic"),
        c.batch_norm("N", 3, "M", "bn"),
        c.channel_softmax("N", 5, "M", "channels"),
        c.sgd_updates(("N", 7, "M"), "sgd"),
        c.dense("N", 10, "M", False, True, name="fc"),
        c.dense("M", 10, "N", True, False, name="fc_gradient"),
        c.embedding("N", 11, "M", "embedding"),
    ]
    native = named(cases)
    for n, m in [(1, 1), (4, 9), (31, 200), (2, 1029)]:
        check(native, cases, N=n, M=m)


def test_large_enough_for_threads_and_streams() -> None:
    cases = [
        c.gelu_residual(301, 1000, "gelu"),
        c.softmax(210, 1003, "softmax"),
        c.layer_norm(300, 1024, "norm"),
        c.column_statistics(700, 1300, "columns"),
        c.row_statistics(170, 2100, "rows"),
        c.total((900, 1100), "total"),
        c.batch_norm(9, 16, 900, "bn"),
        c.batch_norm(64, 2, 4000, "bn_few"),
        c.channel_softmax(20, 19, 700, "channels"),
        c.heads_transpose(3, 70, 8, 64, "heads"),
        c.transpose_scale(613, 401, "transpose"),
        c.max_pool(90, 30, 31, 3, 2, 1, "pool"),
        c.sgd_updates((70001, 3, 1, 90, 120000), "sgd"),
        c.pad_concat(400, 130, 77, "concat"),
        c.two_halves(2000, 1100, name="halves"),
        c.two_halves(20, 11, "u8", name="small_halves"),
        c.dense(70, 90, 130, False, False, name="nn"),
        c.dense(1, 90, 130, False, True, name="row"),
        c.dense(33, 65, 20, True, True, batch=(2, 3), name="batched"),
        c.dense(33, 20, 17, False, True, "f64", name="wide"),
        c.dense(9, 20, 17, False, True, "f16", name="narrow"),
    ]
    check(named(cases), cases)


def test_scattered_sums() -> None:
    cases = [
        c.scatter(1, 40, 33, 4, name="rows"),
        c.scatter(3, 40, 7, 5, name="middle"),
        c.scatter(1, 3000, 300, 200, scaled=False, name="plain"),
        c.scatter(2, 9, 5, 3, "i64", name="whole"),
        c.scatter(2, 9, 5, 3, "f16", name="half"),
    ]
    native = named(cases)
    check(native, cases)
    assert "gc_scatter_add_rows<float>" in native.source and "plain(" in native.source


def test_labels_outside_32_bits_hit_nothing() -> None:
    native = named([c.cross_entropy(4, 70, "entropy")])
    arrays = native.inputs()
    arrays["entropy.label"][:] = [5, 5 + 2**32, -1, 2**63 - 1]
    loss = native.run(arrays)["entropy.dx"].sum(1)
    np.testing.assert_allclose(loss, [0, 1, 1, 1], atol=1e-5)


def test_nothing_to_do() -> None:
    cases = [c.gelu_residual(0, 5, "gelu"), c.total((0, 4), "total"), c.softmax(3, 0, "softmax")]
    got = named(cases).run({"gelu.bias": np.ones(5, "f")})
    assert np.isnan(got["total.y"]) and got["softmax.y"].shape == (3, 0)


def test_nan_and_infinity() -> None:
    cases = [
        c.row_statistics(4, 70, "rows"),
        c.column_statistics(70, 40, "columns"),
        c.softmax(4, 70, "softmax"),
    ]
    native = named(cases)
    arrays = native.inputs()
    arrays["rows.x"][0, 13] = np.nan
    arrays["rows.x"][1, 69] = np.inf
    arrays["rows.x"][2] = -np.inf
    arrays["rows.x"][3, [5, 60]] = np.nan
    arrays["columns.x"][50, 3] = np.nan
    arrays["columns.x"][:, 4] = -np.inf
    arrays["softmax.x"][0, 5] = np.nan
    arrays["softmax.x"][1, 5] = -np.inf
    got = native.run(arrays)
    x = arrays["rows.x"]
    np.testing.assert_array_equal(got["rows.hi"], x.max(1))
    np.testing.assert_array_equal(got["rows.lo"], x.min(1))
    np.testing.assert_array_equal(got["rows.amax"], x.argmax(1))
    np.testing.assert_array_equal(got["rows.amin"], x.argmin(1))
    x = arrays["columns.x"]
    np.testing.assert_array_equal(got["columns.hi"], x.max(0))
    np.testing.assert_array_equal(got["columns.arg"], x.argmax(0))
    assert np.isnan(got["columns.s"][3]) and got["columns.s"][4] == -np.inf
    assert np.isnan(got["softmax.y"][0]).all()
    assert got["softmax.y"][1, 5] == 0 and abs(got["softmax.y"][1].sum() - 1) < 1e-5
