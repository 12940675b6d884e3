"""Convolution and Deconvolution over one to three spatial axes, [batch, channels, spatial ...]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from graphc.ir.graph import Value
from graphc.operators.broadcasting import along_axis
from graphc.operators.declare import Context, Operator, declare
from graphc.operators.inference import BrokenRuleError, ShapeFrame, is_known
from graphc.operators.parameters import Parameter, Parameters, boolean, choice, ignored, integer, integers
from graphc.primitives.builder import Builder
from graphc.types import Dim, dimension, floor_divide

LAYOUT = choice("layout", "The order of the axes.", ("NCW", "NCHW", "NCDHW"), None)
_IGNORED = (ignored("workspace"), ignored("cudnn_tune"), ignored("cudnn_off"))


def per_axis(values: Sequence[int], count: int, default: int, name: str) -> tuple[int, ...]:
    """One number for each spatial axis, the default where none is given."""
    if not values:
        return (default,) * count
    if len(values) != count:
        raise BrokenRuleError(
            f"{name} {tuple(values)} has not one number for each of the {count} axes of kernel"
        )
    return tuple(values)


def require_spatial(data: tuple[Dim, ...] | None, kernel: Sequence[int]) -> None:
    """BrokenRuleError when data has not one spatial axis for each number of kernel."""
    if data is not None and len(data) != len(kernel) + 2:
        raise BrokenRuleError(
            f"kernel {tuple(kernel)} needs data of {len(kernel) + 2} axes", {"data": (0,) * (len(kernel) + 2)}
        )


# Convolution


def _weight_and_bias(parameters: Parameters) -> tuple[str, ...]:
    return ("data", "weight") if parameters.no_bias else ("data", "weight", "bias")


class Geometry(NamedTuple):
    """How windows lie over data: one number for each spatial axis, and the number of groups of channels."""

    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilate: tuple[int, ...]
    groups: int

    @classmethod
    def of(cls, parameters: Parameters) -> Geometry:
        """The geometry that the parameters ask for; BrokenRuleError when they do not fit together."""
        count = len(parameters.kernel)
        if not 1 <= count <= 3:
            raise BrokenRuleError(
                f"kernel {parameters.kernel} has {count} axes", help="give it one, two or three"
            )
        return cls(
            per_axis(parameters.stride, count, 1, "stride"),
            per_axis(parameters.pad, count, 0, "pad"),
            per_axis(parameters.dilate, count, 1, "dilate"),
            parameters.num_group,
        )

    @property
    def attributes(self) -> dict[str, Any]:
        return self._asdict()


def _require_groups(filters: int, groups: int, channels: Dim) -> None:
    if filters % groups:
        raise BrokenRuleError(f"{filters} filters do not divide into {groups} groups")
    if isinstance(channels, int) and channels % groups:
        raise BrokenRuleError(f"{channels} channels of data do not divide into {groups} groups")


def _convolution_shapes(frame: ShapeFrame) -> None:
    parameters = frame.parameters
    filters, groups, kernel = parameters.num_filter, parameters.num_group, parameters.kernel
    Geometry.of(parameters)
    data, output = frame["data"], frame.outputs[0]
    require_spatial(data, kernel)
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
    parameters, geometry = frame.parameters, Geometry.of(frame.parameters)
    sizes = [
        dimension(out + d * (k - 1) - 2 * p) if is_known(out) and s == 1 else 0
        for out, k, s, p, d in zip(output[2:], parameters.kernel, *geometry[:3], strict=True)
    ]
    frame.expect("data", (0, 0, *sizes), "the output's size does not follow from that of data")


def _convolution(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    data, weight, *bias = inputs
    result = builder.emit("convolution", data, weight, **Geometry.of(parameters).attributes)
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
        LAYOUT,
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
    (stride, pad, dilate, _), count = Geometry.of(parameters), len(parameters.kernel)
    adjust = per_axis(parameters.adj, count, 0, "adj")
    windows = [d * (k - 1) + 1 for k, d in zip(parameters.kernel, dilate, strict=True)]
    full = [dimension((n - 1) * s + w) for n, s, w in zip(sizes, stride, windows, strict=True)]
    if not any(parameters.target_shape):
        if any(a >= s for a, s in zip(adjust, stride, strict=True)):
            raise BrokenRuleError(f"adj {adjust} is not below stride {stride}")
        return tuple(dimension(f - 2 * p + a) for f, p, a in zip(full, pad, adjust, strict=True)), pad
    target = per_axis(parameters.target_shape, count, 0, "target_shape")
    if not all(isinstance(size, int) and size >= t for size, t in zip(full, target, strict=True)):
        raise BrokenRuleError(f"target_shape {target} is larger than what the windows cover, {tuple(full)}")
    return target, tuple((int(f) - t + 1) // 2 for f, t in zip(full, target, strict=True))


def _deconvolution_shapes(frame: ShapeFrame) -> None:
    parameters, data = frame.parameters, frame["data"]
    filters, groups, kernel = parameters.num_filter, parameters.num_group, parameters.kernel
    Geometry.of(parameters)
    require_spatial(data, kernel)
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
    geometry = Geometry.of(parameters)._replace(pad=pad).attributes
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
