"""Sliding windows over the trailing len(kernel) axes, and their transposes.

Along a window axis of size D there are floor((D + low + high - kernel) / stride) + 1 windows; window o covers the
elements o * stride - low + (0 ... kernel - 1), of which those outside 0 ... D - 1 are padding. Padding never wins a
maximum, adds nothing to a sum and takes no gradient. A position counts the window's elements in row-major order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphc.ir.graph import Attributes, Node, Value
from graphc.primitives import rules
from graphc.primitives.declare import (
    AttributeSpec,
    GradientRule,
    Kind,
    Oracle,
    Primitive,
    TypeRule,
    TypeRuleError,
    declare,
)
from graphc.primitives.reduction import least
from graphc.types import Dim, DType, Shape, TensorType, dimension, product

if TYPE_CHECKING:
    import torch

    from graphc.primitives.builder import Builder

Gradients = tuple[Value | None, ...]
Types = tuple[TensorType, ...]
Tensors = tuple["torch.Tensor", ...]

GEOMETRY = (
    AttributeSpec("kernel", "window size, a window axis"),
    AttributeSpec("stride", "step between windows, a window axis"),
    AttributeSpec("pad_low", "padding before, a window axis"),
    AttributeSpec("pad_high", "padding after, a window axis"),
)


def _geometry(attributes: Attributes, rank: int) -> tuple[tuple[int, ...], ...]:
    kernel = attributes["kernel"]
    if not isinstance(kernel, tuple) or not kernel:
        raise TypeRuleError(f"kernel must be a tuple of sizes, got {kernel!r}")
    if len(kernel) > rank:
        raise TypeRuleError(f"kernel {kernel} has more axes than the operand, which has {rank}")
    count = len(kernel)
    return (
        rules.whole_numbers("kernel", kernel, count, 1),
        rules.whole_numbers("stride", attributes["stride"], count, 1),
        rules.whole_numbers("pad_low", attributes["pad_low"], count, 0),
        rules.whole_numbers("pad_high", attributes["pad_high"], count, 0),
    )


def _windowed(shape: Shape, attributes: Attributes) -> Shape:
    """The shape that holds one element a window."""
    kernel, stride, low, high = _geometry(attributes, len(shape))
    lead = len(shape) - len(kernel)
    counts = [
        rules.window_count(size, k, s, a + b)
        for size, k, s, a, b in zip(shape[lead:], kernel, stride, low, high, strict=True)
    ]
    return (*shape[:lead], *counts)


def index_type(kernel: tuple[int, ...]) -> DType:
    """The element type of positions in a window: one byte where it suffices."""
    return DType.U8 if product(kernel) <= 255 else DType.I32


def _require_index(index: TensorType, attributes: Attributes) -> None:
    expected = index_type(attributes["kernel"])
    if index.dtype is not expected:
        raise TypeRuleError(f"the index must be {expected} for kernel {attributes['kernel']}, got {index}")


def _max_pool_rule(types: Types, attributes: Attributes) -> Types:
    rules.operands(types, 1)
    rules.numeric(*types)
    result = types[0].with_shape(_windowed(types[0].shape, attributes))
    return result, result.with_dtype(index_type(attributes["kernel"]))


def _gather_rule(types: Types, attributes: Attributes) -> Types:
    rules.operands(types, 2)
    x, index = types
    rules.numeric(x)
    shape = _windowed(x.shape, attributes)
    _require_index(index, attributes)
    rules.shape_is("the index", index.shape, shape)
    return (x.with_shape(shape),)


def _sum_rule(types: Types, attributes: Attributes) -> Types:
    rules.operands(types, 1)
    rules.numeric(*types)
    return (types[0].with_shape(_windowed(types[0].shape, attributes)),)


def _transpose_rule(count: int) -> TypeRule:
    """The rule of window_scatter (dy, index) and window_sum_transpose (dy)."""

    def infer(types: Types, attributes: Attributes) -> Types:
        rules.operands(types, count)
        rules.numeric(types[0])
        shape = rules.shape_attribute(attributes["shape"])
        windows = _windowed(shape, attributes)
        rules.shape_is(f"the gradient of windows over {rules.show(shape)}", types[0].shape, windows)
        if count == 2:
            _require_index(types[1], attributes)
            rules.shape_is("the index", types[1].shape, windows)
        return (types[0].with_shape(shape),)

    return infer


# Gradients: the two pairs are linear in their first operand and each other's transposes


def _attributes(node: Node) -> dict[str, Any]:
    return {spec.name: node.attributes[spec.name] for spec in GEOMETRY}


def _max_pool_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    g, (x,) = heads[0], node.inputs
    if g is None:
        return (None,)
    return (b.emit("window_scatter", g, node.outputs[1], shape=x.type.shape, **_attributes(node)),)


def _gather_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,), (x, index) = heads, node.inputs
    if g is None:
        return None, None
    return b.emit("window_scatter", g, index, shape=x.type.shape, **_attributes(node)), None


def _scatter_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,), (_, index) = heads, node.inputs
    return (None if g is None else b.emit("window_gather", g, index, **_attributes(node))), None


def _sum_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,), (x,) = heads, node.inputs
    return (
        None if g is None else b.emit("window_sum_transpose", g, shape=x.type.shape, **_attributes(node)),
    )


def _sum_transpose_gradient(b: Builder, node: Node, heads: Gradients) -> Gradients:
    (g,) = heads
    return (None if g is None else b.emit("window_sum", g, **_attributes(node)),)


# Oracles: windows are gathered through the flat index of every (window, position) pair


def _sources(shape: tuple[int, ...], attributes: Attributes) -> tuple[torch.Tensor, torch.Tensor]:
    """Flat index over the window axes of each element of each window, and whether it is no padding.

    Both have shape (windows, positions), windows and positions in row-major order.
    """
    import torch

    kernel, stride, low, high = _geometry(attributes, len(shape))
    sizes = shape[len(shape) - len(kernel) :]
    flat, inside = torch.zeros((1, 1), dtype=torch.int64), torch.ones((1, 1), dtype=torch.bool)
    for size, k, s, a, b in zip(sizes, kernel, stride, low, high, strict=True):
        windows = torch.arange((size + a + b - k) // s + 1)
        place = windows[:, None] * s - a + torch.arange(k)
        ok = (place >= 0) & (place < size)
        place = place.clamp(0, max(size - 1, 0))
        grid = (flat.shape[0] * place.shape[0], flat.shape[1] * k)
        flat = (flat[:, None, :, None] * size + place[None, :, None, :]).reshape(grid)
        inside = (inside[:, None, :, None] & ok[None, :, None, :]).reshape(grid)
    return flat, inside


def _windows(x: torch.Tensor, attributes: Attributes, fill: float) -> torch.Tensor:
    """All windows of x: shape (lead, windows, positions)."""
    import torch

    flat, inside = _sources(tuple(x.shape), attributes)
    rank = len(attributes["kernel"])
    rows = x.reshape(_lead(x, rank), _size(x, rank))
    if not rows.shape[1]:
        return rows.new_full((rows.shape[0], *flat.shape), fill)
    return torch.where(inside, rows[:, flat], torch.full((), fill, dtype=x.dtype))


def _lead(x: torch.Tensor, rank: int) -> int:
    return int(product(x.shape[: x.dim() - rank]))


def _size(x: torch.Tensor, rank: int) -> int:
    return int(product(x.shape[x.dim() - rank :]))


def _max_pool_oracle(operands: Tensors, node: Node, shapes: tuple[tuple[int, ...], ...]) -> Tensors:
    import torch

    (x,) = operands
    windows = _windows(x, node.attributes, least(x.dtype))
    y = windows.amax(-1)
    first = ((windows == y[..., None]) | (windows != windows)).to(torch.uint8).argmax(-1)
    return y.reshape(shapes[0]), first.to(index_type(node.attributes["kernel"]).torch).reshape(shapes[1])


def _gather_oracle(operands: Tensors, node: Node, shapes: tuple[tuple[int, ...], ...]) -> Tensors:
    x, index = operands
    windows = _windows(x, node.attributes, 0)
    chosen = index.reshape(windows.shape[:-1])[..., None].long()
    return (windows.gather(-1, chosen)[..., 0].reshape(shapes[0]),)


def _sum_oracle(operands: Tensors, node: Node, shapes: tuple[tuple[int, ...], ...]) -> Tensors:
    (x,) = operands
    return (_windows(x, node.attributes, 0).sum(-1, dtype=x.dtype).reshape(shapes[0]),)


def _transposed(contributions: torch.Tensor, node: Node, shape: tuple[int, ...]) -> Tensors:
    """Add contributions (lead, windows, positions) at the elements they belong to."""
    import torch

    flat, inside = _sources(shape, node.attributes)
    zero = torch.zeros((), dtype=contributions.dtype)
    kept = torch.where(inside, contributions, zero).reshape(contributions.shape[0], inside.numel())
    result = contributions.new_zeros(
        (kept.shape[0], int(product(shape[len(shape) - len(node.attributes["kernel"]) :])))
    )
    if result.numel():
        result.index_add_(1, flat.reshape(-1), kept)
    return (result.reshape(shape),)


def _scatter_oracle(operands: Tensors, node: Node, shapes: tuple[tuple[int, ...], ...]) -> Tensors:
    import torch

    dy, index = operands
    rank = len(node.attributes["kernel"])
    rows = dy.reshape(_lead(dy, rank), _size(dy, rank))
    positions = torch.arange(int(product(node.attributes["kernel"])))
    chosen = index.reshape(rows.shape)[..., None] == positions
    return _transposed(torch.where(chosen, rows[..., None], torch.zeros((), dtype=dy.dtype)), node, shapes[0])


def _sum_transpose_oracle(operands: Tensors, node: Node, shapes: tuple[tuple[int, ...], ...]) -> Tensors:
    (dy,) = operands
    rank = len(node.attributes["kernel"])
    rows = dy.reshape(_lead(dy, rank), _size(dy, rank))
    positions = int(product(node.attributes["kernel"]))
    return _transposed(rows[..., None].expand(*rows.shape, positions), node, shapes[0])


def _window_elements(node: Node) -> Dim:
    """One operation for each element of each window."""
    windows = node.outputs[0] if "shape" not in node.attributes else node.inputs[0]
    return dimension(windows.type.size * product(node.attributes["kernel"]))


def _window(
    name: str, doc: str, infer: TypeRule, gradient: GradientRule, oracle: Oracle, *, transpose: bool = False
) -> None:
    declare(
        Primitive(
            name,
            doc,
            Kind.WINDOW,
            infer,
            oracle,
            gradient=gradient,
            attributes=(*GEOMETRY, rules.SHAPE) if transpose else GEOMETRY,
            flops=_window_elements,
            differentiable_inputs=(0,),
        )
    )


_window(
    "max_pool",
    "greatest element of each window, and its position there (u8 up to 255 positions, else i32): the first of equals, "
    "NaN wins; -inf (least integer) at position 0 where a window is all padding",
    _max_pool_rule,
    _max_pool_gradient,
    _max_pool_oracle,
)
_window(
    "window_gather",
    "the element at position `index` of each window of x; 0 where that is padding",
    _gather_rule,
    _gather_gradient,
    _gather_oracle,
)
_window(
    "window_scatter",
    "transpose of window_gather: adds dy at position `index` of each window, in zeros of `shape`",
    _transpose_rule(2),
    _scatter_gradient,
    _scatter_oracle,
    transpose=True,
)
_window("window_sum", "sum of each window", _sum_rule, _sum_gradient, _sum_oracle)
_window(
    "window_sum_transpose",
    "transpose of window_sum: adds dy to every element of its window, in zeros of `shape`",
    _transpose_rule(1),
    _sum_transpose_gradient,
    _sum_transpose_oracle,
    transpose=True,
)
