"""What Triton's interpreter lacks for generated kernels, in the versions that graphc runs on (3.6 to 3.9)."""

from __future__ import annotations

from typing import Any


def prepare() -> None:
    """Mend the interpreter of this process, once."""
    from triton.runtime import interpreter

    if interpreter.ReduceOps.generic_reduce is _reduce_halves:
        return
    interpreter.ReduceOps.generic_reduce = _reduce_halves
    product = interpreter.InterpreterBuilder.create_dot
    splat = interpreter.InterpreterBuilder.create_splat
    cast = interpreter.InterpreterBuilder.cast_impl

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return product(self, _widened(a), _widened(b), *rest)

    def create_splat(self: Any, type: Any, scalar: Any) -> Any:
        return splat(self, type, _as_truth(scalar))

    def cast_impl(self: Any, value: Any, type: Any) -> Any:
        return _narrowed(value, type) or cast(self, value, type)

    interpreter.InterpreterBuilder.create_dot = create_dot
    interpreter.InterpreterBuilder.cast_impl = cast_impl
    interpreter.InterpreterBuilder.create_splat = create_splat
    set_attribute = interpreter._LangPatchScope.set_attr

    def set_attr(self: Any, owner: Any, name: str, value: Any) -> None:
        set_attribute(self, owner, name, _as_number if name == "__index__" else value)

    interpreter._LangPatchScope.set_attr = set_attr


def _reduce_halves(self: Any, operands: tuple[Any, ...]) -> list[Any]:
    """Reduce with the function applied to one half of a block and the other; Triton's own loop takes pairs of numbers.

    The length of a block is a power of 2.
    """
    values = [(operand.handle.data, operand.dtype) for operand in operands]
    while (half := values[0][0].shape[self.axis] // 2) > 0:
        halves = [
            [
                self.to_tensor(part, dtype)
                for data, dtype in values
                for part in [_half(data, self.axis, half, side)]
            ]
            for side in (0, 1)
        ]
        result = self.combine_fn.fn(*halves[0], *halves[1])
        parts = result if isinstance(result, tuple) else (result,)
        values = [(part.handle.data, dtype) for part, (_, dtype) in zip(parts, values, strict=True)]
    return [self.to_tensor(data.take(0, self.axis), dtype) for data, dtype in values]


def _half(data: Any, axis: int, half: int, side: int) -> Any:
    """The first or the second half of an array along an axis."""
    index = [slice(None)] * data.ndim
    index[axis] = slice(side * half, (side + 1) * half)
    return data[tuple(index)]


def _widened(operand: Any) -> Any:
    """A bfloat16 operand of a product as f32: the interpreter holds its bits as integers, and would multiply those."""
    import numpy
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    if operand.dtype != tl.bfloat16:
        return operand
    return TensorHandle((operand.data.astype(numpy.uint32) << 16).view(numpy.float32), tl.float32)


def _narrowed(value: Any, type: Any) -> Any:
    """f32 rounded to the nearest bfloat16, halves to even, as the hardware does; None for any other cast."""
    import numpy
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    if value.dtype.scalar != tl.float32 or type.scalar != tl.bfloat16:
        return None
    bits = numpy.ascontiguousarray(value.data).view(numpy.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    narrow = numpy.where(numpy.isnan(value.data), (bits >> 16) | 0x40, rounded).astype(numpy.uint16)
    return TensorHandle(narrow.reshape(numpy.shape(value.data)), tl.bfloat16)


def _as_truth(scalar: Any) -> Any:
    """The result of a comparison with the type of a truth value: the interpreter leaves it that of the operands."""
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    return TensorHandle(scalar.data, tl.int1) if scalar.data.dtype == bool else scalar


def _as_number(scalar: Any) -> int:
    """A scalar as the bound of a loop: numpy 2.4 turns no array of one dimension into a number, as Triton 3.6 asks."""
    return int(scalar.handle.data.reshape(-1)[0])
