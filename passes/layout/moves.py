"""How primitives run on images whose channels lie last: their attributes there, and the operands that are moved.

    [N,C,...] -> [N,...,C]      first, last: the same tensor

`move_of` is None for what has no such form; its operands then have to be first. Values that only repeat a smaller one
(full, iota, broadcast) are made again in either order, so they tie no region together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from graphc.ir.graph import Node, Value
from graphc.primitives.channels_last import to_first, to_last
from graphc.primitives.declare import Kind, primitive
from graphc.types import Dim, DType

_TYPES = (DType.F32, DType.F64)
"""Element types for which there is a template."""


class Move(NamedTuple):
    """A node on [N,...,C]: the primitive, its attributes, which operands are moved, and whether its results are."""

    primitive: str
    attributes: dict[str, Any]
    operands: tuple[bool, ...]
    results: bool = True


def is_image(value: Value) -> bool:
    """True for a tensor that may be a batch of images: [N,C] and one or two spatial axes."""
    return value.type.rank in (3, 4)


def moved(items: Sequence[Any]) -> tuple[Any, ...]:
    """One item an axis, in the order of [N,...,C]."""
    return tuple(items[axis] for axis in to_last(len(items)))


def move_of(node: Node) -> Move | None:
    """How the node runs on [N,...,C]; None where it does not."""
    if not all(map(is_image, node.outputs)) and primitive(node.primitive).kind is not Kind.REDUCTION:
        return None
    attributes = dict(node.attributes)
    match primitive(node.primitive).kind:
        case Kind.ELEMENTWISE | Kind.IDENTITY:
            return Move(node.primitive, attributes, (True,) * len(node.inputs))
        case Kind.CONTRACTION:
            return _contraction(node, attributes)
        case Kind.WINDOW:
            return _window(node, attributes)
        case Kind.REDUCTION:
            return _reduction(node, attributes)
        case Kind.VIEW:
            return _view(node, attributes)
        case _:
            return None


def source_of(node: Node) -> Move | None:
    """How a value that repeats a smaller one is made on [N,...,C]; None for other nodes."""
    if not is_image(node.outputs[0]):
        return None
    attributes, rank = dict(node.attributes), node.outputs[0].type.rank
    place = to_first(rank)
    match node.primitive:
        case "full":
            return Move("full", {**attributes, "shape": moved(attributes["shape"])}, ())
        case "iota":
            axis = place[attributes["axis"]]
            return Move("iota", {**attributes, "shape": moved(attributes["shape"]), "axis": axis}, ())
        case "broadcast":
            axes = tuple(place[axis] for axis in attributes["axes"])
            if list(axes) != sorted(axes):
                return None
            return Move("broadcast", {"shape": moved(attributes["shape"]), "axes": axes}, (False,))
        case _:
            return None


def _contraction(node: Node, attributes: dict[str, Any]) -> Move | None:
    if node.primitive != "convolution" or attributes.pop("groups") != 1:
        return None
    known = (*node.inputs[0].type.shape[1:], *node.output.type.shape[1:])
    if node.output.type.dtype not in _TYPES or not all(isinstance(dim, int) for dim in known):
        return None
    return Move("channels_last_convolution", attributes, (True, False))


def _window(node: Node, attributes: dict[str, Any]) -> Move | None:
    """Windows over all spatial axes are windows over those and one channel."""
    rank = node.outputs[0].type.rank
    if len(attributes["kernel"]) != rank - 2:
        return None
    more = {"kernel": 1, "stride": 1, "pad_low": 0, "pad_high": 0}
    changed = {name: (*attributes[name], one) for name, one in more.items()}
    if "shape" in attributes:
        changed["shape"] = moved(attributes["shape"])
    return Move(node.primitive, {**attributes, **changed}, (True,) * len(node.inputs))


def _reduction(node: Node, attributes: dict[str, Any]) -> Move | None:
    """What is left has its order only where the channels, or all spatial axes, are summed over."""
    (operand,) = node.inputs
    rank = operand.type.rank
    if not is_image(operand):
        return None
    place = to_first(rank)
    kept = [place[axis] for axis in range(rank) if axis not in attributes["axes"]]
    if kept != sorted(kept):
        return None
    axes = tuple(sorted(place[axis] for axis in attributes["axes"]))
    return Move(node.primitive, {**attributes, "axes": axes}, (True,), results=False)


def _view(node: Node, attributes: dict[str, Any]) -> Move | None:
    place = to_first(node.output.type.rank)
    everything = (True,) * len(node.inputs)
    match node.primitive:
        case "slice":
            changed = {name: moved(attributes[name]) for name in ("start", "stop")}
            return Move("slice", changed, everything)
        case "pad":
            return Move(
                "pad", {**attributes, **{n: moved(attributes[n]) for n in ("low", "high")}}, everything
            )
        case "reverse":
            axes = tuple(sorted(place[axis] for axis in attributes["axes"]))
            return Move("reverse", {"axes": axes}, everything)
        case "concat":
            return Move("concat", {"axis": place[attributes["axis"]]}, everything)
        case _:
            return None


def known(dims: Sequence[Dim], otherwise: int = 1) -> list[int]:
    """The dimensions as numbers, named ones as if they were `otherwise`."""
    return [dim if isinstance(dim, int) else otherwise for dim in dims]
