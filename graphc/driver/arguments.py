"""A caller's arguments: tensors over their memory, the sizes of named dimensions that they give, results in kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy
import torch

from graphc.diagnostics import Diagnostic, GraphcError, closest, fail
from graphc.driver.interface import Interface
from graphc.driver.ndarray import NDArray
from graphc.ir.graph import Input, InputKind
from graphc.ir.sizes import bind_sizes


class Arguments:
    """What the calls of a program may bring: its data inputs, and parameters for one call.

    `held` are the parameters and states that the program reads or updates; `defaults` serve calls that leave a data
    input out.
    """

    def __init__(self, interface: Interface, held: Mapping[str, Input], device: torch.device) -> None:
        self._name, self._held, self._used, self._device = interface.name, held, interface.used, device
        self.data = tuple(item for item in interface.inputs if item.kind is InputKind.DATA)
        self.defaults: dict[str, torch.Tensor] = {}
        self._updated = frozenset(interface.updated)
        self._known = frozenset(item.name for item in interface.inputs)
        # On every call: the torch dtype and, where no dimension has a name, the shape of each.
        self._expected = [
            (
                item.name,
                item,
                item.value.type.dtype.torch,
                torch.Size(item.value.type.concrete_shape({})) if item.value.type.is_static else None,
            )
            for item in self.data
        ]

    def by_name(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
        """Arguments by position joined to those by name."""
        if len(arguments) > len(self.data):
            raise fail("G601", f"{self._name} takes {len(self.data)} data inputs, given {len(arguments)}")
        result = dict(named)
        for item, value in zip(self.data, arguments, strict=False):
            if item.name in result:
                raise fail("G601", f"input {item.name!r} is given twice, by position and by name")
            result[item.name] = value
        return result

    def check(self, named: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Every data input as a dense tensor of the declared dtype and static dims; errors name the input."""
        tensors = {}
        device = self._device
        for name, item, dtype, shape in self._expected:
            value = named.get(name)
            if (
                type(value) is torch.Tensor
                and value.dtype is dtype
                and value.shape == shape
                and value.device == device
                and value.is_contiguous()
            ):
                tensors[name] = value
            elif name in named:
                tensors[name] = self.dense(item, value)
            elif name in self.defaults:
                tensors[name] = self.defaults[name]
            elif name in self._used:
                raise self._missing(name, named)
        if len(named) != len(tensors):
            self._check_others(named, tensors)
        return tensors

    def _missing(self, name: str, named: Mapping[str, Any]) -> GraphcError:
        given = [key for key in named if key not in self._known]
        hint = f"{given[0]!r} is no input; " if given else ""
        wanted = ", ".join(item.name for item in self.data)
        return fail("G601", f"{self._name}: input {name!r} is missing", help=f"{hint}inputs are {wanted}")

    def _check_others(self, named: Mapping[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Add the parameters that come with a call; names that are no input are errors."""
        for name, value in named.items():
            if name in tensors or (name in self._known and name not in self._used):
                continue
            held = self._held.get(name)
            if held is None:
                raise fail(
                    "G601",
                    f"{self._name} has no input {name!r}",
                    help=closest(name, sorted(self._known)) or "see .graph.inputs",
                )
            if name in self._updated:
                raise fail("G601", f"{name!r} is updated by the program; set it with set_states", name=name)
            tensors[name] = self.dense(held, value)

    def dense(self, item: Input, value: Any) -> torch.Tensor:
        """The value of an input as a dense tensor of its type, on the program's device."""
        type = item.value.type
        tensor = value if isinstance(value, torch.Tensor) else as_tensor(item.name, value, type.dtype.torch)
        if tensor.dtype is not type.dtype.torch:
            raise GraphcError(
                Diagnostic(
                    "G605",
                    f"input {item.name!r} is {type}, given {tensor.dtype}",
                    name=item.name,
                    help=f"convert it, for example x.to(torch.{str(type.dtype.torch).removeprefix('torch.')})",
                )
            )
        shape = tensor.shape
        if len(shape) != len(type.shape) or any(
            isinstance(dim, int) and dim != extent for dim, extent in zip(type.shape, shape, strict=True)
        ):
            raise fail("G602", f"input {item.name!r} is {type}, given shape {tuple(shape)}", name=item.name)
        if tensor.device != self._device:
            tensor = self._moved(item, tensor)
        return tensor if tensor.is_contiguous() else tensor.contiguous()

    def _moved(self, item: Input, tensor: torch.Tensor) -> torch.Tensor:
        if not is_scalar(item):
            raise fail(
                "G607",
                f"input {item.name!r} lies on {tensor.device}, the program runs on {self._device}",
                name=item.name,
                help=f"move it once, with .to({str(self._device)!r})",
            )
        return tensor.to(self._device)


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
