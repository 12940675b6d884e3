"""Builder: applies primitives, infers their types, names values and records origins; used by operators and passes.

    builder = Builder("mlp")
    x = builder.input("data", TensorType.parse("f32[N,784]"))
    y = builder.maximum(builder.add(x, bias), 0.0)        # any registered primitive is a method
    graph = builder.finish({"relu1_output": y})

Elementwise methods take Values or Python scalars; shapes broadcast as in numpy by explicit broadcast nodes, a scalar
takes the dtype of the tensors beside it. dtypes of tensors are never promoted: cast first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from graphc.diagnostics import Operand, fail
from graphc.ir.graph import (
    Graph,
    Input,
    InputKind,
    Node,
    Origins,
    Update,
    Value,
)
from graphc.primitives.declare import Kind, Primitive, TypeRuleError, primitive
from graphc.types import Dim, DType, TensorType, dimension, product, same_dim, same_shape, shape_of

Scalar = bool | int | float


class Builder:
    """Collects nodes in topological order; `finish` makes the Graph."""

    def __init__(self, name: str = "graph") -> None:
        self.name = name
        self.inputs: list[Input] = []
        self.nodes: list[Node] = []
        self.updates: list[Update] = []
        self._names: set[str] = set()
        self._counters: dict[str, Iterator[int]] = {}
        self._origins: Origins = ()
        self._hint = ""

    @classmethod
    def extend(cls, graph: Graph) -> Builder:
        """A builder that holds all of `graph`, to add nodes to."""
        builder = cls(graph.name)
        builder.inputs = list(graph.inputs)
        builder.nodes = list(graph.nodes)
        builder.updates = list(graph.updates)
        builder._names = {value.name for value in graph.values()}
        return builder

    @contextmanager
    def at(self, origins: Origins, hint: str = "") -> Iterator[None]:
        """Nodes made inside carry these origins; `hint` is the stem of their values' names."""
        saved = self._origins, self._hint
        self._origins, self._hint = origins, hint or self._hint
        try:
            yield
        finally:
            self._origins, self._hint = saved

    @property
    def origins(self) -> Origins:
        return self._origins

    def unique(self, stem: str) -> str:
        """An unused value name: the stem itself, or stem.1, stem.2 ..."""
        if stem not in self._names:
            self._names.add(stem)
            return stem
        counter = self._counters.setdefault(stem, itertools.count(1))
        name = next(name for k in counter if (name := f"{stem}.{k}") not in self._names)
        self._names.add(name)
        return name

    def input(self, name: str, type: TensorType, kind: InputKind = InputKind.DATA) -> Value:
        """Declare a graph input; error G302 when the name is taken."""
        if name in self._names:
            raise fail(
                "G302", f"two values are named {name!r}", name=name, help="give each input its own name"
            )
        self._names.add(name)
        value = Value(name, type)
        self.inputs.append(Input(value, kind))
        return value

    def update(self, target: Value, value: Value) -> None:
        """Declare that input `target` holds `value` after the program has run."""
        if target.type.dtype is not value.type.dtype or not same_shape(target.type.shape, value.type.shape):
            raise fail(
                "G204", f"state {target.name!r} is {target.type}, its update {value.type}", name=target.name
            )
        self.updates.append(Update(target.name, value))

    def emit_all(self, name: str, *operands: Value, hint: str = "", **attributes: Any) -> tuple[Value, ...]:
        """Apply a primitive to Values and return all its outputs; error G201 when its type rule is broken."""
        declared = primitive(name)
        types = tuple(operand.type for operand in operands)
        try:
            frozen = declared.complete(attributes)
            results = declared.infer(types, frozen)
        except TypeRuleError as error:
            raise self._broken_rule(declared, operands, str(error)) from None
        stem = hint or self._hint or name
        values = tuple(Value(self.unique(stem), type) for type in results)
        self.nodes.append(Node(name, tuple(operands), values, frozen, self._origins))
        return values

    def emit(self, name: str, *operands: Value, hint: str = "", **attributes: Any) -> Value:
        """Apply a primitive that has one output."""
        (value,) = self.emit_all(name, *operands, hint=hint, **attributes)
        return value

    def _broken_rule(
        self, declared: Primitive, operands: Sequence[Value], message: str, code: str = "G201"
    ) -> Exception:
        origin = self._origins[0] if self._origins else None
        return fail(
            code,
            message if origin is None else f"{message} (in {declared.name})",
            operator=origin.operator if origin else declared.name,
            name=origin.name if origin else "",
            location=origin.location if origin else None,
            operands=[Operand(value.name, str(value.type)) for value in operands],
        )

    def __getattr__(self, name: str) -> Callable[..., Value]:
        if name.startswith("_"):
            raise AttributeError(name)
        declared = primitive(name)
        if declared.kind is Kind.ELEMENTWISE:
            return lambda *operands, **attributes: self._elementwise(declared, operands, attributes)
        return lambda *operands, **attributes: self.emit(name, *operands, **attributes)

    def _elementwise(
        self, declared: Primitive, operands: Sequence[Value | Scalar], attributes: Mapping[str, Any]
    ) -> Value:
        tensors = [operand for operand in operands if isinstance(operand, Value)]
        if not tensors:
            raise TypeError(f"{declared.name} needs at least one tensor operand")
        shape = self.broadcast_shape(declared.name, tensors)
        dtypes = self._scalar_dtypes(declared, operands)
        values = [
            self.broadcast_to(operand, shape)
            if isinstance(operand, Value)
            else self.full(operand, TensorType(dtype, shape))
            for operand, dtype in zip(operands, dtypes, strict=True)
        ]
        return self.emit(declared.name, *values, **attributes)

    @staticmethod
    def _scalar_dtypes(declared: Primitive, operands: Sequence[Value | Scalar]) -> list[DType]:
        """The element type that a scalar takes at each position."""
        given = [operand.type.dtype for operand in operands if isinstance(operand, Value)]
        if declared.name != "where":
            return given[-1:] * len(operands)
        # In where(condition, x, y) only x and y have one type.
        branches = [operand.type.dtype for operand in operands[1:] if isinstance(operand, Value)]
        return [DType.BOOL, *[branches[0] if branches else DType.F32] * (len(operands) - 1)]

    def broadcast_shape(self, name: str, operands: Sequence[Value]) -> tuple[Dim, ...]:
        """The numpy broadcast of the operands' shapes; error G202 when they do not agree."""
        rank = max(value.type.rank for value in operands)
        result: list[Dim] = []
        for position in range(-rank, 0):
            dims = [value.type.shape[position] for value in operands if value.type.rank >= -position]
            wide = [dim for dim in dims if dim != 1] or [1]
            if any(not same_dim(wide[0], dim) for dim in wide[1:]):
                rule = f"shapes do not broadcast: axis {position} has {' and '.join(map(str, wide))}"
                raise self._broken_rule(primitive(name), operands, rule, "G202")
            result.append(wide[0])
        return tuple(result)

    # Conveniences over single primitives

    def full(self, value: Scalar, type: TensorType) -> Value:
        """A tensor of one value; error G203 when the element type cannot hold it."""
        converted = _converted(value, type.dtype)
        if converted is None:
            origin = self._origins[0] if self._origins else None
            raise fail(
                "G203",
                f"the number {value!r} is no {type.dtype}",
                operator=origin.operator if origin else "",
                name=origin.name if origin else "",
                location=origin.location if origin else None,
                help="cast the tensor beside it to a floating-point type first",
            )
        return self.emit("full", value=converted, dtype=type.dtype, shape=type.shape)

    def full_like(self, value: Scalar, like: Value) -> Value:
        return self.full(value, like.type)

    def iota(self, axis: int, type: TensorType) -> Value:
        """The index along `axis`."""
        return self.emit("iota", axis=axis, dtype=type.dtype, shape=type.shape)

    def cast(self, value: Value, dtype: DType) -> Value:
        return value if value.type.dtype is dtype else self.emit("cast", value, dtype=dtype)

    def reshape(self, value: Value, shape: Iterable[Any]) -> Value:
        target = shape_of(shape)
        return value if same_shape(value.type.shape, target) else self.emit("reshape", value, shape=target)

    def broadcast(self, value: Value, shape: Iterable[Any], axes: Sequence[int]) -> Value:
        """Dimension i of `value` becomes axis axes[i] of `shape`; it must be equal there, or 1."""
        target = shape_of(shape)
        if tuple(axes) == tuple(range(len(target))) and same_shape(value.type.shape, target):
            return value
        return self.emit("broadcast", value, shape=target, axes=tuple(axes))

    def broadcast_to(self, value: Value, shape: Sequence[Dim]) -> Value:
        """numpy.broadcast_to: trailing axes aligned."""
        return self.broadcast(value, shape, range(len(shape) - value.type.rank, len(shape)))

    def transpose(self, value: Value, axes: Sequence[int]) -> Value:
        return (
            value
            if tuple(axes) == tuple(range(value.type.rank))
            else self.emit("transpose", value, axes=tuple(axes))
        )

    def slice(self, value: Value, start: Sequence[Dim], stop: Sequence[Dim]) -> Value:
        """The part value[start0:stop0, start1:stop1, ...]."""
        if all(s == 0 for s in start) and same_shape(stop, value.type.shape):
            return value
        return self.emit("slice", value, start=tuple(start), stop=tuple(stop))

    def slice_axis(self, value: Value, axis: int, start: Dim, stop: Dim) -> Value:
        starts: list[Dim] = [0] * value.type.rank
        stops = list(value.type.shape)
        starts[axis], stops[axis] = start, stop
        return self.slice(value, starts, stops)

    def reduce(self, name: str, value: Value, axes: Iterable[int], keepdims: bool = False) -> Value:
        """A reduction primitive over axes (negative ones count from the end); keepdims leaves them as 1."""
        rank = value.type.rank
        reduced = tuple(sorted({axis + rank if axis < 0 else axis for axis in axes}))
        if not reduced:
            return value
        result = self.emit(name, value, axes=reduced)
        if not keepdims:
            return result
        return self.reshape(
            result, [1 if axis in reduced else dim for axis, dim in enumerate(value.type.shape)]
        )

    def sum(self, value: Value, axes: Iterable[int] | None = None, keepdims: bool = False) -> Value:
        return self.reduce("reduce_sum", value, range(value.type.rank) if axes is None else axes, keepdims)

    def mean(self, value: Value, axes: Iterable[int] | None = None, keepdims: bool = False) -> Value:
        chosen = tuple(range(value.type.rank)) if axes is None else tuple(axes)
        count = product(value.type.shape[axis] for axis in chosen)
        return self.div(self.sum(value, chosen, keepdims), self.dim(count, value.type.dtype))

    def dim(self, value: Dim, dtype: DType) -> Value | Scalar:
        """A dimension's value as a scalar operand: a number when known, else a `dim` node of shape []."""
        value = dimension(value)
        return value if isinstance(value, int) else self.emit("dim", value=value, dtype=dtype)

    def finish(self, outputs: Mapping[str, Value] | Sequence[Value]) -> Graph:
        """The graph with these outputs (a mapping gives the names that callers see)."""
        named = dict(outputs) if isinstance(outputs, Mapping) else {value.name: value for value in outputs}
        values = tuple(outputs.values()) if isinstance(outputs, Mapping) else tuple(outputs)
        names = tuple(named) if len(named) == len(values) else tuple(value.name for value in values)
        return Graph(self.name, tuple(self.inputs), tuple(self.nodes), values, tuple(self.updates), names)


def _converted(value: Scalar, dtype: DType) -> Scalar | None:
    """The number as a Python number of that type; None when it is no such number."""
    if dtype.is_float:
        return float(value)
    if not math.isfinite(value):
        return None
    result: Scalar = bool(value) if dtype is DType.BOOL else int(value)
    return result if result == value else None


def rebuild(graph: Graph, nodes: Iterable[Node]) -> Graph:
    """`graph` with other nodes, for passes that edit the node list directly."""
    return replace(graph, nodes=tuple(nodes))
