"""Contractions as one matrix product: which axes are its rows, columns and inner dimension, and where operands lie.

A convolution is the product of gathered windows with the weight (implicit GEMM); its two gradients are the same with
other axes summed. So one template serves them all, and only addresses differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.ir.kernel import Affine, AnchorOperation, Axis
from graphc.types import Dim, Shape, TensorType, floor_divide, product, row_major_strides


@dataclass(frozen=True, slots=True)
class Place:
    """A position along a spatial axis: expression / divisor, where that is whole and within the extent."""

    name: str
    expression: Affine
    extent: Dim
    divisor: int = 1


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand of the product: the address of an element, in terms of axes and places."""

    buffer: str
    address: Affine
    places: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class Product:
    """result[outer, rows, columns] = sum over inner of a[outer, rows, inner] * b[outer, inner, columns].

    `result` gives each axis of the anchor's result as an expression of these axes.
    """

    outer: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    inner: tuple[Axis, ...]
    a: Operand
    b: Operand
    result: tuple[Affine, ...]

    @property
    def axes(self) -> tuple[Axis, ...]:
        return (*self.outer, *self.rows, *self.columns, *self.inner)


def product_of(anchor: AnchorOperation, types: dict[str, TensorType]) -> Product:
    """The product that a contraction is."""
    return _FORMS[anchor.primitive](anchor, [types[name] for name in anchor.operands])


def is_product(anchor: AnchorOperation) -> bool:
    """Whether the anchor is a matrix product, maybe of gathered operands."""
    return anchor.primitive in _FORMS


def _address(index: Sequence[Affine], shape: Shape) -> Affine:
    address = Affine(0)
    for position, stride in zip(index, row_major_strides(shape), strict=True):
        address = address + position.scale(stride)
    return address


def _dot(anchor: AnchorOperation, types: list[TensorType]) -> Product:
    shape = anchor.result.shape
    outer = tuple(
        Axis(f"@batch{n}" if len(shape) > 3 else "@batch", extent) for n, extent in enumerate(shape[:-2])
    )
    a_type, b_type = types
    transpose_a, transpose_b = (
        bool(anchor.attributes.get(name, False)) for name in ("transpose_a", "transpose_b")
    )
    rows, columns = Axis("@row", shape[-2]), Axis("@column", shape[-1])
    inner = Axis("@inner", a_type.shape[-2 if transpose_a else -1])
    lead = [Affine.axis(axis.name) for axis in outer]
    row, column, term = (Affine.axis(axis.name) for axis in (rows, columns, inner))
    a_index = [*lead, term, row] if transpose_a else [*lead, row, term]
    b_index = [*lead, column, term] if transpose_b else [*lead, term, column]
    return Product(
        outer,
        (rows,),
        (columns,),
        (inner,),
        Operand(anchor.operands[0], _address(a_index, a_type.shape)),
        Operand(anchor.operands[1], _address(b_index, b_type.shape)),
        (*lead, row, column),
    )


@dataclass(frozen=True, slots=True)
class _Geometry:
    """The shapes and axes of a convolution x[N,C,...] * w[O,C/groups,...] -> y[N,O,...], whichever is the result."""

    x: Shape
    w: Shape
    y: Shape
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilate: tuple[int, ...]
    groups: int

    @classmethod
    def of(cls, anchor: AnchorOperation, x: Shape, w: Shape, y: Shape) -> _Geometry:
        attributes: Any = anchor.attributes
        stride, pad, dilate = (tuple(attributes[name]) for name in ("stride", "pad", "dilate"))
        return cls(x, w, y, stride, pad, dilate, int(attributes.get("groups", 1)))

    @property
    def group(self) -> tuple[Axis, ...]:
        return (Axis("@group", self.groups),) if self.groups > 1 else ()

    @property
    def filters(self) -> Dim:
        """Filters a group."""
        return floor_divide(self.w[0], self.groups)

    def grouped(self, name: str, count: Dim) -> Affine:
        """The channel of all groups that a channel of one group is."""
        return Affine.make(0, [("@group", count), (name, 1)] if self.groups > 1 else [(name, 1)])

    def spatial(self, prefix: str, shape: Shape) -> tuple[Axis, ...]:
        letters = "zyx"[-len(shape) + 2 :]
        return tuple(Axis(f"{prefix}{letter}", size) for letter, size in zip(letters, shape[2:], strict=True))

    def windows(self, y: Sequence[Axis], taps: Sequence[Axis]) -> tuple[Place, ...]:
        """Where in x the elements of y's windows lie."""
        return tuple(
            Place(f"@in_{at.name[-1]}", Affine.make(-pad, [(at.name, stride), (tap.name, dilate)]), extent)
            for at, tap, stride, pad, dilate, extent in zip(
                y, taps, self.stride, self.pad, self.dilate, self.x[2:], strict=True
            )
        )


def _axes(*items: Axis | Place) -> list[Affine]:
    return [Affine.axis(item.name) for item in items]


def _convolution(anchor: AnchorOperation, types: list[TensorType]) -> Product:
    g = _Geometry.of(anchor, types[0].shape, types[1].shape, anchor.result.shape)
    image, filter = Axis("@image", g.y[0]), Axis("@filter", g.filters)
    channel = Axis("@channel", g.w[1])
    y, taps = g.spatial("@out_", g.y), g.spatial("@tap_", g.w)
    places = g.windows(y, taps)
    x_index = [*_axes(image), g.grouped("@channel", g.w[1]), *_axes(*places)]
    w_index = [g.grouped("@filter", g.filters), *_axes(channel, *taps)]
    return Product(
        g.group,
        (image, *y),
        (filter,),
        (channel, *taps),
        Operand(anchor.operands[0], _address(x_index, g.x), places),
        Operand(anchor.operands[1], _address(w_index, g.w)),
        (*_axes(image), g.grouped("@filter", g.filters), *_axes(*y)),
    )


def _channels_last(anchor: AnchorOperation, types: list[TensorType]) -> Product:
    x, w, result = types[0].shape, types[1].shape, anchor.result.shape
    g = _Geometry.of(anchor, _first(x), w, _first(result))
    image, filter, channel = Axis("@image", g.y[0]), Axis("@filter", g.w[0]), Axis("@channel", g.w[1])
    y, taps = g.spatial("@out_", g.y), g.spatial("@tap_", g.w)
    places = g.windows(y, taps)
    return Product(
        (),
        (image, *y),
        (filter,),
        (*taps, channel),
        Operand(anchor.operands[0], _address(_axes(image, *places, channel), x), places),
        Operand(anchor.operands[1], _address(_axes(filter, channel, *taps), w)),
        tuple(_axes(image, *y, filter)),
    )


def _first(shape: Shape) -> Shape:
    """[N,C,...] of [N,...,C]."""
    return (shape[0], shape[-1], *shape[1:-1])


def _data_gradient(anchor: AnchorOperation, types: list[TensorType]) -> Product:
    """dx[p] sums dy[q] * w[k] over the windows q that hold p at tap k: stride * q = p + pad - dilate * k."""
    g = _Geometry.of(anchor, anchor.result.shape, types[1].shape, types[0].shape)
    image, channel, filter = Axis("@image", g.x[0]), Axis("@channel", g.w[1]), Axis("@filter", g.filters)
    x, taps = g.spatial("@in_", g.x), g.spatial("@tap_", g.w)
    places = tuple(
        Place(f"@out_{at.name[-1]}", Affine.make(pad, [(at.name, 1), (tap.name, -dilate)]), extent, stride)
        for at, tap, stride, pad, dilate, extent in zip(
            x, taps, g.stride, g.pad, g.dilate, g.y[2:], strict=True
        )
    )
    y_index = [*_axes(image), g.grouped("@filter", g.filters), *_axes(*places)]
    w_index = [g.grouped("@filter", g.filters), *_axes(channel, *taps)]
    return Product(
        g.group,
        (image, *x),
        (channel,),
        (filter, *taps),
        Operand(anchor.operands[0], _address(y_index, g.y), places),
        Operand(anchor.operands[1], _address(w_index, g.w)),
        (*_axes(image), g.grouped("@channel", g.w[1]), *_axes(*x)),
    )


def _weight_gradient(anchor: AnchorOperation, types: list[TensorType]) -> Product:
    g = _Geometry.of(anchor, types[0].shape, anchor.result.shape, types[1].shape)
    image, channel, filter = Axis("@image", g.y[0]), Axis("@channel", g.w[1]), Axis("@filter", g.filters)
    y, taps = g.spatial("@out_", g.y), g.spatial("@tap_", g.w)
    places = g.windows(y, taps)
    y_index = [*_axes(image), g.grouped("@filter", g.filters), *_axes(*y)]
    x_index = [*_axes(image), g.grouped("@channel", g.w[1]), *_axes(*places)]
    return Product(
        g.group,
        (filter,),
        (channel, *taps),
        (image, *y),
        Operand(anchor.operands[1], _address(y_index, g.y)),
        Operand(anchor.operands[0], _address(x_index, g.x), places),
        (g.grouped("@filter", g.filters), *_axes(channel, *taps)),
    )


_FORMS: dict[str, Callable[[AnchorOperation, list[TensorType]], Product]] = {
    "dot": _dot,
    "convolution": _convolution,
    "channels_last_convolution": _channels_last,
    "convolution_data_gradient": _data_gradient,
    "convolution_weight_gradient": _weight_gradient,
}


def size_of(axes: Sequence[Axis]) -> Dim:
    """The number of points of the axes."""
    return product(axis.extent for axis in axes)
