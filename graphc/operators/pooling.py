"""Pooling over one to three spatial axes, [batch, channels, spatial ...]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.ir.graph import Value
from graphc.operators.convolution import LAYOUT, per_axis, require_spatial
from graphc.operators.declare import Context, Operator, declare
from graphc.operators.inference import BrokenRuleError, ShapeFrame, merge_shapes
from graphc.operators.parameters import Parameters, boolean, choice, ignored, integer, integers
from graphc.primitives.builder import Builder
from graphc.types import Dim, TensorType, dimension


def _pooling_shapes(frame: ShapeFrame) -> None:
    """Batch and channels pass through."""
    parameters, data, output = frame.parameters, frame["data"], frame.outputs[0]
    if not parameters.kernel and not parameters.global_pool:
        raise BrokenRuleError("kernel is missing", help="give kernel=, or global_pool=True")
    if data is not None and not parameters.global_pool:
        require_spatial(data, parameters.kernel)
    if data is not None and len(data) < 3:
        raise BrokenRuleError("data needs batch, channels and at least one spatial axis")
    known = data if data is not None else output
    if known is not None:
        rest = (0,) * (len(known) - 2)
        lead = merge_shapes(data and data[:2], output and output[:2]) if data and output else known[:2]
        assert lead is not None
        frame.expect("data", (*lead, *rest), "data is [batch, channels, spatial ...]")
        frame.expect_output((*lead, *rest))


def _pooling(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    x = inputs[0]
    if parameters.pool_type == "lp":
        power = builder.pow(builder.abs(x), float(parameters.p_value))
        return builder.pow(_pool_sum(builder, parameters, power), 1.0 / parameters.p_value)
    if parameters.pool_type == "sum":
        return _pool_sum(builder, parameters, x)
    if parameters.global_pool:
        axes = range(2, x.type.rank)
        if parameters.pool_type == "max":
            return builder.reduce("reduce_max", x, axes, keepdims=True)
        return builder.mean(x, axes, keepdims=True)
    geometry = _windows(parameters, x.type.shape[2:])
    if parameters.pool_type == "max":
        return builder.emit_all("max_pool", x, **geometry)[0]
    return _pool_average(builder, parameters, x, geometry)


def _pool_sum(builder: Builder, parameters: Parameters, x: Value) -> Value:
    if parameters.global_pool:
        return builder.sum(x, range(2, x.type.rank), keepdims=True)
    return builder.emit("window_sum", x, **_windows(parameters, x.type.shape[2:]))


def _windows(parameters: Parameters, sizes: Sequence[Dim]) -> dict[str, Any]:
    """Kernel, stride and padding; the convention decides what is added at the end."""
    kernel = parameters.kernel
    stride = per_axis(parameters.stride, len(kernel), 1, "stride")
    pad = per_axis(parameters.pad, len(kernel), 0, "pad")
    if any(p >= k for p, k in zip(pad, kernel, strict=True)):
        raise BrokenRuleError(
            f"pad {pad} is not below kernel {tuple(kernel)}: a window would hold padding only"
        )
    low, high = list(pad), list(pad)
    if parameters.pooling_convention != "valid":
        if not all(isinstance(size, int) for size in sizes):
            raise BrokenRuleError(
                f"pooling_convention={parameters.pooling_convention} needs spatial sizes that are numbers",
                help="use pooling_convention='valid' with symbolic dimensions",
            )
        for axis, (size, k, s, p) in enumerate(zip(map(int, sizes), kernel, stride, pad, strict=True)):
            low[axis], high[axis] = _rounded_up(parameters.pooling_convention, size, k, s, p)
    return {"kernel": kernel, "stride": stride, "pad_low": tuple(low), "pad_high": tuple(high)}


def _rounded_up(convention: str, size: int, kernel: int, stride: int, pad: int) -> tuple[int, int]:
    """Padding on both sides so that the windows cover the end; the last one starts inside."""
    if convention == "same":
        missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return missing // 2, missing - missing // 2
    count = min(size + 2 * pad - kernel + stride - 1, size + 2 * pad - 1) // stride + 1
    return pad, max((count - 1) * stride + kernel - size - pad, 0)


def _pool_average(builder: Builder, parameters: Parameters, x: Value, geometry: dict[str, Any]) -> Value:
    """Window sums over the number of elements; what the full convention adds at the end is never counted."""
    total = builder.emit("window_sum", x, **geometry)
    kernel, low, high = geometry["kernel"], geometry["pad_low"], geometry["pad_high"]
    counted_low = low if parameters.count_include_pad else (0,) * len(low)
    pad = per_axis(parameters.pad, len(kernel), 0, "pad") if parameters.pooling_convention == "full" else high
    counted_high = pad if parameters.count_include_pad else (0,) * len(high)
    if counted_low == low and all(c >= h for c, h in zip(counted_high, high, strict=True)):
        count = 1
        for k in kernel:
            count *= k
        return builder.div(total, float(count))
    sizes = [
        dimension(size + a + b)
        for size, a, b in zip(x.type.shape[2:], counted_low, counted_high, strict=True)
    ]
    rest = {
        **geometry,
        "pad_low": tuple(a - b for a, b in zip(low, counted_low, strict=True)),
        "pad_high": tuple(max(a - b, 0) for a, b in zip(high, counted_high, strict=True)),
    }
    ones = builder.full(1.0, TensorType(x.type.dtype, tuple(sizes)))
    # A window that holds padding only has the sum 0, and the average 0 too.
    return builder.div(total, builder.maximum(builder.emit("window_sum", ones, **rest), 1.0))


declare(
    Operator(
        "Pooling",
        "Maximum, average, sum or p-norm over sliding windows of the spatial axes.",
        _pooling,
        parameters=(
            integers("kernel", "Size of the window.", (), minimum=1),
            choice("pool_type", "What is computed.", ("max", "avg", "sum", "lp"), "max"),
            boolean("global_pool", "One window over all of each channel.", False),
            ignored("cudnn_off"),
            choice(
                "pooling_convention",
                "Windows that reach beyond the end: left out (valid), or filled up (full).",
                ("full", "same", "valid"),
                "valid",
            ),
            integers("stride", "Step between windows; 1 by default.", (), minimum=1),
            integers("pad", "Padding on both sides; 0 by default.", (), minimum=0),
            integer("p_value", "The p of lp pooling.", 2, minimum=1),
            boolean("count_include_pad", "Averages count padding as zeros.", True),
            LAYOUT,
        ),
        shapes=_pooling_shapes,
        aliases=("Pooling_v1",),
    )
)
