"""Element types, dimensions and tensor types."""

import pickle

import hypothesis
import numpy
import pytest
import sympy
import torch
from hypothesis import strategies as st

from graphc.types import (
    DType,
    TensorType,
    dim_symbols,
    dimension,
    evaluate,
    floor_divide,
    format_dim,
    numpy_dtype,
    parse_dim,
    product,
    row_major_strides,
    same_dim,
    same_shape,
    symbol,
)

N, M = symbol("N"), symbol("M")


@pytest.mark.parametrize("dtype", DType)
def test_an_element_type_is_found_by_all_its_names(dtype: DType) -> None:
    for name in (dtype, dtype.value, dtype.torch, str(dtype.torch)):
        assert DType.of(name) is dtype
    assert torch.empty((), dtype=dtype.torch).element_size() == dtype.itemsize
    if dtype is DType.BF16:
        with pytest.raises(TypeError, match="numpy has no bfloat16"):
            numpy_dtype(dtype)
    else:
        layout = numpy_dtype(dtype)
        assert DType.of(layout) is DType.of(layout.type) is dtype and layout.itemsize == dtype.itemsize
    assert [dtype.is_float, dtype.is_integer, dtype is DType.BOOL].count(True) == 1
    assert dtype.compute is (DType.F32 if dtype in (DType.F16, DType.BF16) else dtype)


@pytest.mark.parametrize("name", ["complex64", "u16", numpy.complex128, None, 3])
def test_an_element_type_that_is_none_is_refused(name: object) -> None:
    with pytest.raises(TypeError, match=r"graphc has no element type .* it has f32, f64"):
        DType.of(name)


def test_dimensions_are_plain_where_they_can_be() -> None:
    assert dimension("N") is N
    assert type(dimension(numpy.int64(3))) is int and dimension(torch.tensor(3)) == 3
    assert type(dimension(N - N + 4)) is int
    assert N.is_integer and N.is_positive and symbol("N") is N
    for wrong in (True, 1.5, None, [2], N / N / 2, sympy.nan, sympy.oo):
        with pytest.raises(TypeError, match="a dimension is an integer or a name"):
            dimension(wrong)
    for name in ("", "2x", "a-b", "a b", "lambda", "floor"):
        with pytest.raises(ValueError, match="cannot name a dimension"):
            symbol(name)


def test_arithmetic_of_dimensions() -> None:
    assert product([]) == 1 and product([2, 3]) == 6 and product([2, N, M]) == 2 * N * M
    assert floor_divide(7, 2) == 3 and floor_divide(-7, 2) == -4
    assert evaluate(floor_divide(N, 2), {"N": 7}) == 3
    assert evaluate(2 * N + M, {"N": 3, "M": 4, "unused": 9}) == 10
    with pytest.raises(KeyError, match="M"):
        evaluate(N * M, {"N": 3})
    with pytest.raises(KeyError, match="N"):
        evaluate(N, {})
    assert dim_symbols([N * M, 3, M]) == ("M", "N")
    assert row_major_strides((2, N, 3)) == (3 * N, 3, 1)


def test_equality_holds_for_every_size() -> None:
    assert same_dim(2 * (N + 1), 2 * N + 2)
    assert same_dim((N + 1) * (N - 1), N * N - 1)
    assert not same_dim(N, M) and not same_dim(N, 3) and not same_dim(N, 2 * N)
    assert same_shape((N, 3), [N, 3]) and not same_shape((N,), (N, 1))


@pytest.mark.parametrize(
    "text", ["f32[]", "f32[3]", "bool[N,2]", "i64[2*N,floor(N/2)+1,N**2]", "bf16[Max(1,N),M*N]", "u8[0]"]
)
def test_a_type_round_trips(text: str) -> None:
    type = TensorType.parse(text)
    assert TensorType.parse(str(type)) == type
    assert pickle.loads(pickle.dumps(type)) == type
    assert hash(pickle.loads(pickle.dumps(type))) == hash(type)


@pytest.mark.parametrize(
    "text", ["f32", "f32[", "f32[N,]", "f32[1.5]", "f32[N+]", "[3]", "f32[N;M]", "f32[import os]"]
)
def test_a_text_that_is_no_type_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        TensorType.parse(text)


def test_properties_of_a_type() -> None:
    type = TensorType.parse("f16[N,3]")
    assert type.rank == 2 and type.size == 3 * N and type.nbytes == 6 * N
    assert not type.is_static and TensorType.parse("f16[2,3]").is_static
    assert type.concrete_shape({"N": 5}) == (5, 3)
    assert str(type.with_shape([2, "M"])) == "f16[2,M]" and str(type.with_dtype(DType.I8)) == "i8[N,3]"


@hypothesis.given(st.recursive(
    st.sampled_from([N, M]) | st.integers(1, 9),
    lambda dims: st.tuples(dims, dims).map(lambda p: p[0] + p[1]) | st.tuples(dims, dims).map(lambda p: p[0] * p[1])
    | st.tuples(dims, st.integers(2, 5)).map(lambda p: floor_divide(dimension(p[0]), p[1])),
    max_leaves=5,
).map(dimension), st.integers(1, 50), st.integers(1, 50))  # fmt: skip
def test_expressions_keep_their_value_through_text(dim: object, n: int, m: int) -> None:
    sizes = {"N": n, "M": m}
    again = parse_dim(format_dim(dim))  # type: ignore[arg-type]
    assert evaluate(again, sizes) == evaluate(dim, sizes)  # type: ignore[arg-type]
    assert again == dim
