"""Convolution, Deconvolution and Pooling over one to three spatial axes, [batch, channels, spatial ...]."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.graph import Value
from graphc.operators.broadcasting import along_axis
from graphc.operators.declare import Context, Operator, declare
from graphc.operators.inference import BrokenRuleError, ShapeFrame, is_known, merge_shapes
from graphc.operators.parameters import Parameter, Parameters, boolean, choice, ignored, integer, integers
from graphc.primitives.builder import Builder
from graphc.types import Dim, TensorType, dimension, floor_divide

_LAYOUT = choice("layout", "The order of the axes.", ("NCW", "NCHW", "NCDHW"), None)
_IGNORED = (ignored("workspace"), ignored("cudnn_tune"), ignored("cudnn_off"))


def _per_axis(values: Sequence[int], count: int, default: int, name: str) -> tuple[int, ...]:
    """One number for each spatial axis, the default where none is given."""
    if not values:
        return (default,) * count
    if len(values) != count:
        raise BrokenRuleError(
            f"{name} {tuple(values)} has not one number for each of the {count} axes of kernel"
        )
    return tuple(values)


def _require_spatial(data: tuple[Dim, ...] | None, kernel: Sequence[int]) -> None:
    if data is not None and len(data) != len(kernel) + 2:
        raise BrokenRuleError(
            f"kernel {tuple(kernel)} needs data of {len(kernel) + 2} axes", {"data": (0,) * (len(kernel) + 2)}
        )


# Convolution


def _weight_and_bias(parameters: Parameters) -> tuple[str, ...]:
    return ("data", "weight") if parameters.no_bias else ("data", "weight", "bias")


def _geometry(parameters: Parameters) -> dict[str, tuple[int, ...] | int]:
    count = len(parameters.kernel)
    if not 1 <= count <= 3:
        raise BrokenRuleError(
            f"kernel {parameters.kernel} has {count} axes", help="give it one, two or three"
        )
    return {
        "stride": _per_axis(parameters.stride, count, 1, "stride"),
        "pad": _per_axis(parameters.pad, count, 0, "pad"),
        "dilate": _per_axis(parameters.dilate, count, 1, "dilate"),
        "groups": parameters.num_group,
    }


def _require_groups(filters: int, groups: int, channels: Dim) -> None:
    if filters % groups:
        raise BrokenRuleError(f"{filters} filters do not divide into {groups} groups")
    if isinstance(channels, int) and channels % groups:
        raise BrokenRuleError(f"{channels} channels of data do not divide into {groups} groups")


def _convolution_shapes(frame: ShapeFrame) -> None:
    parameters = frame.parameters
    filters, groups, kernel = parameters.num_filter, parameters.num_group, parameters.kernel
    _geometry(parameters)
    data, output = frame["data"], frame.outputs[0]
    _require_spatial(data, kernel)
    channels = data[1] if data is not None else 0
    _require_groups(filters, groups, channels)
    weight = (filters, floor_divide(channels, groups) if is_known(channels) else 0, *kernel)
    rule = "weight is [filters, channels of a group, kernel ...]"
    frame.expect("weight", weight, rule, "drop weight= to let it be inferred")
    frame.expect(
        "bias", (filters,), "bias has one element for each filter", "drop bias= to let it be inferred"
    )
    inner = frame["weight"]
    if inner is not None and is_known(inner[1]):
        channels = dimension(inner[1] * groups)
    batch = output[0] if output is not None else 0
    frame.expect("data", (batch, channels, *[0] * len(kernel)), "data is [batch, channels, spatial ...]")
    known = frame["data"]
    assert known is not None
    frame.expect_output((known[0], filters, *[0] * len(kernel)))
    if output is not None:
        _recover_size(frame, output)


def _recover_size(frame: ShapeFrame, output: tuple[Dim, ...]) -> None:
    """With stride 1 the size of data follows from that of the output."""
    parameters, geometry = frame.parameters, _geometry(frame.parameters)
    stride, pad, dilate = geometry["stride"], geometry["pad"], geometry["dilate"]
    assert isinstance(stride, tuple) and isinstance(pad, tuple) and isinstance(dilate, tuple)
    sizes = [
        dimension(out + d * (k - 1) - 2 * p) if is_known(out) and s == 1 else 0
        for out, k, s, p, d in zip(output[2:], parameters.kernel, stride, pad, dilate, strict=True)
    ]
    frame.expect("data", (0, 0, *sizes), "the output's size does not follow from that of data")


def _convolution(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    data, weight, *bias = inputs
    result = builder.emit("convolution", data, weight, **_geometry(parameters))
    return builder.add(result, along_axis(builder, bias[0], result, 1)) if bias else result


def _convolution_parameters(no_bias: bool, *more: Parameter) -> tuple[Parameter, ...]:
    return (
        integers("kernel", "Size of the window; its length is the number of spatial axes.", minimum=1),
        integer("num_filter", "Number of output channels.", minimum=1),
        integers("stride", "Step between windows; 1 by default.", (), minimum=1),
        integers("pad", "Zeros on both sides; 0 by default.", (), minimum=0),
        integers("dilate", "Step between a window's elements; 1 by default.", (), minimum=1),
        *more,
        integer("num_group", "Number of independent groups of channels.", 1, minimum=1),
        boolean("no_bias", "Leave the bias out.", no_bias),
        _LAYOUT,
        *_IGNORED,
    )


declare(
    Operator(
        "Convolution",
        "Cross-correlation of data [batch, channels, spatial ...] with weight [filters, channels, kernel ...].",
        _convolution,
        parameters=_convolution_parameters(False),
        arguments=_weight_and_bias,
        shapes=_convolution_shapes,
        aliases=("Convolution_v1",),
    )
)


# Deconvolution


def _deconvolution_sizes(
    parameters: Parameters, sizes: Sequence[Dim]
) -> tuple[tuple[Dim, ...], tuple[int, ...]]:
    """The output's spatial sizes, and the padding that gives them."""
    geometry, count = _geometry(parameters), len(parameters.kernel)
    stride, pad, dilate = geometry["stride"], geometry["pad"], geometry["dilate"]
    assert isinstance(stride, tuple) and isinstance(pad, tuple) and isinstance(dilate, tuple)
    adjust = _per_axis(parameters.adj, count, 0, "adj")
    windows = [d * (k - 1) + 1 for k, d in zip(parameters.kernel, dilate, strict=True)]
    full = [dimension((n - 1) * s + w) for n, s, w in zip(sizes, stride, windows, strict=True)]
    if not any(parameters.target_shape):
        if any(a >= s for a, s in zip(adjust, stride, strict=True)):
            raise BrokenRuleError(f"adj {adjust} is not below stride {stride}")
        return tuple(dimension(f - 2 * p + a) for f, p, a in zip(full, pad, adjust, strict=True)), pad
    target = _per_axis(parameters.target_shape, count, 0, "target_shape")
    if not all(isinstance(size, int) and size >= t for size, t in zip(full, target, strict=True)):
        raise BrokenRuleError(f"target_shape {target} is larger than what the windows cover, {tuple(full)}")
    return target, tuple((int(f) - t + 1) // 2 for f, t in zip(full, target, strict=True))


def _deconvolution_shapes(frame: ShapeFrame) -> None:
    parameters, data = frame.parameters, frame["data"]
    filters, groups, kernel = parameters.num_filter, parameters.num_group, parameters.kernel
    _geometry(parameters)
    _require_spatial(data, kernel)
    channels = data[1] if data is not None else 0
    _require_groups(filters, groups, channels)
    rule = "weight is [channels of data, filters of a group, kernel ...]"
    frame.expect("weight", (channels, filters // groups, *kernel), rule, "drop weight= to let it be inferred")
    frame.expect(
        "bias", (filters,), "bias has one element for each filter", "drop bias= to let it be inferred"
    )


def _deconvolution(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    data, weight, *bias = inputs
    sizes, pad = _deconvolution_sizes(parameters, data.type.shape[2:])
    geometry = {**_geometry(parameters), "pad": pad}
    shape = (data.type.shape[0], parameters.num_filter, *sizes)
    result = builder.emit("convolution_data_gradient", data, weight, shape=shape, **geometry)
    return builder.add(result, along_axis(builder, bias[0], result, 1)) if bias else result


declare(
    Operator(
        "Deconvolution",
        "Transposed convolution: the gradient of a convolution's data, used as a layer.",
        _deconvolution,
        parameters=_convolution_parameters(
            True,
            integers("adj", "Added to the output's size; below stride.", (), minimum=0),
            integers("target_shape", "The output's spatial size, instead of pad and adj.", (), minimum=0),
        ),
        arguments=_weight_and_bias,
        shapes=_deconvolution_shapes,
    )
)


# Pooling


def _pooling_shapes(frame: ShapeFrame) -> None:
    """Batch and channels pass through."""
    parameters, data, output = frame.parameters, frame["data"], frame.outputs[0]
    if not parameters.kernel and not parameters.global_pool:
        raise BrokenRuleError("kernel is missing", help="give kernel=, or global_pool=True")
    if data is not None and not parameters.global_pool:
        _require_spatial(data, parameters.kernel)
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


def _windows(parameters: Parameters, sizes: Sequence[Dim]) -> dict[str, tuple[int, ...]]:
    """Kernel, stride and padding; the convention decides what is added at the end."""
    kernel = parameters.kernel
    stride = _per_axis(parameters.stride, len(kernel), 1, "stride")
    pad = _per_axis(parameters.pad, len(kernel), 0, "pad")
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


def _pool_average(
    builder: Builder, parameters: Parameters, x: Value, geometry: dict[str, tuple[int, ...]]
) -> Value:
    """Window sums over the number of elements; what the full convention adds at the end is never counted."""
    total = builder.emit("window_sum", x, **geometry)
    kernel, low, high = geometry["kernel"], geometry["pad_low"], geometry["pad_high"]
    counted_low = low if parameters.count_include_pad else (0,) * len(low)
    pad = (
        _per_axis(parameters.pad, len(kernel), 0, "pad") if parameters.pooling_convention == "full" else high
    )
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
    return builder.div(total, builder.emit("window_sum", ones, **rest))


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
            _LAYOUT,
        ),
        shapes=_pooling_shapes,
        aliases=("Pooling_v1",),
    )
)
