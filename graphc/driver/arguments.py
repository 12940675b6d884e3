"""A caller's arguments: tensors over their memory, the sizes of named dimensions that they give, results in kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy
import torch

from graphc.diagnostics import fail
from graphc.driver.ndarray import NDArray
from graphc.ir.graph import Input
from graphc.ir.sizes import bind_sizes


def size_solver(
    data: Sequence[Input], symbols: Sequence[str]
) -> Callable[[Mapping[str, torch.Tensor]], dict[str, int]]:
    """What gives the size of each named dimension, in the program's order, from the tensors of a call."""
    if not symbols:
        return lambda tensors: {}
    # On every call, so the common case is a table of places: (input, axis, name).
    places = [
        (item.name, axis, dim.name)
        for item in data
        for axis, dim in enumerate(item.value.type.shape)
        if not isinstance(dim, int) and dim.is_Symbol
    ]
    plain = sum(not isinstance(dim, int) for item in data for dim in item.value.type.shape) == len(places)
    values = [item.value for item in data]

    def solve(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
        found: dict[str, int] = {}
        agree = plain
        for name, axis, symbol in places:
            if name in tensors:
                extent = tensors[name].shape[axis]
                agree = agree and extent > 0 and found.setdefault(symbol, extent) == extent
        if not agree:
            given = [value for value in values if value.name in tensors]
            found = bind_sizes(given, {value.name: tuple(tensors[value.name].shape) for value in given})
        missing = [name for name in symbols if name not in found]
        if missing:
            raise fail("G602", f"the size of {missing[0]} follows from no input that was given")
        return {name: found[name] for name in symbols}

    return solve


def is_scalar(item: Input) -> bool:
    """True for inputs of one element, such as a learning rate, which may come from the host."""
    return item.value.type.rank == 0


def as_tensor(name: str, value: Any, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A tensor over the value's memory where it has any; Python numbers take `dtype`."""
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, NDArray):
        return value.tensor
    if isinstance(value, numpy.ndarray):
        # torch warns about memory that may not be written, and refuses negative strides.
        plain = (
            value.flags.writeable and all(stride >= 0 for stride in value.strides) and value.dtype.isnative
        )
        try:
            return torch.from_numpy(
                value if plain else numpy.array(value, value.dtype.newbyteorder("="), order="C")
            )
        except TypeError as error:
            raise fail("G605", f"input {name!r}: {error}", name=name) from None
    if isinstance(value, (bool, int, float)):
        return torch.tensor(value, dtype=dtype)
    if isinstance(value, (list, tuple, numpy.generic)):
        try:
            return torch.as_tensor(value, dtype=dtype)
        except (TypeError, ValueError) as error:
            raise fail("G605", f"input {name!r}: {error}", name=name) from None
    raise fail(
        "G605", f"input {name!r} is a {type(value).__name__}; give a torch tensor or a numpy array", name=name
    )


def wrapper(named: Mapping[str, Any]) -> Callable[[torch.Tensor], Any]:
    """How outputs are given back: as the caller's inputs came (torch before NDArray before numpy)."""
    kind = 0
    for value in named.values():
        if isinstance(value, torch.Tensor):
            return _same
        kind = max(kind, 2 if isinstance(value, NDArray) else 1 if isinstance(value, numpy.ndarray) else 0)
    return NDArray if kind == 2 else _numpy if kind == 1 else _same


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _numpy(tensor: torch.Tensor) -> Any:
    return tensor.cpu().numpy() if tensor.dtype is not torch.bfloat16 else tensor
