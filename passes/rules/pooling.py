"""Rules for pooling beside 1x1 convolutions: both are linear, one over places, the other over channels.

A sum over windows commutes with a convolution whose kernel is one element, forward and backward. It is better done
where the channels are fewer: there are fewer sums, and no pooled copy of the wide side has to be kept for gradients.
"""

from __future__ import annotations

from typing import Any

from graphc.ir.graph import Attributes, Node, Value
from graphc.passes.rewrite import Rewriter, Rule, on
from graphc.types import Shape


def _unscaled(rewriter: Rewriter, value: Value, *names: str) -> tuple[Node, Node | None] | None:
    """The node of one of these primitives that makes a value, and the scaling by a number between the two."""
    scale = rewriter.producer(value, "div", "mul")
    if scale is not None and rewriter.splat(scale.inputs[1]) is None:
        return None
    found = rewriter.producer(value if scale is None else scale.inputs[0], *names)
    return None if found is None else (found, scale)


def _scaled(rewriter: Rewriter, value: Value, scale: Node | None) -> Value:
    """A value with the scaling of another one."""
    if scale is None:
        return value
    number = rewriter.splat(scale.inputs[1])
    assert number is not None
    return rewriter.emit(scale.primitive, value, rewriter.full_like(number, value))


def _narrows(convolution: Node, weight: Shape, data: Value) -> bool:
    """True for a dense 1x1 convolution of single precision or more to fewer channels, element by element."""
    attributes = convolution.attributes
    outputs, inputs = weight[:2]
    return (
        all(size == 1 for size in weight[2:])
        and all(step == 1 for step in attributes["stride"])
        and not any(attributes["pad"])
        and attributes["groups"] == 1
        and isinstance(outputs, int)
        and isinstance(inputs, int)
        and outputs < inputs
        and data.type.dtype.itemsize >= 4
    )


def _windows(attributes: Attributes, rank: int) -> dict[str, Any] | None:
    """The geometry of windows over all spatial axes that move by one element; None for others."""
    kernel, stride = attributes["kernel"], attributes["stride"]
    if len(kernel) != rank - 2 or any(step != 1 for step in stride):
        return None
    return {name: attributes[name] for name in ("kernel", "stride", "pad_low", "pad_high")}


def _convolve_then_pool(rewriter: Rewriter, node: Node) -> Value | None:
    data, weight = node.inputs
    found = _unscaled(rewriter, data, "window_sum")
    if found is None or not _narrows(node, weight.type.shape, data):
        return None
    pooled, scale = found
    windows = _windows(pooled.attributes, data.type.rank)
    if windows is None or pooled.output.type.shape != pooled.inputs[0].type.shape:
        return None
    narrow = rewriter.emit("convolution", pooled.inputs[0], weight, **_attributes(node))
    return _scaled(rewriter, rewriter.emit("window_sum", narrow, **windows), scale)


def _weight_gradient(rewriter: Rewriter, node: Node) -> Value | None:
    data, gradient = node.inputs
    found = _unscaled(rewriter, data, "window_sum")
    if found is None or not _narrows(node, node.output.type.shape, data):
        return None
    pooled, scale = found
    windows = _windows(pooled.attributes, data.type.rank)
    if windows is None or pooled.output.type.shape != pooled.inputs[0].type.shape:
        return None
    spread = rewriter.emit(
        "window_sum_transpose", _scaled(rewriter, gradient, scale), shape=gradient.type.shape, **windows
    )
    shape = node.output.type.shape
    return rewriter.emit(node.primitive, pooled.inputs[0], spread, shape=shape, **_attributes(node))


def _data_gradient(rewriter: Rewriter, node: Node) -> Value | None:
    found = _unscaled(rewriter, node.inputs[0], "convolution_data_gradient")
    if found is None:
        return None
    convolution, scale = found
    gradient, weight = convolution.inputs
    windows = _windows(node.attributes, node.output.type.rank)
    if windows is None or not _narrows(convolution, weight.type.shape, gradient):
        return None
    if node.output.type.shape != node.inputs[0].type.shape:
        return None
    spread = rewriter.emit(
        "window_sum_transpose", _scaled(rewriter, gradient, scale), shape=gradient.type.shape, **windows
    )
    shape = node.output.type.shape
    return rewriter.emit(convolution.primitive, spread, weight, shape=shape, **_attributes(convolution))


def _attributes(convolution: Node) -> dict[str, Any]:
    return {name: convolution.attributes[name] for name in ("stride", "pad", "dilate", "groups")}


_SOUND = "the same products, summed in another order: rounding, and what overflows on the way"

RULES = (
    Rule("conv1x1(pool(x)) -> pool(conv1x1(x))", _SOUND, on("convolution"), _convolve_then_pool, exact=False),
    Rule(
        "weight gradient of conv1x1(pool(x))",
        _SOUND,
        on("convolution_weight_gradient"),
        _weight_gradient,
        exact=False,
    ),
    Rule("gradient of pool then of conv1x1", _SOUND, on("window_sum_transpose"), _data_gradient, exact=False),
)
