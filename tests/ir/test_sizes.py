"""Sizes of named dimensions follow from shapes, or the error says which input and which shapes."""

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from graphc.diagnostics import GraphcError
from graphc.ir.graph import Value
from graphc.ir.sizes import bind_sizes
from graphc.types import TensorType, evaluate


def bind(types: dict[str, str], **shapes: Any) -> dict[str, int]:
    return bind_sizes([Value(name, TensorType.parse(text)) for name, text in types.items()], shapes)


def test_names_take_their_sizes() -> None:
    assert bind({"x": "f32[N,3]", "y": "f32[M,N]"}, x=(7, 3), y=(2, 7)) == {"N": 7, "M": 2}
    assert bind({"x": "f32[4]", "y": "f32[]"}, x=(4,), y=()) == {}
    assert bind({"x": "f32[0,N]"}, x=(0, 1)) == {"N": 1}


def test_expressions_are_checked_or_solved() -> None:
    assert bind({"y": "f32[2*N+1]", "x": "f32[N]"}, x=(3,), y=(7,)) == {"N": 3}
    assert bind({"x": "f32[2*N+1]"}, x=(7,)) == {"N": 3}
    assert bind({"x": "f32[N*M]", "y": "f32[N]"}, x=(12,), y=(4,)) == {"N": 4, "M": 3}
    assert bind({"x": "f32[N]", "y": "f32[floor(N/2)]"}, x=(7,), y=(3,)) == {"N": 7}


ERRORS = [
    ({"x": "f32[2]", "y": "f32[2]"}, {"x": (2,)}, "G601", "no value was given for the input 'y' of type f32[2]"),
    ({"x": "f32[2]"}, {"x": (2, 1)}, "G602", "it has 1 dimensions, not 2"),
    ({"x": "f32[2,3]"}, {"x": (2, 4)}, "G602", "3 expected, not 4"),
    ({"x": "f32[N]", "y": "f32[N]"}, {"x": (2,), "y": (3,)}, "G602", "N is 2 elsewhere, 3 here"),
    ({"x": "f32[N]"}, {"x": (0,)}, "G602", "N must be at least 1"),
    ({"x": "f32[N]", "y": "f32[2*N]"}, {"x": (2,), "y": (5,)}, "G602", "2*N is 4 for N = 2, not 5"),
    ({"x": "f32[2*N]"}, {"x": (5,)}, "G602", "N cannot be found from 2*N = 5"),
    ({"x": "f32[N*M]"}, {"x": (6,)}, "G602", "M, N cannot be found from M*N = 6"),
    ({"x": "f32[floor(N/2)]"}, {"x": (3,)}, "G602", "N cannot be found"),
    ({"x": "f32[N+9]"}, {"x": (5,)}, "G602", "N cannot be found from N+9 = 5"),
]  # fmt: skip


@pytest.mark.parametrize(("types", "shapes", "code", "message"), ERRORS)
def test_errors(types: dict[str, str], shapes: dict[str, Any], code: str, message: str) -> None:
    with pytest.raises(GraphcError) as caught:
        bind(types, **shapes)
    assert caught.value.diagnostic.code == code
    assert message in caught.value.diagnostic.message


def test_an_error_shows_the_declared_and_the_given_type() -> None:
    with pytest.raises(GraphcError) as caught:
        bind({"data": "f32[N,784]"}, data=(64, 783))
    assert "data  f32[64,783]   expected f32[N,784]" in str(caught.value)


@hypothesis.given(
    st.dictionaries(st.sampled_from(["N", "M", "K"]), st.integers(1, 50), min_size=3), st.data()
)
def test_binding_inverts_evaluation(sizes: dict[str, int], data: st.DataObject) -> None:
    texts = data.draw(
        st.lists(st.sampled_from(["N", "M", "2*N", "N+M", "K*N", "7", "floor(M/2)"]), max_size=4)
    )
    types = {"base": "f32[N,M,K]", "other": f"f32[{','.join(texts)}]"}
    shapes = {
        name: tuple(evaluate(d, sizes) for d in TensorType.parse(text).shape) for name, text in types.items()
    }
    assert bind(types, **shapes) == sizes
