"""Element types, dimensions and tensor types: the vocabulary of both IRs.

    dimension = integer | symbolic expression over named dimensions (sympy, integer and positive)
    type      = dtype "[" dimension {"," dimension} "]"          for example f32[N,784]

sympy is imported only when a symbolic dimension appears.
"""

from __future__ import annotations

import enum
import functools
import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy
    import sympy
    import torch

Dim: TypeAlias = "int | sympy.Expr"
Shape: TypeAlias = "tuple[Dim, ...]"

_WIDTHS = {
    "f32": 4, "f64": 8, "f16": 2, "bf16": 2, "i8": 1, "u8": 1, "i16": 2, "i32": 4, "i64": 8, "bool": 1,
}  # fmt: skip
_TORCH = {
    "f32": "float32", "f64": "float64", "f16": "float16", "bf16": "bfloat16", "i8": "int8", "u8": "uint8",
    "i16": "int16", "i32": "int32", "i64": "int64", "bool": "bool",
}  # fmt: skip


class DType(enum.Enum):
    """An element type; the value is its name in IR text."""

    F32 = "f32"
    F64 = "f64"
    F16 = "f16"
    BF16 = "bf16"
    I8 = "i8"
    U8 = "u8"
    I16 = "i16"
    I32 = "i32"
    I64 = "i64"
    BOOL = "bool"

    def __str__(self) -> str:
        return self.value

    def __repr__(self) -> str:
        return f"DType.{self.name}"

    @property
    def itemsize(self) -> int:
        """Bytes an element."""
        return _WIDTHS[self.value]

    @property
    def is_float(self) -> bool:
        return self in (DType.F32, DType.F64, DType.F16, DType.BF16)

    @property
    def is_integer(self) -> bool:
        return not self.is_float and self is not DType.BOOL

    @property
    def compute(self) -> DType:
        """The type in which scalar arithmetic on this type is done: f32 for the two 16-bit floats."""
        return DType.F32 if self in (DType.F16, DType.BF16) else self

    @property
    def long_name(self) -> str:
        """The name that numpy, torch and MXNet use: float32."""
        return _TORCH[self.value]

    @property
    def torch(self) -> torch.dtype:
        import torch

        result = getattr(torch, _TORCH[self.value])
        assert isinstance(result, torch.dtype)
        return result

    @classmethod
    def of(cls, value: Any) -> DType:
        """The DType for a DType, an IR name, a torch or numpy dtype, a numpy scalar type or a dtype name.

        Raises TypeError when graphc has no such type.
        """
        if isinstance(value, DType):
            return value
        name = getattr(value, "__name__", None) if isinstance(value, type) else str(value)
        name = _ALIASES.get(str(name).removeprefix("torch."))
        if name is None:
            raise TypeError(f"graphc has no element type {value!r}; it has {', '.join(d.value for d in cls)}")
        return cls(name)


_ALIASES = (
    {name: name for name in _WIDTHS}
    | {full: name for name, full in _TORCH.items()}
    | {"float": "f32", "double": "f64", "half": "f16", "int": "i64", "long": "i64", "bool_": "bool"}
)


def numpy_dtype(dtype: DType) -> numpy.dtype[Any]:
    """The numpy dtype of the same layout; raises TypeError for bf16, which numpy lacks."""
    import numpy

    if dtype is DType.BF16:
        raise TypeError("numpy has no bfloat16; use a torch tensor")
    return numpy.dtype(_TORCH[dtype.value])


_FUNCTIONS = ("floor", "Max", "Min", "Mod")


@functools.cache
def symbol(name: str) -> sympy.Symbol:
    """The symbolic dimension of that name (equal names are the same dimension)."""
    import sympy

    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"{name!r} cannot name a dimension: use letters, digits and underscores")
    if keyword.iskeyword(name) or name in _FUNCTIONS:
        raise ValueError(f"{name!r} cannot name a dimension: it means something else in an expression")
    return sympy.Symbol(name, integer=True, positive=True)


def dimension(value: Any) -> Dim:
    """A Dim from an integer, a name such as "N", or a sympy expression; whole expressions become int."""
    if isinstance(value, bool):
        raise TypeError("a dimension is an integer or a name, not a bool")
    if isinstance(value, str):
        return symbol(value)
    if isinstance(value, int):
        return value
    if hasattr(value, "is_Integer"):
        if not value.is_Integer and value.is_number:
            raise TypeError(f"a dimension is an integer or a name, not the number {value}")
        return int(value) if value.is_Integer else value
    if hasattr(value, "__index__"):
        return int(value.__index__())
    raise TypeError(f"a dimension is an integer or a name, not {type(value).__name__} {value!r}")


def shape_of(values: Iterable[Any]) -> Shape:
    """A Shape from integers, names and expressions."""
    return tuple(dimension(value) for value in values)


def product(dims: Iterable[Dim]) -> Dim:
    """The product of dimensions, 1 for none."""
    result: Dim = 1
    for dim in dims:
        result = result * dim
    return dimension(result)


def floor_divide(a: Dim, b: Dim) -> Dim:
    """floor(a / b), exact for integers and kept symbolic otherwise."""
    return a // b if isinstance(a, int) and isinstance(b, int) else dimension(a // b)


def same_dim(a: Dim, b: Dim) -> bool:
    """True when the two are equal for every value of the named dimensions."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    if a == b:
        return True
    import sympy

    return bool(sympy.expand(sympy.sympify(a) - sympy.sympify(b)) == 0)


def same_shape(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    """True when ranks agree and each pair of dimensions is the same."""
    return len(a) == len(b) and all(same_dim(x, y) for x, y in zip(a, b, strict=True))


def dim_symbols(dims: Iterable[Dim]) -> tuple[str, ...]:
    """The names of the symbolic dimensions that occur, sorted."""
    names: set[str] = set()
    for dim in dims:
        if not isinstance(dim, int):
            names.update(s.name for s in dim.free_symbols)
    return tuple(sorted(names))


def evaluate(dim: Dim, sizes: Mapping[str, int]) -> int:
    """The value of a dimension under sizes of the named ones; KeyError names one that is missing."""
    if isinstance(dim, int):
        return dim
    if dim.is_Symbol:
        return sizes[dim.name]
    names = dim_symbols([dim])
    return _evaluate(dim, tuple((name, sizes[name]) for name in names))


@functools.lru_cache(4096)
def _evaluate(dim: sympy.Expr, sizes: tuple[tuple[str, int], ...]) -> int:
    return int(dim.subs({symbol(name): size for name, size in sizes}))


def format_dim(dim: Dim) -> str:
    """A dimension as IR text, without blanks."""
    return str(dim).replace(" ", "")


def parse_dim(text: str) -> Dim:
    """The inverse of format_dim; ValueError for anything but integers, names, + - * // ( ) and floor."""
    text = text.strip()
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    if re.fullmatch(r"[A-Za-z_]\w*", text):
        return symbol(text)
    if not re.fullmatch(r"[\w\s+\-*/(),]+", text):
        raise ValueError(f"{text!r} is no dimension")
    import sympy

    functions = {name: getattr(sympy, name) for name in _FUNCTIONS}
    names = set(re.findall(r"[A-Za-z_]\w*", text)) - functions.keys()
    try:
        return dimension(sympy.sympify(text, locals={**functions, **{n: symbol(n) for n in names}}))
    except (sympy.SympifyError, SyntaxError, TypeError) as error:
        raise ValueError(f"{text!r} is no dimension") from error


@dataclass(frozen=True, slots=True)
class TensorType:
    """The element type and shape of a dense row-major tensor."""

    dtype: DType
    shape: Shape

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(format_dim(d) for d in self.shape)}]"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Dim:
        """Number of elements."""
        return product(self.shape)

    @property
    def nbytes(self) -> Dim:
        return dimension(self.size * self.dtype.itemsize)

    @property
    def is_static(self) -> bool:
        return all(isinstance(d, int) for d in self.shape)

    def concrete_shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape under sizes of the named dimensions; KeyError names one that is missing."""
        return tuple(dim if isinstance(dim, int) else evaluate(dim, sizes) for dim in self.shape)

    def with_shape(self, shape: Iterable[Any]) -> TensorType:
        return TensorType(self.dtype, shape_of(shape))

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)

    @classmethod
    def parse(cls, text: str) -> TensorType:
        """The inverse of str; ValueError when the text is no type."""
        match = re.fullmatch(r"\s*(\w+)\[(.*)\]\s*", text)
        if match is None:
            raise ValueError(f"{text!r} is no tensor type; write for example f32[N,784]")
        inner = match.group(2).strip()
        dims = _split_commas(inner) if inner else []
        return cls(DType.of(match.group(1)), tuple(parse_dim(d) for d in dims))


def _split_commas(text: str) -> list[str]:
    """Split at commas that stand outside parentheses."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]


def row_major_strides(shape: Sequence[Dim]) -> Shape:
    """Strides in elements of a dense row-major tensor of that shape."""
    strides: list[Dim] = []
    stride: Dim = 1
    for dim in reversed(shape):
        strides.append(stride)
        stride = dimension(stride * dim)
    return tuple(reversed(strides))
