"""BatchNorm and the other normalisations. Statistics are taken in two passes, in f32 for 16-bit floats."""

from __future__ import annotations

from collections.abc import Collection

from graphc.ir.graph import Value
from graphc.operators.axes import normalize_axis
from graphc.operators.broadcasting import along_axis, reduce_and_spread, spread
from graphc.operators.declare import Composition, Context, Operator, declare
from graphc.operators.inference import BrokenRuleError, DTypeFrame, ShapeFrame
from graphc.operators.parameters import Parameters, boolean, choice, ignored, integer, number
from graphc.primitives.builder import Builder


def _moments(builder: Builder, x: Value, axes: Collection[int]) -> tuple[Value, Value, Value]:
    """Mean and biased variance over axes, and x - mean."""
    mean = builder.mean(x, axes)
    centered = builder.sub(x, spread(builder, mean, x.type.shape, axes))
    return mean, builder.mean(builder.mul(centered, centered), axes), centered


def _inverse_deviation(builder: Builder, variance: Value, eps: float) -> Value:
    return builder.rsqrt(builder.add(variance, eps))


def _parameter_dtypes(frame: DTypeFrame) -> None:
    """Data and output have one type; the statistics of 16-bit data are f32, and so are the vectors beside it."""
    data = frame["data"]
    outputs = frame.outputs[:1]
    if data is None and outputs[0] is not None:
        frame.expect("data", outputs[0], "data and output have one element type")
        data = outputs[0]
    frame.expect_output(data)
    wide = data.compute if data is not None else None
    others = [name for name in frame.names if name != "data"]
    frame.unify(others, "scale, shift and statistics have one element type", outputs=False)
    for name in others:
        if frame[name] is None:
            frame.expect(name, wide, "")
    for index in range(1, len(frame.outputs)):
        frame.expect_output(wide, index)


def _scale_and_shift(
    builder: Builder, centered: Value, gain: Value | None, gamma: Value | None, beta: Value, axis: int
) -> Value:
    """Centered * gain * gamma + beta with vectors along an axis; gain may be of any shape that broadcasts."""
    result = centered if gain is None else builder.mul(centered, gain)
    if gamma is not None:
        wide = builder.cast(gamma, centered.type.dtype)
        result = builder.mul(result, along_axis(builder, wide, centered, axis))
    return builder.add(result, along_axis(builder, builder.cast(beta, centered.type.dtype), centered, axis))


# BatchNorm


def _batch_norm_shapes(frame: ShapeFrame) -> None:
    data = frame["data"]
    shape = data if data is not None else frame.outputs[0]
    if shape is None:
        return
    frame.expect_output(shape)
    frame.expect("data", frame.outputs[0], "data and output have one shape")
    axis = normalize_axis(frame.parameters.axis, len(shape))
    known = frame["data"]
    assert known is not None
    for name in frame.names[1:]:
        frame.expect(name, (known[axis],), f"{name} has one element for each channel, axis {axis} of data")
    for index in range(1, len(frame.outputs)):
        frame.expect_output((known[axis],), index)


def _batch_norm(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Composition:
    data, gamma, beta, moving_mean, moving_variance = inputs
    dtype = data.type.dtype
    x = builder.cast(data, dtype.compute)
    axis = normalize_axis(parameters.axis, data.type.rank)
    axes = tuple(other for other in range(data.type.rank) if other != axis)
    scale = None if parameters.fix_gamma else gamma
    updates: dict[str, Value] = {}
    if context.is_train and not parameters.use_global_stats:
        mean, variance, centered = _moments(builder, x, axes)
        updates = {
            "moving_mean": _moved(builder, moving_mean, mean, parameters.momentum),
            "moving_var": _moved(builder, moving_variance, variance, parameters.momentum),
        }
    else:
        mean = builder.cast(builder.stop_gradient(moving_mean), x.type.dtype)
        variance = builder.cast(builder.stop_gradient(moving_variance), x.type.dtype)
        centered = builder.sub(x, along_axis(builder, mean, x, axis))
    gain = _inverse_deviation(builder, variance, parameters.eps)
    wide = along_axis(builder, gain, x, axis)
    result = builder.cast(_scale_and_shift(builder, centered, wide, scale, beta, axis), dtype)
    return Composition((result, mean, gain) if parameters.output_mean_var else (result,), updates)


def _moved(builder: Builder, old: Value, new: Value, momentum: float) -> Value:
    """Return old * momentum + new * (1 - momentum)."""
    fresh = builder.mul(builder.cast(builder.stop_gradient(new), old.type.dtype), 1.0 - momentum)
    return builder.add(builder.mul(old, momentum), fresh)


declare(
    Operator(
        "BatchNorm",
        "Normalises each channel over the batch, then scales by gamma and shifts by beta.\n\n"
        "Training uses the batch's own mean and biased variance and moves the moving ones towards them; otherwise the "
        "moving ones are used. fix_gamma, on by default as in MXNet, holds gamma at 1.",
        _batch_norm,
        parameters=(
            number("eps", "Added to the variance.", 1e-3, minimum=0.0),
            number(
                "momentum", "Share of the old moving statistics that is kept.", 0.9, minimum=0.0, maximum=1.0
            ),
            boolean("fix_gamma", "Take gamma as 1, with no gradient.", True),
            boolean("use_global_stats", "Use the moving statistics in training too.", False),
            boolean(
                "output_mean_var", "Give the mean and the inverse standard deviation as outputs too.", False
            ),
            integer("axis", "The axis of channels.", 1),
            ignored("cudnn_off"),
        ),
        arguments=("data", "gamma", "beta"),
        auxiliaries=("moving_mean", "moving_var"),
        outputs=lambda parameters: ("output", "mean", "var") if parameters.output_mean_var else ("output",),
        shapes=_batch_norm_shapes,
        dtypes=_parameter_dtypes,
        aliases=("BatchNorm_v1", "CuDNNBatchNorm"),
    )
)


# LayerNorm, InstanceNorm and GroupNorm


def _vector_shapes(frame: ShapeFrame, axis: int) -> None:
    data = (
        frame.unify(("data",), "data and output have one shape") if len(frame.outputs) == 1 else frame["data"]
    )
    if data is None:
        return
    frame.expect_output(data)
    size = data[normalize_axis(axis, len(data))]
    for name in ("gamma", "beta"):
        frame.expect(name, (size,), f"{name} has one element for each index of axis {axis} of data")


def _layer_norm(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Composition:
    data, gamma, beta = inputs
    dtype = data.type.dtype
    x = builder.cast(data, dtype.compute)
    axis = normalize_axis(parameters.axis, x.type.rank)
    mean, variance, centered = _moments(builder, x, (axis,))
    gain = spread(builder, _inverse_deviation(builder, variance, parameters.eps), x.type.shape, (axis,))
    result = builder.cast(_scale_and_shift(builder, centered, gain, gamma, beta, axis), dtype)
    if not parameters.output_mean_var:
        return Composition((result,))
    kept = tuple(1 if other == axis else dim for other, dim in enumerate(x.type.shape))
    deviation = builder.sqrt(builder.add(variance, parameters.eps))
    return Composition((result, builder.reshape(mean, kept), builder.reshape(deviation, kept)))


declare(
    Operator(
        "LayerNorm",
        "Normalises over one axis, then scales by gamma and shifts by beta (Ba et al. 2016, arXiv:1607.06450).",
        _layer_norm,
        parameters=(
            integer("axis", "The axis to normalise over.", -1),
            number("eps", "Added to the variance.", 1e-5, minimum=0.0),
            boolean("output_mean_var", "Give the mean and the standard deviation as outputs too.", False),
        ),
        arguments=("data", "gamma", "beta"),
        outputs=lambda parameters: ("output", "mean", "std") if parameters.output_mean_var else ("output",),
        shapes=lambda frame: _vector_shapes(frame, frame.parameters.axis),
        dtypes=_parameter_dtypes,
    )
)


def _instance_norm(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    data, gamma, beta = inputs
    dtype = data.type.dtype
    x = builder.cast(data, dtype.compute)
    axes = tuple(range(2, x.type.rank))
    if not axes:
        raise BrokenRuleError("data needs batch, channels and at least one spatial axis")
    _, variance, centered = _moments(builder, x, axes)
    gain = spread(builder, _inverse_deviation(builder, variance, parameters.eps), x.type.shape, axes)
    return builder.cast(_scale_and_shift(builder, centered, gain, gamma, beta, 1), dtype)


declare(
    Operator(
        "InstanceNorm",
        "Normalises each channel of each example over its spatial axes (Ulyanov et al. 2016, arXiv:1607.08022).",
        _instance_norm,
        parameters=(number("eps", "Added to the variance.", 1e-3, minimum=0.0),),
        arguments=("data", "gamma", "beta"),
        shapes=lambda frame: _vector_shapes(frame, 1),
        dtypes=_parameter_dtypes,
    )
)


def _group_norm(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    data, gamma, beta = inputs
    x = builder.cast(data, data.type.dtype.compute)
    if x.type.rank < 3:
        raise BrokenRuleError("data needs batch, channels and at least one spatial axis")
    batch, channels, *rest = x.type.shape
    groups = parameters.num_groups
    if not isinstance(channels, int) or channels % groups:
        raise BrokenRuleError(f"{channels} channels do not make {groups} groups of one size")
    split = builder.reshape(x, (batch, groups, channels // groups, *rest))
    axes = tuple(range(2, split.type.rank))
    _, variance, centered = _moments(builder, split, axes)
    gain = spread(builder, _inverse_deviation(builder, variance, parameters.eps), split.type.shape, axes)
    normal = builder.reshape(builder.mul(centered, gain), x.type.shape)
    return builder.cast(_scale_and_shift(builder, normal, None, gamma, beta, 1), data.type.dtype)


declare(
    Operator(
        "GroupNorm",
        "Normalises groups of channels of each example, then scales and shifts each channel (Wu and He 2018, "
        "arXiv:1803.08494).",
        _group_norm,
        parameters=(
            integer("num_groups", "Number of groups that the channels make.", 1, minimum=1),
            number("eps", "Added to the variance.", 1e-5, minimum=0.0),
        ),
        arguments=("data", "gamma", "beta"),
        shapes=lambda frame: _vector_shapes(frame, 1),
        dtypes=_parameter_dtypes,
    )
)


# L2Normalization and LRN


def _same(frame: ShapeFrame) -> None:
    frame.unify(("data",), "data and output have one shape")


def _l2_normalization(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    x = inputs[0]
    rank = x.type.rank
    axes = {"instance": range(1, rank), "channel": range(1, 2), "spatial": range(2, rank)}[parameters.mode]
    if not axes or rank < 2:
        raise BrokenRuleError(f"mode={parameters.mode} needs more axes than the {rank} of data")
    total = reduce_and_spread(builder, "reduce_sum", builder.mul(x, x), tuple(axes))
    return builder.mul(x, _inverse_deviation(builder, total, parameters.eps))


declare(
    Operator(
        "L2Normalization",
        "Divides by the Euclidean norm over all axes of an example, over channels, or over spatial axes.",
        _l2_normalization,
        parameters=(
            number("eps", "Added to the squared norm.", 1e-10, minimum=0.0),
            choice("mode", "What is normalised over.", ("channel", "instance", "spatial"), "instance"),
        ),
        shapes=_same,
    )
)


def _local_response(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    """Return x / (knorm + alpha / nsize * sum of squares over neighbouring channels) ** beta."""
    x = inputs[0]
    ones, zeros = (1,) * (x.type.rank - 2), (0,) * (x.type.rank - 2)
    half = parameters.nsize // 2
    total = builder.emit(
        "window_sum",
        builder.mul(x, x),
        kernel=(parameters.nsize, *ones),
        stride=(1, *ones),
        pad_low=(half, *zeros),
        pad_high=(half, *zeros),
    )
    base = builder.add(builder.mul(total, parameters.alpha / parameters.nsize), parameters.knorm)
    return builder.mul(x, builder.pow(base, -parameters.beta))


def _local_response_shapes(frame: ShapeFrame) -> None:
    data = frame.unify(("data",), "data and output have one shape")
    if data is not None and len(data) < 3:
        raise BrokenRuleError("data needs batch, channels and at least one spatial axis")
    if frame.parameters.nsize % 2 == 0:
        raise BrokenRuleError(f"nsize {frame.parameters.nsize} is even, so no channel is in the middle")


declare(
    Operator(
        "LRN",
        "Local response normalisation across neighbouring channels (Krizhevsky et al. 2012).",
        _local_response,
        parameters=(
            integer("nsize", "Number of channels in the neighbourhood, odd.", minimum=1),
            number("alpha", "Factor of the sum of squares.", 1e-4),
            number("beta", "The exponent.", 0.75),
            number("knorm", "Added to the sum.", 2.0),
        ),
        shapes=_local_response_shapes,
    )
)
