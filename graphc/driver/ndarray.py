"""NDArray: a mutable dense array over torch memory, with the names that MXNet users know.

Arithmetic runs eagerly through torch; an array's memory is what executors read and write in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex

import numpy
import torch

from graphc.diagnostics import fail
from graphc.runtime.context import Context, current_context
from graphc.types import DType, numpy_dtype

__all__ = ["NDArray", "arange", "array", "concatenate", "empty", "full", "ones", "waitall", "zeros"]


class NDArray:
    """A dense, contiguous, mutable array; `x[:] = value` writes in place, `+=` too."""

    __array_priority__ = 1000.0

    def __init__(self, data: torch.Tensor, base: NDArray | None = None) -> None:
        self._data = data if data.is_contiguous() else data.contiguous()
        self._base = base
        self._before_write: list[Callable[[], None]] = []

    def _settle(self) -> None:
        """Finish deferred work that still has to read this memory, before it changes."""
        root = self
        while root._base is not None:
            root = root._base
        waiting, root._before_write = root._before_write, []
        for finish in waiting:
            finish()

    def before_write(self, finish: Callable[[], None]) -> None:
        """Have `finish` called once before the next write through this array or a view of it."""
        self._before_write.append(finish)

    @property
    def tensor(self) -> torch.Tensor:
        """The torch tensor over the same memory."""
        return self._data

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._data.shape)

    @property
    def dtype(self) -> Any:
        """The numpy scalar type; for bfloat16, which numpy lacks, the DType."""
        kind = DType.of(self._data.dtype)
        return kind if kind is DType.BF16 else numpy_dtype(kind).type

    @property
    def size(self) -> int:
        return self._data.numel()

    @property
    def ndim(self) -> int:
        return self._data.dim()

    @property
    def context(self) -> Context:
        return Context.of(self._data.device)

    ctx = context

    @property
    def T(self) -> NDArray:  # noqa: N802 - the name users know
        return NDArray(self._data.permute(*reversed(range(self._data.dim()))))

    def asnumpy(self) -> numpy.ndarray[Any, Any]:
        """A copy as a numpy array (float32 for bfloat16)."""
        data = self._data.float() if self._data.dtype is torch.bfloat16 else self._data
        return numpy.array(data.detach().cpu().numpy())

    def asscalar(self) -> Any:
        if self.size != 1:
            raise fail("G604", f"asscalar needs one element, this array has shape {self.shape}")
        return self._data.item()

    def copy(self) -> NDArray:
        return NDArray(self._data.clone())

    def copyto(self, other: NDArray | Context) -> NDArray:
        """Write into another array of the same shape, or make a copy on a context."""
        if isinstance(other, Context):
            return NDArray(self._data.to(other.torch_device, copy=True))
        other[:] = self
        return other

    def as_in_context(self, context: Context) -> NDArray:
        return self if context == self.context else self.copyto(context)

    def astype(self, dtype: Any) -> NDArray:
        return NDArray(self._data.to(DType.of(dtype).torch, copy=True))

    def reshape(self, *shape: Any) -> NDArray:
        """A view of the same memory under another shape; one extent may be -1."""
        target = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        try:
            return NDArray(self._data.view(*target), self)
        except RuntimeError:
            raise fail(
                "G604", f"cannot reshape {self.size} elements of shape {self.shape} to {tuple(target)}"
            ) from None

    def wait_to_read(self) -> None:
        if self._data.is_cuda:
            torch.cuda.synchronize(self._data.device)

    def __getitem__(self, key: Any) -> NDArray:
        try:
            return NDArray(self._data[_index(key)], self)
        except IndexError as error:
            raise IndexError(f"{error} (array of shape {self.shape})") from None

    def __setitem__(self, key: Any, value: Any) -> None:
        self._settle()
        target = self._data[_index(key)]
        source = _tensor(value, self._data)
        # One element fits anywhere, whatever its rank.
        fits = source.numel() == 1 or _broadcasts(tuple(source.shape), tuple(target.shape))
        if not fits:
            raise fail("G604", f"cannot write shape {tuple(source.shape)} into shape {tuple(target.shape)}")
        target.copy_(source.reshape(()) if source.numel() == 1 else source)

    def __len__(self) -> int:
        return len(self._data)

    def __bool__(self) -> bool:
        return bool(self.asscalar())

    def __float__(self) -> float:
        return float(self.asscalar())

    def __int__(self) -> int:
        return int(self.asscalar())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> numpy.ndarray[Any, Any]:
        result = self.asnumpy()
        return result if dtype is None else result.astype(dtype)

    def __repr__(self) -> str:
        extent = "x".join(map(str, self.shape)) or "scalar"
        return f"\n{self.asnumpy()}\n<NDArray {extent} @{self.context}>"

    def __hash__(self) -> int:
        return id(self)

    # Arithmetic: every operator is torch's on the same memory, with the array's dtype for Python scalars.

    def __add__(self, other: Any) -> NDArray:
        return NDArray(self._data + _operand(other, self._data))

    def __sub__(self, other: Any) -> NDArray:
        return NDArray(self._data - _operand(other, self._data))

    def __mul__(self, other: Any) -> NDArray:
        return NDArray(self._data * _operand(other, self._data))

    def __truediv__(self, other: Any) -> NDArray:
        return NDArray(self._data / _operand(other, self._data))

    def __mod__(self, other: Any) -> NDArray:
        return NDArray(self._data % _operand(other, self._data))

    def __pow__(self, other: Any) -> NDArray:
        return NDArray(self._data ** _operand(other, self._data))

    def __rsub__(self, other: Any) -> NDArray:
        return NDArray(_operand(other, self._data) - self._data)

    def __rtruediv__(self, other: Any) -> NDArray:
        return NDArray(_operand(other, self._data) / self._data)

    def __rpow__(self, other: Any) -> NDArray:
        return NDArray(_operand(other, self._data) ** self._data)

    __radd__ = __add__
    __rmul__ = __mul__

    def __iadd__(self, other: Any) -> NDArray:
        self._settle()
        self._data += _operand(other, self._data)
        return self

    def __isub__(self, other: Any) -> NDArray:
        self._settle()
        self._data -= _operand(other, self._data)
        return self

    def __imul__(self, other: Any) -> NDArray:
        self._settle()
        self._data *= _operand(other, self._data)
        return self

    def __itruediv__(self, other: Any) -> NDArray:
        self._settle()
        self._data /= _operand(other, self._data)
        return self

    def __neg__(self) -> NDArray:
        return NDArray(-self._data)

    def __abs__(self) -> NDArray:
        return NDArray(self._data.abs())

    # Comparisons give 0 and 1 in the array's dtype, as MXNet's do.

    def __eq__(self, other: object) -> NDArray:  # type: ignore[override]
        return NDArray((self._data == _operand(other, self._data)).to(self._data.dtype))

    def __ne__(self, other: object) -> NDArray:  # type: ignore[override]
        return NDArray((self._data != _operand(other, self._data)).to(self._data.dtype))

    def __lt__(self, other: Any) -> NDArray:
        return NDArray((self._data < _operand(other, self._data)).to(self._data.dtype))

    def __le__(self, other: Any) -> NDArray:
        return NDArray((self._data <= _operand(other, self._data)).to(self._data.dtype))

    def __gt__(self, other: Any) -> NDArray:
        return NDArray((self._data > _operand(other, self._data)).to(self._data.dtype))

    def __ge__(self, other: Any) -> NDArray:
        return NDArray((self._data >= _operand(other, self._data)).to(self._data.dtype))

    def sum(self, axis: Any = None) -> NDArray:
        return NDArray(self._data.sum() if axis is None else self._data.sum(axis))

    def mean(self, axis: Any = None) -> NDArray:
        return NDArray(self._data.mean() if axis is None else self._data.mean(axis))

    def max(self, axis: Any = None) -> NDArray:
        return NDArray(self._data.max() if axis is None else self._data.amax(axis))

    def min(self, axis: Any = None) -> NDArray:
        return NDArray(self._data.min() if axis is None else self._data.amin(axis))

    def argmax(self, axis: int | None = None) -> NDArray:
        """Position of the first largest element, in the array's dtype as in MXNet."""
        return NDArray(self._data.argmax(axis).to(self._data.dtype))

    def norm(self) -> NDArray:
        return NDArray(torch.linalg.vector_norm(self._data))


def _broadcasts(source: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """True when numpy's rules stretch `source` to `target`; leading ones of the source may go."""
    while len(source) > len(target) and source[0] == 1:
        source = source[1:]
    return len(source) <= len(target) and all(
        a in (1, b) for a, b in zip(reversed(source), reversed(target), strict=False)
    )


def _index(key: Any) -> Any:
    if isinstance(key, NDArray):
        return key.tensor.long()
    if isinstance(key, tuple):
        return tuple(_index(part) for part in key)
    return key


def _tensor(value: Any, like: torch.Tensor) -> torch.Tensor:
    if isinstance(value, NDArray):
        return value.tensor
    if isinstance(value, torch.Tensor):
        return value
    return torch.as_tensor(numpy.asarray(value), device=like.device)


def _operand(value: Any, like: torch.Tensor) -> Any:
    if isinstance(value, NDArray):
        return value.tensor
    return torch.as_tensor(value, device=like.device) if isinstance(value, numpy.ndarray) else value


def array(source: Any, ctx: Context | None = None, dtype: Any = None) -> NDArray:
    """A copy of a list, numpy array, torch tensor or NDArray; float32 unless its dtype or `dtype` differs."""
    context = ctx or current_context()
    if isinstance(source, NDArray):
        source = source.tensor
    if not isinstance(source, torch.Tensor):
        given = isinstance(source, numpy.ndarray)
        source = torch.tensor(numpy.asarray(source))
        # As in MXNet: numbers, and numpy's default double, become float32 unless asked for.
        if dtype is None and (not given or source.dtype is torch.float64):
            dtype = "f32"
    kind = source.dtype if dtype is None else DType.of(dtype).torch
    return NDArray(source.detach().to(context.torch_device, kind, copy=True))


def _shape(shape: int | Sequence[SupportsIndex]) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(int(dim) for dim in shape)


def full(shape: int | Sequence[int], val: Any, ctx: Context | None = None, dtype: Any = "f32") -> NDArray:
    """An array of one value."""
    device = (ctx or current_context()).torch_device
    return NDArray(torch.full(_shape(shape), val, dtype=DType.of(dtype).torch, device=device))


def zeros(shape: int | Sequence[int], ctx: Context | None = None, dtype: Any = "f32") -> NDArray:
    """An array of zeros."""
    return full(shape, 0, ctx, dtype)


def ones(shape: int | Sequence[int], ctx: Context | None = None, dtype: Any = "f32") -> NDArray:
    """An array of ones."""
    return full(shape, 1, ctx, dtype)


def empty(shape: int | Sequence[int], ctx: Context | None = None, dtype: Any = "f32") -> NDArray:
    """An array of undefined contents."""
    device = (ctx or current_context()).torch_device
    return NDArray(torch.empty(_shape(shape), dtype=DType.of(dtype).torch, device=device))


def arange(
    start: float, stop: float | None = None, step: float = 1.0, ctx: Context | None = None, dtype: Any = "f32"
) -> NDArray:
    """Numbers from `start` (0 when only one is given) up to but not including `stop`."""
    low, high = (0.0, start) if stop is None else (start, stop)
    device = (ctx or current_context()).torch_device
    return NDArray(torch.arange(low, high, step, dtype=DType.of(dtype).torch, device=device))


def concatenate(arrays: Sequence[NDArray], axis: int = 0) -> NDArray:
    """Join arrays along an existing axis."""
    return NDArray(torch.cat([item.tensor for item in arrays], dim=axis))


def waitall() -> None:
    """Wait for all work on all devices."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
