"""Kernel IR: one fused kernel as loops over scalars, the same for every target.

    kernel    = "kernel" name "(" {parameter} ")" [anchor] "{" {view} {nest} "}"
    parameter = ("in" | "out" | "inout") buffer ":" type
    anchor    = "anchor" primitive "(" buffers ")" "{" attributes "}" "->" type "in" dtype [results]
    results   = "into" "(" (buffer | "_") {"," (buffer | "_")} ")"         "_": a result that nobody reads
    view      = "view" ["(" {axis} ")" "=" index]   where the element at these axes lies; for each operand and result
    nest      = "nest" "(" {axis} ")" "{" {statement} "}"
    axis      = name ":" extent ["reduce"]
    statement = name ":" dtype "=" "load" buffer index {guard} ["else" literal]
              | name ":" dtype "=" "constant" literal
              | name ":" dtype "=" "index" affine                      the value of an index expression (iota)
              | name ":" dtype "=" scalar_operation "(" names ")"
              | name ":" dtype "=" "random" "(" buffer "," stream "," affine ")"   uniform in [0, 1), Philox 4x32-10
              | name ":" dtype "=" "reduce" operation name              over all reduction axes of the nest
              | name ":" dtype "=" "anchor"                             the anchor's result at the parallel axes
              | "store" buffer index "=" name {guard}
    index     = "[" affine {"," affine} "]"       one expression a dimension of the buffer
    affine    = integer combination of axes, and of i64 scalars (an indirect index, already clamped)
    guard     = "if" low "<=" affine "<" high

A nest is the product of its axes. A scalar that depends on a reduction axis other than through a reduce is *inner*;
everything else is *outer* and exists once a point of the parallel axes. Inner statements after a reduce that use
its result run in a further pass over the reduction axes (softmax has three passes); a schedule may keep or recompute
inner values between passes. All reduces of a nest run over all its reduction axes. The nests of a kernel are
independent: none reads what another one writes (horizontal fusion, the parts of a concat).

A kernel with an anchor (dot, convolution ...) has one nest over the axes of the anchor's result, all parallel, which is
its epilogue: it reads the result through an Anchor statement and stores what the kernel is for. An anchor that names
results (attention, recurrence) writes these parameters whole, in their own types; its kernel has no nest. It may read
and write through views, so that transposed, sliced and joined tensors are met where they lie.

Storage and arithmetic: a load of f16 or bf16 has that dtype and is followed by an explicit cast to f32; a store's value
has the buffer's dtype. Booleans are stored as one byte, 0 or 1. Integer arithmetic wraps.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from graphc.ir.graph import NO_ATTRIBUTES, Attributes, Origins
from graphc.types import Dim, DType, Shape, TensorType, dim_symbols, dimension, row_major_strides


@dataclass(frozen=True, slots=True)
class Axis:
    """A loop: its name is unique in the nest; extent is a Dim."""

    name: str
    extent: Dim
    reduction: bool = False


@dataclass(frozen=True, slots=True)
class Affine:
    """offset + sum of stride * variable; a variable is an axis or an integer scalar of the body (indirect index)."""

    offset: Dim = 0
    terms: tuple[tuple[str, Dim], ...] = ()

    @classmethod
    def axis(cls, name: str, stride: Dim = 1) -> Affine:
        return cls(0, ((name, stride),)) if stride != 0 else cls(0)

    @classmethod
    def make(cls, offset: Dim, terms: Iterable[tuple[str, Dim]]) -> Affine:
        """Sum equal variables, drop zero strides, keep the order of first occurrence."""
        sums: dict[str, Dim] = {}
        for name, stride in terms:
            sums[name] = dimension(sums.get(name, 0) + stride)
        return cls(dimension(offset), tuple((name, stride) for name, stride in sums.items() if stride != 0))

    def __add__(self, other: Affine | Dim) -> Affine:
        if isinstance(other, Affine):
            return Affine.make(self.offset + other.offset, (*self.terms, *other.terms))
        return Affine.make(self.offset + other, self.terms)

    def scale(self, factor: Dim) -> Affine:
        return Affine.make(self.offset * factor, ((name, stride * factor) for name, stride in self.terms))

    def substitute(self, table: Mapping[str, Affine]) -> Affine:
        """Replace variables by affine expressions."""
        result = Affine(self.offset)
        for name, stride in self.terms:
            result = result + (table[name].scale(stride) if name in table else Affine.axis(name, stride))
        return result

    def stride(self, name: str) -> Dim:
        """The coefficient of a variable, 0 when it does not occur."""
        return next((stride for variable, stride in self.terms if variable == name), 0)

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.terms)


@dataclass(frozen=True, slots=True)
class Guard:
    """low <= expression < high; a load outside gives its `other`, a store outside does nothing."""

    expression: Affine
    low: Dim
    high: Dim


Literal: TypeAlias = "float | int | bool"


@dataclass(frozen=True, slots=True)
class Load:
    """Read one element; `index` has one affine expression a dimension of the buffer's shape."""

    name: str
    dtype: DType
    buffer: str
    index: tuple[Affine, ...]
    guards: tuple[Guard, ...] = ()
    other: Literal = 0
    origins: Origins = ()


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal."""

    name: str
    dtype: DType
    value: Literal
    origins: Origins = ()


@dataclass(frozen=True, slots=True)
class IndexValue:
    """The value of an affine expression of axes."""

    name: str
    dtype: DType
    expression: Affine
    origins: Origins = ()


@dataclass(frozen=True, slots=True)
class Compute:
    """A scalar operation; `operation` is the name of an elementwise primitive (or "cast"), dtype is the result's.

    Comparisons and logic give BOOL; "where" takes (condition, x, y).
    """

    name: str
    dtype: DType
    operation: str
    arguments: tuple[str, ...]
    origins: Origins = ()


@dataclass(frozen=True, slots=True)
class Random:
    """Uniform f32 in [0, 1): word 0 of Philox 4x32-10, (word >> 8) * 2**-24.

    `buffer` holds i64[2] = (seed, step). Key = (seed low, seed high 32 bits); counter = (index low, index high,
    stream, step low), index being the value of the affine expression (the element's row-major number).
    """

    name: str
    dtype: DType
    buffer: str
    stream: int
    index: Affine
    origins: Origins = ()


class Reduction(enum.Enum):
    """argmax and argmin give the row-major position (i64) in the reduction axes, the first of equals; NaN wins."""

    SUM = "sum"
    PROD = "prod"
    MAX = "max"
    MIN = "min"
    ARGMAX = "argmax"
    ARGMIN = "argmin"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Reduce:
    """The reduction of a scalar over all reduction axes of the nest."""

    name: str
    dtype: DType
    operation: Reduction
    argument: str
    origins: Origins = ()


@dataclass(frozen=True, slots=True)
class Anchor:
    """The anchor's result at the current point of the nest's axes, in the anchor's accumulation dtype."""

    name: str
    dtype: DType
    origins: Origins = ()


@dataclass(frozen=True, slots=True)
class Store:
    """Write one element."""

    buffer: str
    index: tuple[Affine, ...]
    value: str
    guards: tuple[Guard, ...] = ()
    origins: Origins = ()


Definition: TypeAlias = Load | Constant | IndexValue | Compute | Random | Reduce | Anchor
Statement: TypeAlias = Definition | Store


@dataclass(frozen=True, slots=True)
class Nest:
    """A loop nest; parallel axes come before reduction axes, each in row-major order of its accesses."""

    axes: tuple[Axis, ...]
    body: tuple[Statement, ...]

    @property
    def parallel(self) -> tuple[Axis, ...]:
        return tuple(axis for axis in self.axes if not axis.reduction)

    @property
    def reductions(self) -> tuple[Axis, ...]:
        return tuple(axis for axis in self.axes if axis.reduction)


class Access(enum.Enum):
    """What a kernel does with a buffer."""

    IN = "in"
    OUT = "out"
    INOUT = "inout"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A buffer that the kernel reads or writes: dense, row-major, of that type.

    INOUT: every element is read only at the point that writes it, so the update happens in place.
    """

    name: str
    type: TensorType
    access: Access


@dataclass(frozen=True, slots=True)
class AnchorOperation:
    """A primitive from a template: its operands (parameter names), its attributes and result type.

    The nest's axes are the dimensions of `result`, in order; `accumulator` is the dtype of Anchor statements. Where
    `results` names output parameters ("" where nobody reads one), the template writes them and there is no nest;
    `result` is the first result's type then, read or not.
    """

    primitive: str
    operands: tuple[str, ...]
    attributes: Attributes
    result: TensorType
    accumulator: DType
    origins: Origins = ()
    results: tuple[str, ...] = ()
    views: tuple[View | None, ...] = ()
    """With results: how each operand, then each result, lies in its parameter; None, or no views: as it is."""


@dataclass(frozen=True, slots=True)
class View:
    """A tensor inside a parameter: its element at `axes`, which are its dimensions, lies at `index`."""

    axes: tuple[Axis, ...]
    index: tuple[Affine, ...]

    @classmethod
    def whole(cls, shape: Shape) -> View:
        """A parameter as it is."""
        axes = tuple(Axis(f"x{k}", extent) for k, extent in enumerate(shape))
        return cls(axes, tuple(Affine.axis(axis.name) for axis in axes))

    @property
    def shape(self) -> tuple[Dim, ...]:
        return tuple(axis.extent for axis in self.axes)

    def address(self, buffer: TensorType) -> Affine:
        """The position of the element at `axes` in the flat buffer."""
        strides = row_major_strides(buffer.shape)
        total = Affine()
        for place, stride in zip(self.index, strides, strict=True):
            total = total + place.scale(stride)
        return total

    @property
    def dims(self) -> tuple[Dim, ...]:
        """Every dimension that occurs in the view."""
        strides = [stride for place in self.index for _, stride in place.terms]
        return (*self.shape, *(place.offset for place in self.index), *strides)


@dataclass(frozen=True, slots=True)
class Kernel:
    """One launch: buffers, an optional anchor, nests."""

    name: str
    parameters: tuple[Parameter, ...]
    nests: tuple[Nest, ...]
    anchor: AnchorOperation | None = None
    origins: Origins = ()
    attributes: Attributes = NO_ATTRIBUTES

    @property
    def symbols(self) -> tuple[str, ...]:
        """Names of the symbolic dimensions that occur in shapes, extents, indices and guards, sorted."""
        dims: list[Dim] = [dim for parameter in self.parameters for dim in parameter.type.shape]
        dims += self.anchor.result.shape if self.anchor is not None else ()
        if self.anchor is not None:
            dims += [dim for view in self.anchor.views if view is not None for dim in view.dims]
            dims += [v for v in self.anchor.attributes.values() if hasattr(v, "free_symbols")]
        for nest in self.nests:
            dims += [axis.extent for axis in nest.axes]
            for expression, bounds in (item for statement in nest.body for item in expressions(statement)):
                dims += [*bounds, expression.offset, *(stride for _, stride in expression.terms)]
        return dim_symbols(dims)

    @property
    def reads(self) -> tuple[Parameter, ...]:
        return tuple(p for p in self.parameters if p.access is not Access.OUT)

    @property
    def writes(self) -> tuple[Parameter, ...]:
        return tuple(p for p in self.parameters if p.access is not Access.IN)

    def parameter(self, name: str) -> Parameter:
        return next(p for p in self.parameters if p.name == name)

    def __str__(self) -> str:
        from graphc.ir.kernel_text import print_kernel

        return print_kernel(self)


def expressions(statement: Statement) -> tuple[tuple[Affine, tuple[Dim, ...]], ...]:
    """The affine expressions in a statement, each with the bounds that a guard sets it."""
    match statement:
        case Load() | Store():
            guards = tuple((guard.expression, (guard.low, guard.high)) for guard in statement.guards)
            return (*((index, ()) for index in statement.index), *guards)
        case IndexValue():
            return ((statement.expression, ()),)
        case Random():
            return ((statement.index, ()),)
        case _:
            return ()


def levels(nest: Nest) -> dict[str, bool]:
    """For every scalar of the nest, True when it is inner (depends on a reduction axis other than through a reduce)."""
    reduction = {axis.name for axis in nest.reductions}
    inner: dict[str, bool] = {}

    def depends(*expressions: Affine) -> bool:
        return any(v in reduction or inner.get(v, False) for e in expressions for v in e.variables)

    for statement in nest.body:
        match statement:
            case Load():
                guards = tuple(guard.expression for guard in statement.guards)
                inner[statement.name] = depends(*statement.index, *guards)
            case IndexValue():
                inner[statement.name] = depends(statement.expression)
            case Random():
                inner[statement.name] = depends(statement.index)
            case Compute():
                inner[statement.name] = any(inner[argument] for argument in statement.arguments)
            case Constant() | Reduce() | Anchor():
                inner[statement.name] = False
            case Store():
                pass
    return inner
