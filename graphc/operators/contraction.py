"""Products: FullyConnected, dot, batch_dot."""

from __future__ import annotations

from graphc.ir.graph import Value
from graphc.operators.declare import Context, Operator, declare
from graphc.operators.inference import BrokenRuleError, ShapeFrame, is_known, merge_dims, partial_product
from graphc.operators.parameters import Parameters, boolean, integer
from graphc.primitives.builder import Builder
from graphc.types import product

# FullyConnected


def _fully_connected_arguments(parameters: Parameters) -> tuple[str, ...]:
    return ("data", "weight") if parameters.no_bias else ("data", "weight", "bias")


def _fully_connected_shapes(frame: ShapeFrame) -> None:
    hidden, flatten = frame.parameters.num_hidden, frame.parameters.flatten
    data, output = frame["data"], frame.outputs[0]
    if data is not None:
        if (len(data) < 2 and flatten) or not data:
            raise BrokenRuleError(
                "data needs an axis of examples and one of features", help="give data two axes or more"
            )
        width = partial_product(data[1:]) if flatten else data[-1]
        help = "drop weight= to let it be inferred"
        help += f", or give it {width} columns" if is_known(width) else ""
        weight = frame["weight"]
        wide = weight is None or len(weight) != 2 or not is_known(weight[0]) or weight[0] == hidden
        rule = "inner dimensions differ" if wide else "weight has one row for each output"
        frame.expect("weight", (hidden, width), rule, help)
        frame.expect_output((data[0], hidden) if flatten else (*data[:-1], hidden))
    frame.expect(
        "weight", (hidden, 0), "weight has one row for each output", "drop weight= to let it be inferred"
    )
    frame.expect(
        "bias", (hidden,), "bias has one element for each output", "drop bias= to let it be inferred"
    )
    weight = frame["weight"]
    if output is not None:
        if flatten and data is not None:
            frame.expect(
                "data", (output[0], *[0] * (len(data) - 1)), "data and output have the same examples"
            )
        if not flatten:
            width = weight[1] if weight is not None else 0
            frame.expect("data", (*output[:-1], width), "data and output have the same leading axes")


def _fully_connected(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    data, weight, *bias = inputs
    shape = data.type.shape
    rows, lead = (shape[0], shape[:1]) if parameters.flatten else (product(shape[:-1]), shape[:-1])
    flat = builder.reshape(data, (rows, weight.type.shape[1]))
    result = builder.dot(flat, weight, transpose_a=False, transpose_b=True)
    if bias:
        result = builder.add(result, bias[0])
    return builder.reshape(result, (*lead, parameters.num_hidden))


declare(
    Operator(
        "FullyConnected",
        "Linear layer: data · weightᵀ + bias, with data flattened to two axes.",
        _fully_connected,
        parameters=(
            integer("num_hidden", "Number of output features.", minimum=1),
            boolean("no_bias", "Leave the bias out.", False),
            boolean(
                "flatten", "Join all axes but the first; otherwise only the last axis is transformed.", True
            ),
        ),
        arguments=_fully_connected_arguments,
        shapes=_fully_connected_shapes,
    )
)


# dot


def _dot(builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context) -> Value:
    """Contract the last axis of lhs with the first of rhs, transposed ones the other way round."""
    lhs, rhs = inputs
    left, right = lhs.type.shape, rhs.type.shape
    flip_a, flip_b = parameters.transpose_a and len(left) > 1, parameters.transpose_b and len(right) > 1
    rows, inner = (left[1:], left[0]) if flip_a else (left[:-1], left[-1])
    columns, other = (right[:-1], right[-1]) if flip_b else (right[1:], right[0])
    m, n = product(rows), product(columns)
    a = builder.reshape(lhs, (inner, m) if flip_a else (m, inner))
    b = builder.reshape(rhs, (n, other) if flip_b else (other, n))
    result = builder.dot(a, b, transpose_a=flip_a, transpose_b=flip_b)
    return builder.reshape(result, (*rows, *columns) or (1,))


def _dot_shapes(frame: ShapeFrame) -> None:
    left, right = frame["lhs"], frame["rhs"]
    for name, shape in (("lhs", left), ("rhs", right)):
        if shape == ():
            raise BrokenRuleError("a scalar has no axis to contract", {name: "at least one axis"})
    left_inner = 0 if frame.parameters.transpose_a else -1
    right_inner = -1 if frame.parameters.transpose_b else 0
    for name, shape, axis, other, other_axis in (
        ("lhs", left, left_inner, right, right_inner),
        ("rhs", right, right_inner, left, left_inner),
    ):
        if shape is not None and other is not None:
            wanted = list(shape)
            wanted[axis] = other[other_axis] if not is_known(shape[axis]) or name == "rhs" else shape[axis]
            frame.expect(
                name, tuple(wanted), "inner dimensions differ", "transpose one operand, or reshape it"
            )


def _batch_dot(
    builder: Builder, parameters: Parameters, inputs: tuple[Value, ...], context: Context
) -> Value:
    return builder.dot(*inputs, transpose_a=parameters.transpose_a, transpose_b=parameters.transpose_b)


def _batch_dot_shapes(frame: ShapeFrame) -> None:
    left, right = frame["lhs"], frame["rhs"]
    for name, shape in (("lhs", left), ("rhs", right)):
        if shape is not None and len(shape) < 3:
            raise BrokenRuleError("batch_dot needs three axes or more", {name: "[batch, rows, columns]"})
    if left is None or right is None:
        return
    if len(left) != len(right):
        raise BrokenRuleError("operands must have the same number of axes", {"rhs": f"{len(left)} axes"})
    left_inner = -2 if frame.parameters.transpose_a else -1
    right_inner = -1 if frame.parameters.transpose_b else -2
    wanted = [*left[:-2], *right[-2:]]
    if is_known(left[left_inner]):
        wanted[right_inner] = left[left_inner]
    frame.expect(
        "rhs", tuple(wanted), "batch or inner dimensions differ", "transpose one operand, or reshape it"
    )
    known = frame["rhs"] or right
    back = [*known[:-2], *left[-2:]]
    back[left_inner] = merge_dims(left[left_inner], known[right_inner])
    frame.expect("lhs", tuple(back), "batch or inner dimensions differ")


_TRANSPOSES = (
    boolean("transpose_a", "Transpose lhs first.", False),
    boolean("transpose_b", "Transpose rhs first.", False),
)

declare(
    Operator(
        "dot",
        "Product over the last axis of lhs and the first axis of rhs.",
        _dot,
        parameters=_TRANSPOSES,
        arguments=("lhs", "rhs"),
        shapes=_dot_shapes,
    )
)

declare(
    Operator(
        "batch_dot",
        "Matrix products of the last two axes, one for each index of the leading axes.",
        _batch_dot,
        parameters=_TRANSPOSES,
        arguments=("lhs", "rhs"),
        shapes=_batch_dot_shapes,
    )
)
