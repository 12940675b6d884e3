"""Operators without inputs: tensors of one value, and counting ones."""

from __future__ import annotations

import math

from graphc.ir.graph import Value
from graphc.operators.declare import Compose, Context, Operator, declare
from graphc.operators.inference import BrokenRuleError, fixed_output_dtype
from graphc.operators.parameters import (
    DTYPE,
    NUMBER,
    Parameter,
    Parameters,
    ignored,
    integer,
    integers,
    number,
    optional,
)
from graphc.primitives.builder import Builder
from graphc.types import DType, TensorType

_SHAPE = integers("shape", "Shape of the result.", minimum=1)
_DTYPE = Parameter("dtype", DTYPE, "Element type of the result.", DType.F32)


def _constant(value: float | None) -> Compose:
    """A tensor of this value, or of the parameter of that name."""

    def compose(
        builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
    ) -> Value:
        chosen = parameters.value if value is None else value
        return builder.full(chosen, TensorType(parameters.dtype, parameters.shape))

    return compose


for _name, _value in (("zeros", 0.0), ("ones", 1.0)):
    declare(
        Operator(
            f"_{_name}",
            f"A tensor of {_name}.",
            _constant(_value),
            parameters=(_SHAPE, _DTYPE, ignored("ctx")),
            arguments=(),
            dtypes=fixed_output_dtype("dtype"),
        )
    )

declare(
    Operator(
        "_full",
        "A tensor of one value.",
        _constant(None),
        parameters=(_SHAPE, number("value", "The value."), _DTYPE, ignored("ctx")),
        arguments=(),
        dtypes=fixed_output_dtype("dtype"),
    )
)


def _arange(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    start, stop, step = parameters.start, parameters.stop, parameters.step
    if stop is None:
        start, stop = 0.0, start
    if step == 0 or (stop - start) / step <= 0:
        raise BrokenRuleError(f"from {start:g} to {stop:g} by {step:g} there is no number")
    count, repeat = math.ceil((stop - start) / step), parameters.repeat
    dtype = parameters.dtype
    wide = dtype if dtype.is_integer and float(start).is_integer() and float(step).is_integer() else DType.F32
    if dtype is DType.F64:
        wide = dtype
    index = builder.iota(0, TensorType(wide, (count,)))
    values = builder.cast(builder.add(builder.mul(index, step), start), dtype)
    if repeat == 1:
        return values
    return builder.reshape(builder.broadcast(values, (count, repeat), (0,)), (count * repeat,))


declare(
    Operator(
        "_arange",
        "Numbers from start up to, and without, stop; from 0 up to start where stop is not given.",
        _arange,
        parameters=(
            number("start", "First number.", 0.0),
            Parameter("stop", optional(NUMBER), "End of the range.", None),
            number("step", "Difference of two neighbours.", 1.0),
            integer("repeat", "Number of times that each number stands.", 1, minimum=1),
            ignored("infer_range"),
            _DTYPE,
            ignored("ctx"),
        ),
        arguments=(),
        dtypes=fixed_output_dtype("dtype"),
    )
)
