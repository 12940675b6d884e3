"""Contractions as reduction nests: what the templates lack, in the Kernel IR that every other kernel has.

    result[axes] = sum over the reduction axes of left[...] * right[...]

The Anchor statement becomes that sum, so the epilogue is untouched. Divisions of an index (a channel's group, a
strided gradient's source) are integer scalars of the body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from graphc.ir.kernel import (
    Affine,
    Anchor,
    AnchorOperation,
    Axis,
    Compute,
    Constant,
    Definition,
    Guard,
    IndexValue,
    Kernel,
    Load,
    Nest,
    Reduce,
    Reduction,
)
from graphc.types import Dim, DType, floor_divide

Index = tuple[Affine, ...]


def anchor_nest(kernel: Kernel, anchor: AnchorOperation) -> Nest:
    """The kernel's nest with its anchor computed inside."""
    return _BUILDERS[anchor.primitive](_Builder(kernel, anchor))


class _Builder:
    """Collects the scalars of one term of the sum."""

    def __init__(self, kernel: Kernel, anchor: AnchorOperation) -> None:
        self.kernel, self.anchor = kernel, anchor
        (self.nest,) = kernel.nests
        self.body: list[Definition] = []
        self.reductions: list[Axis] = []
        self.factors: list[str] = []
        self.shapes = [kernel.parameter(name).type.shape for name in anchor.operands]

    def axis(self, name: str, extent: Dim) -> Affine:
        self.reductions.append(Axis(f"anchor_{name}", extent, reduction=True))
        return Affine.axis(f"anchor_{name}")

    def quotient(self, name: str, expression: Affine, divisor: Dim, operation: str = "div") -> str:
        """An i64 scalar: the expression divided, or its remainder."""
        at, by = f"anchor_{name}_of", f"anchor_{name}_by"
        self.body.append(IndexValue(at, DType.I64, expression))
        self.body.append(IndexValue(by, DType.I64, Affine(divisor)))
        self.body.append(Compute(f"anchor_{name}", DType.I64, operation, (at, by)))
        return f"anchor_{name}"

    def load(self, operand: int, index: Index, guards: Sequence[Guard] = ()) -> None:
        name = self.anchor.operands[operand]
        dtype = self.kernel.parameter(name).type.dtype
        scalar = f"anchor_factor{operand}"
        self.body.append(Load(scalar, dtype, name, index, tuple(guards), 0.0, self.anchor.origins))
        if dtype is not self.anchor.accumulator:
            self.body.append(Compute(f"{scalar}_wide", self.anchor.accumulator, "cast", (scalar,)))
            scalar = f"{scalar}_wide"
        self.factors.append(scalar)

    def finish(self, condition: str = "") -> Nest:
        """The nest of the sum of products (of those where the condition holds)."""
        accumulator, term = self.anchor.accumulator, self.factors[0]
        if len(self.factors) == 2:
            term = "anchor_term"
            self.body.append(Compute(term, accumulator, "mul", (self.factors[0], self.factors[1])))
        if condition:
            self.body.append(Constant("anchor_nothing", accumulator, 0.0 if accumulator.is_float else 0))
            self.body.append(
                Compute("anchor_counted", accumulator, "where", (condition, term, "anchor_nothing"))
            )
            term = "anchor_counted"
        rest = [
            Reduce(s.name, accumulator, Reduction.SUM, term, s.origins) if isinstance(s, Anchor) else s
            for s in self.nest.body
        ]
        return replace(self.nest, axes=(*self.nest.axes, *self.reductions), body=(*self.body, *rest))


def _dot(b: _Builder) -> Nest:
    left_shape = b.shapes[0]
    transpose_a, transpose_b = (bool(b.anchor.attributes.get(f"transpose_{side}", False)) for side in "ab")
    batch = tuple(Affine.axis(axis.name) for axis in b.nest.axes[:-2])
    m, n = (Affine.axis(axis.name) for axis in b.nest.axes[-2:])
    k = b.axis("k", left_shape[-2] if transpose_a else left_shape[-1])
    b.load(0, (*batch, k, m) if transpose_a else (*batch, m, k))
    b.load(1, (*batch, n, k) if transpose_b else (*batch, k, n))
    return b.finish()


def _spatial(b: _Builder, attribute: str) -> tuple[int, ...]:
    return tuple(b.anchor.attributes[attribute])


def _source(
    b: _Builder, places: Sequence[Affine], taps: Sequence[Affine], size: Sequence[Dim]
) -> tuple[Index, list[Guard]]:
    """Data positions that output places meet at the kernel's taps, with the guards that tell padding."""
    index = []
    for place, tap, s, p, d in zip(
        places, taps, _spatial(b, "stride"), _spatial(b, "pad"), _spatial(b, "dilate"), strict=True
    ):
        index.append(place.scale(s) + tap.scale(d) + -p)
    return tuple(index), [Guard(at, 0, extent) for at, extent in zip(index, size, strict=True)]


def _forward(b: _Builder) -> Nest:
    x, w = b.shapes
    n, o, *places = (Affine.axis(axis.name) for axis in b.nest.axes)
    channel = b.axis("c", w[1])
    taps = [b.axis(f"k{number}", extent) for number, extent in enumerate(w[2:])]
    source, guards = _source(b, places, taps, x[2:])
    groups = b.anchor.attributes.get("groups", 1)
    group = b.quotient("group", o, floor_divide(w[0], groups))
    b.load(0, (n, Affine.axis(group, w[1]) + channel, *source), guards)
    b.load(1, (o, channel, *taps))
    return b.finish()


def _channels_last(b: _Builder) -> Nest:
    x, w = b.shapes
    n, *places, o = (Affine.axis(axis.name) for axis in b.nest.axes)
    channel = b.axis("c", w[1])
    taps = [b.axis(f"k{number}", extent) for number, extent in enumerate(w[2:])]
    source, guards = _source(b, places, taps, x[1:-1])
    b.load(0, (n, *source, channel), guards)
    b.load(1, (o, channel, *taps))
    return b.finish()


def _weight_gradient(b: _Builder) -> Nest:
    x, dy = b.shapes
    o, channel, *taps = (Affine.axis(axis.name) for axis in b.nest.axes)
    n = b.axis("n", dy[0])
    places = [b.axis(f"p{number}", extent) for number, extent in enumerate(dy[2:])]
    source, guards = _source(b, places, taps, x[2:])
    groups = b.anchor.attributes.get("groups", 1)
    group = b.quotient("group", o, floor_divide(dy[1], groups))
    b.load(0, (n, Affine.axis(group, b.anchor.result.shape[1]) + channel, *source), guards)
    b.load(1, (n, o, *places))
    return b.finish()


def _data_gradient(b: _Builder) -> Nest:
    dy, w = b.shapes
    n, c, *positions = (Affine.axis(axis.name) for axis in b.nest.axes)
    groups = b.anchor.attributes.get("groups", 1)
    filters = b.axis("o", floor_divide(w[0], groups))
    taps = [b.axis(f"k{number}", extent) for number, extent in enumerate(w[2:])]
    group = b.quotient("group", c, w[1])
    filters = filters + Affine.axis(group, floor_divide(w[0], groups))
    places, guards, conditions = [], [], []
    for number, (position, tap) in enumerate(zip(positions, taps, strict=True)):
        s, p, d = (_spatial(b, name)[number] for name in ("stride", "pad", "dilate"))
        reach = position + p + tap.scale(-d)
        place = b.quotient(f"place{number}", reach, s)
        rest = b.quotient(f"rest{number}", reach, s, "mod")
        b.body.append(Constant(f"anchor_zero{number}", DType.I64, 0))
        b.body.append(Compute(f"anchor_whole{number}", DType.BOOL, "eq", (rest, f"anchor_zero{number}")))
        conditions.append(f"anchor_whole{number}")
        places.append(Affine.axis(place))
        guards += [Guard(Affine.axis(place), 0, dy[2 + number]), Guard(reach, 0, dy[2 + number] * s)]
    condition = conditions[0]
    for number, other in enumerate(conditions[1:]):
        b.body.append(Compute(f"anchor_both{number}", DType.BOOL, "logical_and", (condition, other)))
        condition = f"anchor_both{number}"
    b.load(0, (n, filters, *places), guards)
    b.load(1, (filters, c + Affine.axis(group, -w[1]), *taps))
    return b.finish(condition)


def _scatter(b: _Builder) -> Nest:
    """Every element looks through all indices for its own: for few of them, and types without a template."""
    indices = b.shapes[0]
    axis = b.anchor.attributes["axis"]
    place = [Affine.axis(a.name) for a in b.nest.axes]
    positions = [b.axis(f"p{number}", extent) for number, extent in enumerate(indices)]
    data = b.anchor.operands[0]
    b.body.append(Load("anchor_index", b.kernel.parameter(data).type.dtype, data, tuple(positions)))
    b.body.append(Compute("anchor_wide", DType.I64, "cast", ("anchor_index",)))
    b.body.append(Constant("anchor_first", DType.I64, 0))
    b.body.append(IndexValue("anchor_last", DType.I64, Affine(b.anchor.attributes["size"] - 1)))
    b.body.append(Compute("anchor_low", DType.I64, "maximum", ("anchor_wide", "anchor_first")))
    b.body.append(Compute("anchor_row", DType.I64, "minimum", ("anchor_low", "anchor_last")))
    b.body.append(IndexValue("anchor_place", DType.I64, place[axis]))
    b.body.append(Compute("anchor_hit", DType.BOOL, "eq", ("anchor_row", "anchor_place")))
    b.load(1, (*place[:axis], *positions, *place[axis + 1 :]))
    return b.finish("anchor_hit")


_BUILDERS: Mapping[str, Callable[[_Builder], Nest]] = {
    "dot": _dot,
    "convolution": _forward,
    "channels_last_convolution": _channels_last,
    "convolution_data_gradient": _data_gradient,
    "convolution_weight_gradient": _weight_gradient,
    "scatter_add": _scatter,
}
