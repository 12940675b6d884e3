"""Kernels written by hand: a small builder for nests, and one-kernel programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.diagnostics import Location
from graphc.ir.graph import Graph, Input, Origin, Value
from graphc.ir.kernel import (
    Access,
    Affine,
    Anchor,
    AnchorOperation,
    Axis,
    Compute,
    Constant,
    Guard,
    IndexValue,
    Kernel,
    Load,
    Nest,
    Parameter,
    Random,
    Reduce,
    Reduction,
    Statement,
    Store,
)
from graphc.ir.program import Buffer, Program, Role, Step
from graphc.types import DType, TensorType


def origin(name: str, operator: str, line: int) -> tuple[Origin, ...]:
    return (Origin(name, operator, Location("model.py", line)),)


class NestBuilder:
    """Appends statements; every method that makes a scalar returns its name. f16 and bf16 widen and narrow here."""

    def __init__(self, parameters: dict[str, TensorType], **axes: Any) -> None:
        """Axes by name: an extent, or ("reduce", extent)."""
        self.parameters = parameters
        self.axes = tuple(
            Axis(name, extent[1], True) if isinstance(extent, tuple) else Axis(name, extent)
            for name, extent in axes.items()
        )
        self.body: list[Statement] = []
        self.dtypes: dict[str, DType] = {}
        self.origins: tuple[Origin, ...] = ()

    def at(self, name: str, operator: str, line: int) -> NestBuilder:
        """The origin of the statements that follow."""
        self.origins = origin(name, operator, line)
        return self

    def _name(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self.dtypes:
            name, number = f"{wanted}.{number}", number + 1
        return name

    def _define(self, name: str, dtype: DType) -> str:
        self.dtypes[name] = dtype
        return name

    @staticmethod
    def index(items: Sequence[Any]) -> tuple[Affine, ...]:
        result = []
        for item in items:
            if isinstance(item, Affine):
                result.append(item)
            else:
                result.append(Affine.axis(item) if isinstance(item, str) else Affine(item))
        return tuple(result)

    def load(self, buffer: str, *index: Any, guards: tuple[Guard, ...] = (), other: Any = 0) -> str:
        dtype = self.parameters[buffer].dtype
        name = self._define(self._name(buffer), dtype)
        self.body.append(Load(name, dtype, buffer, self.index(index), guards, other, self.origins))
        return self.cast(name, dtype.compute) if dtype.compute is not dtype else name

    def constant(self, value: Any, dtype: DType = DType.F32) -> str:
        name = self._define(self._name("constant"), dtype)
        self.body.append(Constant(name, dtype, value))
        return name

    def position(self, expression: Any, dtype: DType = DType.I64) -> str:
        name = self._define(self._name("position"), dtype)
        (affine,) = self.index([expression])
        self.body.append(IndexValue(name, dtype, affine, self.origins))
        return name

    def cast(self, value: str, dtype: DType) -> str:
        return self.compute("cast", value, dtype=dtype)

    def compute(self, operation: str, *arguments: Any, dtype: DType | None = None, name: str = "") -> str:
        """Apply a scalar operation; numbers become constants of the operands' dtype."""
        known = [a for a in arguments if isinstance(a, str)]
        operand = self.dtypes[known[-1]]
        names = tuple(a if isinstance(a, str) else self.constant(a, operand) for a in arguments)
        comparisons = ("eq", "ne", "lt", "le", "gt", "ge", "is_nan")
        result = dtype or (DType.BOOL if operation in comparisons else self.dtypes[names[-1]])
        defined = self._define(self._name(name or operation), result)
        self.body.append(Compute(defined, result, operation, names, self.origins))
        return defined

    def random(self, state: str, stream: int, expression: Any) -> str:
        (affine,) = self.index([expression])
        name = self._define(self._name("random"), DType.F32)
        self.body.append(Random(name, DType.F32, state, stream, affine, self.origins))
        return name

    def reduce(self, operation: str, argument: str, name: str = "") -> str:
        dtype = DType.I64 if operation.startswith("arg") else self.dtypes[argument]
        defined = self._define(self._name(name or operation), dtype)
        self.body.append(Reduce(defined, dtype, Reduction(operation), argument, self.origins))
        return defined

    def anchor(self, dtype: DType = DType.F32) -> str:
        name = self._define(self._name("product"), dtype)
        self.body.append(Anchor(name, dtype, self.origins))
        return name

    def store(self, buffer: str, index: Sequence[Any], value: str, guards: tuple[Guard, ...] = ()) -> None:
        dtype = self.parameters[buffer].dtype
        if self.dtypes[value] is not dtype:
            value = self.cast(value, dtype)
        self.body.append(Store(buffer, self.index(index), value, guards, self.origins))

    def nest(self) -> Nest:
        return Nest(self.axes, tuple(self.body))


def make_kernel(
    name: str,
    parameters: dict[str, TensorType],
    nests: Sequence[NestBuilder | Nest],
    *,
    outputs: Sequence[str] = (),
    inouts: Sequence[str] = (),
    anchor: AnchorOperation | None = None,
) -> Kernel:
    def access(parameter: str) -> Access:
        return Access.INOUT if parameter in inouts else Access.OUT if parameter in outputs else Access.IN

    return Kernel(
        name,
        tuple(Parameter(key, type, access(key)) for key, type in parameters.items()),
        tuple(nest.nest() if isinstance(nest, NestBuilder) else nest for nest in nests),
        anchor,
    )


def program_of(*kernels: Kernel, symbols: tuple[str, ...] | None = None) -> Program:
    """Kernels in order, each on the buffers that its parameters name."""
    buffers: dict[str, Buffer] = {}
    for kernel in kernels:
        for p in kernel.parameters:
            role = Role.INPUT if p.access is Access.IN else Role.OUTPUT
            buffers.setdefault(p.name, Buffer(p.name, p.type, role))
    numbers = {name: number for number, name in enumerate(buffers)}
    steps = tuple(
        Step(position, tuple(numbers[p.name] for p in kernel.parameters))
        for position, kernel in enumerate(kernels)
    )
    inputs = tuple(Input(Value(b.name, b.type)) for b in buffers.values())
    graph = Graph(kernels[0].name, inputs, (), tuple(item.value for item in inputs[-1:]))
    names = sorted({symbol for kernel in kernels for symbol in kernel.symbols})
    return Program(
        kernels[0].name,
        graph,
        tuple(buffers.values()),
        tuple(kernels),
        steps,
        tuple((name, number) for name, number in numbers.items() if buffers[name].role is Role.INPUT),
        tuple((name, number) for name, number in numbers.items() if buffers[name].role is Role.OUTPUT),
        symbols if symbols is not None else tuple(names),
    )


def types(**texts: str) -> dict[str, TensorType]:
    return {name: TensorType.parse(text) for name, text in texts.items()}
