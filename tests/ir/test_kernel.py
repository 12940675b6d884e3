"""What a kernel says about itself."""

from graphc.ir.kernel import (
    Access,
    Affine,
    Axis,
    Guard,
    IndexValue,
    Kernel,
    Load,
    Nest,
    Parameter,
    Store,
    levels,
)
from graphc.types import DType, TensorType, symbol


def kernel(*statements: IndexValue | Load | Store, axes: tuple[Axis, ...] = (Axis("i", 4),)) -> Kernel:
    buffers = (
        Parameter("x", TensorType(DType.F32, (9,)), Access.IN),
        Parameter("y", TensorType(DType.F32, (9,)), Access.OUT),
    )
    return Kernel("k", buffers, (Nest(axes, statements),))


def test_symbols_are_found_wherever_they_occur() -> None:
    n, i = symbol("N"), Affine.axis("i")
    assert kernel(Load("a", DType.F32, "x", (i,))).symbols == ()
    places = [
        kernel(axes=(Axis("i", n),)),
        kernel(IndexValue("a", DType.I64, Affine(n))),
        kernel(Load("a", DType.F32, "x", (Affine.axis("i", n),))),
        kernel(Load("a", DType.F32, "x", (i,), (Guard(i, 0, n),))),
        kernel(Store("y", (i + n,), "a")),
    ]
    assert [place.symbols for place in places] == [("N",)] * 5


def test_a_reduce_ends_what_depends_on_its_axis() -> None:
    inner = Load("a", DType.F32, "x", (Affine.axis("r"),))
    outer = Load("b", DType.F32, "x", (Affine.axis("i"),))
    nest = Nest((Axis("i", 2), Axis("r", 3, reduction=True)), (inner, outer))
    assert levels(nest) == {"a": True, "b": False}


def test_affine_arithmetic() -> None:
    i, j = Affine.axis("i", 3), Affine.axis("j")
    assert i + j + 2 == Affine(2, (("i", 3), ("j", 1)))
    assert i + i.scale(-1) == Affine(0)
    assert (i + 1).substitute({"i": j + 5}) == Affine(16, (("j", 3),))
    assert (i + j).stride("i") == 3 and i.stride("j") == 0
    assert Affine.axis("k", 0) == Affine()
