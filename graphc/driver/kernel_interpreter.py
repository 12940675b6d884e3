"""Runs Kernel IR and Programs with torch, whole nests at once: what both printers' kernels must agree with.

Every scalar of a nest is a tensor that broadcasts over the nest's axes. Loads and stores are checked: no index leaves
its buffer, no element is stored twice by one kernel. With a Plan the intermediates lie in one arena as they do at
run time, and memory is filled with NaN before its first and after its last use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch

from graphc.ir.graph import Attributes, Node, Value
from graphc.ir.kernel import (
    Affine,
    Anchor,
    AnchorOperation,
    Compute,
    Constant,
    Guard,
    IndexValue,
    Kernel,
    Load,
    Nest,
    Random,
    Reduce,
    Reduction,
    Store,
    View,
)
from graphc.ir.program import Plan, Program, Role, Step
from graphc.ir.sizes import bind_sizes
from graphc.primitives import primitive
from graphc.primitives.concrete import concrete_node
from graphc.primitives.random import uniform
from graphc.types import DType, TensorType, evaluate, row_major_strides

POISON = 0xFF
"""A byte that makes NaN of every floating-point type when repeated."""


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """Tensors by the callers' names of outputs, and the new contents of every updated input."""

    outputs: dict[str, torch.Tensor]
    updates: dict[str, torch.Tensor]


def run_program(
    program: Program,
    inputs: Mapping[str, torch.Tensor],
    *,
    dtype: torch.dtype | None = torch.float64,
    plan: Plan | None = None,
) -> ProgramResult:
    """Run all steps of a program on tensors by input name, which stay as they are.

    Floating-point values are held and computed in `dtype`, or in their declared types for None. With a plan the
    intermediates lie in an arena laid out by it (scaled where `dtype` is wider), else each has memory of its own.
    """
    wide = None if dtype is None else DType.of(dtype)
    graph = program.graph
    sizes = bind_sizes([item.value for item in graph.inputs], {n: tuple(t.shape) for n, t in inputs.items()})
    memory = _Memory(program, sizes, wide, plan)
    for name, index in program.inputs:
        memory.tensors[index].copy_(inputs[name].reshape(-1))
    for number, step in enumerate(program.steps):
        kernel = program.kernels[step.kernel]
        memory.begin(number)
        run_kernel(kernel, memory.arguments(kernel, step), sizes, wide)
        memory.end(number)
    outputs = {}
    for (name, index), value in zip(program.outputs, graph.outputs, strict=True):
        outputs[name] = memory.tensors[index].clone().reshape(value.type.concrete_shape(sizes))
    places = dict(program.inputs)
    updates = {}
    for update in graph.updates:
        shape = graph.input_by_name[update.target].value.type.concrete_shape(sizes)
        updates[update.target] = memory.tensors[places[update.target]].clone().reshape(shape)
    return ProgramResult(outputs, updates)


class _Memory:
    """A flat tensor for each buffer; intermediates share an arena when there is a plan."""

    def __init__(
        self, program: Program, sizes: Mapping[str, int], wide: DType | None, plan: Plan | None
    ) -> None:
        self.tensors: list[torch.Tensor] = []
        self.sizes = sizes
        self.placements = {p.buffer: p for p in plan.placements} if plan else {}
        self.scale = 1 if wide is None else 8
        self.arena = _poisoned((plan.size if plan else 0) * self.scale)
        self.live: dict[int, tuple[int, int]] = {}
        for index, buffer in enumerate(program.buffers):
            count = _count(buffer.type.concrete_shape(sizes))
            dtype = _held(buffer.type.dtype, wide)
            block = _poisoned(count * dtype.itemsize)
            if index in self.placements:
                start = self.placements[index].offset * self.scale
                block = self.arena[start : start + count * dtype.itemsize]
            elif plan is not None and buffer.role in (Role.INTERMEDIATE, Role.WORKSPACE):
                raise AssertionError(f"buffer {buffer.name} has no place in the plan")
            self.tensors.append(block.view(dtype.torch))

    def arguments(self, kernel: Kernel, step: Step) -> list[torch.Tensor]:
        """The launch's part of each buffer."""
        parts = []
        for parameter, index in zip(kernel.parameters, step.arguments, strict=True):
            start = step.offset(index)
            count = _count(parameter.type.concrete_shape(self.sizes))
            parts.append(self.tensors[index][start : start + count])
        return parts

    def begin(self, step: int) -> None:
        """Check that what becomes live overlaps nothing that is."""
        for index, placement in self.placements.items():
            if placement.lifetime.first != step:
                continue
            start, stop = placement.offset, placement.offset + placement.size
            for other, (low, high) in self.live.items():
                if start < high and low < stop:
                    raise AssertionError(f"buffers {index} and {other} overlap at step {step}")
            self.live[index] = (start, stop)

    def end(self, step: int) -> None:
        """Poison what dies."""
        for index, placement in self.placements.items():
            if placement.lifetime.last == step:
                del self.live[index]
                start = placement.offset * self.scale
                self.arena[start : start + placement.size * self.scale] = POISON


def _poisoned(nbytes: int) -> torch.Tensor:
    return torch.full((nbytes,), POISON, dtype=torch.uint8)


def _held(dtype: DType, wide: DType | None) -> DType:
    return wide if wide is not None and dtype.is_float else dtype


def _count(shape: Sequence[int]) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count


def run_kernel(
    kernel: Kernel, arguments: Sequence[torch.Tensor], sizes: Mapping[str, int], wide: DType | None = None
) -> None:
    """Execute one kernel on flat tensors, one for each parameter, in place."""
    buffers = {p.name: tensor for p, tensor in zip(kernel.parameters, arguments, strict=True)}
    types = {p.name: p.type for p in kernel.parameters}
    results = _anchor_results(kernel, buffers, types, sizes, wide)
    names = kernel.anchor.results if kernel.anchor is not None else ()
    for position, (name, value) in enumerate(zip(names, results if names else (), strict=True)):
        if name:
            assert kernel.anchor is not None
            place = _view_of(kernel.anchor, len(kernel.anchor.operands) + position, types[name])
            buffers[name][_addresses(place, types[name], sizes)] = value.to(buffers[name].dtype)
    result = results[0] if results and not names else None
    written = {p.name: torch.zeros(buffers[p.name].shape, dtype=torch.bool) for p in kernel.writes}
    for nest in kernel.nests:
        _NestRun(nest, buffers, types, sizes, wide, result, written).run()


def _anchor_results(
    kernel: Kernel,
    buffers: Mapping[str, torch.Tensor],
    types: Mapping[str, TensorType],
    sizes: Mapping[str, int],
    wide: DType | None,
) -> tuple[torch.Tensor, ...]:
    anchor = kernel.anchor
    if anchor is None:
        return ()
    declared = primitive(anchor.primitive)
    views = [_view_of(anchor, k, types[name]) for k, name in enumerate(anchor.operands)]
    given = tuple(types[name].with_shape(v.shape) for name, v in zip(anchor.operands, views, strict=True))
    inputs = tuple(map(Value, anchor.operands, given))
    made: tuple[TensorType, ...] = (anchor.result,)
    if anchor.results:
        made = declared.infer(given, anchor.attributes)
    outputs = tuple(Value(f"result{k}", type) for k, type in enumerate(made))
    node = concrete_node(Node(anchor.primitive, inputs, outputs, anchor.attributes), sizes, wide)
    shapes = tuple(type.concrete_shape(sizes) for type in made)
    operands = tuple(
        buffers[name][_addresses(view, types[name], sizes)].to(_accumulator(types[name].dtype, wide).torch)
        for name, view in zip(anchor.operands, views, strict=True)
    )
    results = declared.oracle(operands, node, shapes)
    if anchor.results:
        return results
    return tuple(result.to(_held(anchor.accumulator, wide).torch) for result in results)


def _view_of(anchor: AnchorOperation, position: int, type: TensorType) -> View:
    """How an operand, or a result behind them, lies in its parameter."""
    found = anchor.views[position] if anchor.views else None
    return found or View.whole(type.shape)


def _addresses(view: View, type: TensorType, sizes: Mapping[str, int]) -> torch.Tensor:
    """The flat position of each element that a view shows."""
    address = view.address(type)
    shape = [evaluate(axis.extent, sizes) for axis in view.axes]
    total = torch.full(shape, evaluate(address.offset, sizes))
    for k, axis in enumerate(view.axes):
        steps = torch.arange(shape[k]) * evaluate(address.stride(axis.name), sizes)
        total += steps.reshape([-1 if d == k else 1 for d in range(len(shape))])
    if any(name not in {axis.name for axis in view.axes} for name in address.variables):
        raise AssertionError(f"a view's index {address} is not made of its axes")
    return total


def _accumulator(dtype: DType, wide: DType | None) -> DType:
    return _held(dtype, wide).compute


class _NestRun:
    """One pass over a nest's statements; axis k is dimension k of every scalar."""

    def __init__(
        self,
        nest: Nest,
        buffers: Mapping[str, torch.Tensor],
        types: Mapping[str, TensorType],
        sizes: Mapping[str, int],
        wide: DType | None,
        anchor: torch.Tensor | None,
        written: Mapping[str, torch.Tensor],
    ) -> None:
        self.nest = nest
        self.written = written
        self.buffers = buffers
        self.types = types
        self.sizes = sizes
        self.wide = wide
        self.anchor = anchor
        self.extents = [evaluate(axis.extent, sizes) for axis in nest.axes]
        self.scalars: dict[str, torch.Tensor] = {}
        rank = len(self.extents)
        for k, (axis, extent) in enumerate(zip(nest.axes, self.extents, strict=True)):
            shape = [extent if d == k else 1 for d in range(rank)]
            self.scalars[axis.name] = torch.arange(extent).reshape(shape)

    def run(self) -> None:
        for statement in self.nest.body:
            if isinstance(statement, Store):
                self.store(statement)
            else:
                value = self.value(statement)
                self.scalars[statement.name] = value.to(_held(statement.dtype, self.wide).torch)

    def value(self, statement: Any) -> torch.Tensor:
        match statement:
            case Load():
                return self.load(statement)
            case Constant():
                return self.full(statement.value, statement.dtype)
            case IndexValue():
                return self.affine(statement.expression)
            case Compute():
                return self.compute(statement)
            case Random():
                return self.random(statement)
            case Reduce():
                return self.reduce(statement)
            case Anchor():
                assert self.anchor is not None
                return self.anchor.reshape(self.extents)
        raise AssertionError(f"no statement: {statement}")

    def full(self, value: float | int | bool, dtype: DType) -> torch.Tensor:
        return torch.full([1] * len(self.extents), value, dtype=_held(dtype, self.wide).torch)

    def affine(self, expression: Affine) -> torch.Tensor:
        total = torch.full([1] * len(self.extents), evaluate(expression.offset, self.sizes))
        for name, stride in expression.terms:
            variable = self.scalars[name]
            if variable.dtype is not torch.int64:
                raise AssertionError(f"index variable {name} is {variable.dtype}")
            total = total + variable * evaluate(stride, self.sizes)
        return total

    def inside(self, guards: Sequence[Guard]) -> torch.Tensor:
        result = torch.ones([1] * len(self.extents), dtype=torch.bool)
        for guard in guards:
            at = self.affine(guard.expression)
            result = (
                result & (at >= evaluate(guard.low, self.sizes)) & (at < evaluate(guard.high, self.sizes))
            )
        return result

    def place(self, buffer: str, index: Sequence[Affine], inside: torch.Tensor) -> torch.Tensor:
        """Row-major numbers, checked against each dimension where the guards hold, 0 elsewhere."""
        shape = self.types[buffer].concrete_shape(self.sizes)
        if len(index) != len(shape):
            raise AssertionError(f"{buffer} has {len(shape)} dimensions, its index {len(index)}")
        total = torch.zeros([1] * len(self.extents), dtype=torch.int64)
        for position, extent, stride in zip(index, shape, row_major_strides(shape), strict=True):
            at = self.affine(position)
            assert isinstance(stride, int)
            if 0 not in self.extents and bool((inside & ((at < 0) | (at >= extent))).any()):
                raise AssertionError(f"index {position} leaves {buffer} of {self.types[buffer]}")
            total = total + at * stride
        return torch.where(inside, total, torch.zeros_like(total))

    def load(self, statement: Load) -> torch.Tensor:
        inside = self.inside(statement.guards)
        place = self.place(statement.buffer, statement.index, inside)
        data = self.buffers[statement.buffer]
        other = self.full(statement.other, statement.dtype)
        return torch.where(inside, data[place], other) if data.numel() else other.expand(place.shape)

    def compute(self, statement: Compute) -> torch.Tensor:
        arguments = tuple(self.scalars[name] for name in statement.arguments)
        attributes = Attributes({"dtype": _held(statement.dtype, self.wide)})
        node = Node(
            statement.operation, (), (), attributes if statement.operation == "cast" else Attributes()
        )
        (result,) = primitive(statement.operation).oracle(_broadcast(arguments), node, ())
        return result

    def random(self, statement: Random) -> torch.Tensor:
        seed, step = (int(word) for word in self.buffers[statement.buffer])
        number = self.affine(statement.index)
        if number.numel() == 0:
            return number
        table = torch.from_numpy(uniform(seed, step, statement.stream, int(number.max()) + 1))
        return table[number]

    def reduce(self, statement: Reduce) -> torch.Tensor:
        argument = self.scalars[statement.argument]
        parallel = len(self.nest.parallel)
        rows = argument.expand([*argument.shape[:parallel], *self.extents[parallel:]])
        kept = list(rows.shape[:parallel])
        flat = rows.reshape([*kept, _count(self.extents[parallel:])])
        return _reduced(flat, statement.operation).reshape([*kept, *[1] * (len(self.extents) - parallel)])

    def store(self, statement: Store) -> None:
        inside = self.inside(statement.guards)
        place = self.place(statement.buffer, statement.index, inside)
        data, value = self.buffers[statement.buffer], self.scalars[statement.value]
        if value.dtype is not data.dtype:
            raise AssertionError(f"{statement.value} is {value.dtype}, {statement.buffer} holds {data.dtype}")
        used = {name for position in statement.index for name in position.variables}
        used |= {name for guard in statement.guards for name in guard.expression.variables}
        for axis, extent in zip(self.nest.axes, self.extents, strict=True):
            if axis.name not in used and not axis.reduction and extent > 1:
                raise AssertionError(f"{statement.buffer} is stored again for each {axis.name}")
        inside, place, value = _broadcast((inside, place, value))
        chosen = place[inside]
        written = self.written[statement.buffer]
        if bool(written[chosen].any()) or len(set(chosen.tolist())) != chosen.numel():
            raise AssertionError(f"an element of {statement.buffer} is stored twice")
        written[chosen] = True
        data[chosen] = value[inside]


def _broadcast(tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    shape = numpy.broadcast_shapes(*(tuple(tensor.shape) for tensor in tensors))
    return tuple(tensor.expand(shape) for tensor in tensors)


def _reduced(rows: torch.Tensor, operation: Reduction) -> torch.Tensor:
    """Reduce the last dimension; neutral values over nothing."""
    match operation:
        case Reduction.SUM:
            return rows.sum(-1, dtype=rows.dtype)
        case Reduction.PROD:
            return rows.prod(-1, dtype=rows.dtype)
        case Reduction.ANY:
            return rows.any(-1)
        case Reduction.ARGMAX | Reduction.ARGMIN:
            extreme = _reduced(rows, Reduction.MAX if operation is Reduction.ARGMAX else Reduction.MIN)
            hits = (rows == extreme[..., None]) | (rows != rows)
            return hits.to(torch.uint8).argmax(-1) if rows.shape[-1] else extreme.to(torch.int64)
        case Reduction.MAX:
            return (
                rows.amax(-1)
                if rows.shape[-1]
                else rows.new_full(rows.shape[:-1], _bound(rows.dtype, least=True))
            )
        case Reduction.MIN:
            return (
                rows.amin(-1)
                if rows.shape[-1]
                else rows.new_full(rows.shape[:-1], _bound(rows.dtype, least=False))
            )


def _bound(dtype: torch.dtype, *, least: bool) -> float | int:
    if dtype.is_floating_point:
        return float("-inf") if least else float("inf")
    limits = torch.iinfo(dtype)
    return int(limits.min if least else limits.max)
