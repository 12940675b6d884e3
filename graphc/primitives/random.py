"""Counter-based random numbers: Philox 4x32-10, the same bits on every target.

Source: Salmon, Moraes, Dror, Shaw, Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphc.ir.graph import Attributes, Node
from graphc.primitives import rules
from graphc.primitives.declare import AttributeSpec, Kind, Primitive, TypeRuleError, declare
from graphc.types import Dim, DType, TensorType, dimension

if TYPE_CHECKING:
    import numpy
    import numpy.typing
    import torch

    Words = numpy.typing.NDArray[numpy.uint64]

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF


def philox(
    counter: tuple[Words, Words, Words, Words], key: tuple[int, int]
) -> tuple[Words, Words, Words, Words]:
    """Four random 32-bit words for each counter; words are held in uint64."""
    import numpy

    shift, mask = numpy.uint64(32), numpy.uint64(WORD)
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        left, right = a * numpy.uint64(MULTIPLIERS[0]), c * numpy.uint64(MULTIPLIERS[1])
        a, b, c, d = (
            (right >> shift) ^ b ^ numpy.uint64(k0),
            right & mask,
            (left >> shift) ^ d ^ numpy.uint64(k1),
            left & mask,
        )
        k0, k1 = (k0 + KEY_STEPS[0]) & WORD, (k1 + KEY_STEPS[1]) & WORD
    return a, b, c, d


def uniform(seed: int, step: int, stream: int, count: int) -> numpy.typing.NDArray[numpy.float32]:
    """f32 in [0, 1) for elements 0 ... count - 1: the upper 24 bits of word 0."""
    import numpy

    def constant(value: int) -> Words:
        return numpy.full(count, value & WORD, numpy.uint64)

    index = numpy.arange(count, dtype=numpy.uint64)
    counter = (index & numpy.uint64(WORD), index >> numpy.uint64(32), constant(stream), constant(step))
    word = philox(counter, (seed & WORD, (seed >> 32) & WORD))[0]
    return (word >> numpy.uint64(8)).astype(numpy.float32) * numpy.float32(2.0**-24)


def _rule(types: tuple[TensorType, ...], attributes: Attributes) -> tuple[TensorType, ...]:
    rules.operands(types, 1)
    (state,) = types
    expected = TensorType(DType.I64, (2,))
    if state != expected:
        raise TypeRuleError(f"the state must be {expected}, (seed, step), got {state}")
    stream = attributes["stream"]
    if not isinstance(stream, int) or not 0 <= stream <= WORD:
        raise TypeRuleError(f"stream must be an integer of 32 bits, got {stream!r}")
    return (TensorType(DType.F32, rules.shape_attribute(attributes["shape"])),)


def _oracle(operands: tuple[torch.Tensor, ...], node: Node, shapes: Any) -> tuple[torch.Tensor, ...]:
    import torch

    (state,), (shape,) = operands, shapes
    seed, step = (int(word) for word in state)
    count = torch.Size(shape).numel()
    return (torch.from_numpy(uniform(seed, step, node.attributes["stream"], count)).reshape(shape),)


def _flops(node: Node) -> Dim:
    """Six operations a round."""
    return dimension(node.outputs[0].type.size * 6 * ROUNDS)


declare(
    Primitive(
        "random_uniform",
        "f32 in [0, 1), element i from Philox 4x32-10 with key = seed, counter = (i, stream, step): equal state and "
        "stream give equal numbers",
        Kind.RANDOM,
        _rule,
        _oracle,
        no_gradient="it does not depend on a floating-point operand",
        attributes=(
            AttributeSpec("stream", "tells the random nodes of a graph apart, 0 to 2**32 - 1"),
            rules.SHAPE,
        ),
        flops=_flops,
    )
)
