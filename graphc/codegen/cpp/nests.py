"""Kernel IR made ready for loops over memory: flat indices, merged axes, and when each scalar can be computed.

`flatten` gives every access one linear index; `merge_axes` joins neighbouring axes that every expression walks as
one, so that a contiguous tensor of any rank is one loop. Both return an equivalent Nest. `analyse` says which axes a
scalar depends on and after how many passes over the reduction axes it is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphc.ir.kernel import (
    Affine,
    Anchor,
    Axis,
    Compute,
    Constant,
    Definition,
    Guard,
    IndexValue,
    Kernel,
    Load,
    Nest,
    Random,
    Reduce,
    Statement,
    Store,
    levels,
)
from graphc.types import Dim, product, row_major_strides, same_dim

Rewrite = Callable[[Affine], Affine]


def rewrite_expressions(statement: Statement, rewrite: Rewrite) -> Statement:
    """The statement with every index expression replaced."""
    match statement:
        case Load() | Store():
            guards = tuple(replace(guard, expression=rewrite(guard.expression)) for guard in statement.guards)
            return replace(statement, index=tuple(map(rewrite, statement.index)), guards=guards)
        case IndexValue():
            return replace(statement, expression=rewrite(statement.expression))
        case Random():
            return replace(statement, index=rewrite(statement.index))
        case _:
            return statement


def rename_statement(statement: Statement, names: Mapping[str, str], buffers: Mapping[str, str]) -> Statement:
    """The statement with its axes and scalars, and its buffers, called otherwise."""

    def rename(expression: Affine) -> Affine:
        return Affine(expression.offset, tuple((names[name], stride) for name, stride in expression.terms))

    renamed = rewrite_expressions(statement, rename)
    changes: dict[str, Any] = {}
    if not isinstance(renamed, Store):
        changes["name"] = names[renamed.name]
    match renamed:
        case Load() | Random():
            changes["buffer"] = buffers[renamed.buffer]
        case Store():
            changes |= {"buffer": buffers[renamed.buffer], "value": names[renamed.value]}
        case Compute():
            changes["arguments"] = tuple(names[name] for name in renamed.arguments)
        case Reduce():
            changes["argument"] = names[renamed.argument]
        case _:
            pass
    return replace(renamed, **changes)


def expressions(statement: Statement) -> tuple[Affine, ...]:
    """Every index expression of a statement."""
    match statement:
        case Load() | Store():
            return (*statement.index, *(guard.expression for guard in statement.guards))
        case IndexValue():
            return (statement.expression,)
        case Random():
            return (statement.index,)
        case _:
            return ()


def arguments(statement: Statement) -> tuple[str, ...]:
    """The scalars that a statement reads as values (not those inside its index)."""
    match statement:
        case Compute():
            return statement.arguments
        case Reduce():
            return (statement.argument,)
        case Store():
            return (statement.value,)
        case _:
            return ()


def flatten(nest: Nest, kernel: Kernel) -> Nest:
    """Give every load and store one index, linear in the buffer."""

    def flat(statement: Load | Store) -> Affine:
        strides = row_major_strides(kernel.parameter(statement.buffer).type.shape)
        index = Affine()
        for expression, stride in zip(statement.index, strides, strict=True):
            index = index + expression.scale(stride)
        return index

    body = tuple(
        replace(statement, index=(flat(statement),)) if isinstance(statement, (Load, Store)) else statement
        for statement in nest.body
    )
    return replace(nest, body=body)


def drop_unit_axes(nest: Nest) -> Nest:
    """Remove axes of extent 1, but keep a reduction axis when the nest has reductions and no other one."""
    keep = [axis for axis in nest.axes if axis.extent != 1]
    if not any(axis.reduction for axis in keep):
        keep += nest.reductions[-1:]
    if len(keep) == len(nest.axes):
        return nest
    gone = {axis.name: Affine() for axis in nest.axes if axis not in keep}
    body = tuple(rewrite_expressions(s, lambda e: e.substitute(gone)) for s in nest.body)
    return Nest(tuple(keep), body)


def merge_axes(nest: Nest, among: frozenset[str] | None = None) -> Nest:
    """Join neighbouring axes (of those named, if any are) wherever all expressions step over both as over one."""
    axes = list(nest.axes)
    body = nest.body
    position = 0
    while position + 1 < len(axes):
        outer, inner = axes[position], axes[position + 1]
        allowed = among is None or {outer.name, inner.name} <= among
        if allowed and outer.reduction == inner.reduction and _mergeable(body, outer, inner):
            joined = Axis(inner.name, product((outer.extent, inner.extent)), inner.reduction)
            gone = {outer.name: Affine()}
            body = tuple(rewrite_expressions(s, lambda e, gone=gone: e.substitute(gone)) for s in body)  # type: ignore[misc]
            axes[position : position + 2] = [joined]
            position = max(position - 1, 0)
        else:
            position += 1
    return nest if len(axes) == len(nest.axes) else Nest(tuple(axes), body)


def _mergeable(body: tuple[Statement, ...], outer: Axis, inner: Axis) -> bool:
    return all(
        same_dim(expression.stride(outer.name), _times(expression.stride(inner.name), inner.extent))
        for statement in body
        for expression in expressions(statement)
    )


def _times(stride: Dim, extent: Dim) -> Dim:
    return product((stride, extent)) if stride != 0 else 0


def prune_guards(nest: Nest) -> Nest:
    """Drop the guards that hold at every point of the axes."""
    extents = {axis.name: axis.extent for axis in nest.axes}

    def holds(guard: Guard) -> bool:
        low = high = guard.expression.offset
        for name, stride in guard.expression.terms:
            extent = extents.get(name)
            if not isinstance(extent, int) or not isinstance(stride, int) or extent < 1:
                return False
            reach = stride * (extent - 1)
            low, high = low + min(reach, 0), high + max(reach, 0)
        known = all(isinstance(dim, int) for dim in (low, high, guard.low, guard.high))
        return known and guard.low <= low and high < guard.high

    if not any(isinstance(s, (Load, Store)) and any(map(holds, s.guards)) for s in nest.body):
        return nest
    body = tuple(
        replace(s, guards=tuple(guard for guard in s.guards if not holds(guard)))
        if isinstance(s, (Load, Store))
        else s
        for s in nest.body
    )
    return replace(nest, body=body)


def without_dead(body: Sequence[Statement]) -> tuple[Statement, ...]:
    """The statements that a store needs."""
    used: set[str] = set()
    kept: list[Statement] = []
    for statement in reversed(body):
        if isinstance(statement, Store) or statement.name in used:
            kept.append(statement)
            used.update(arguments(statement))
            used.update(name for expression in expressions(statement) for name in expression.variables)
    return tuple(reversed(kept))


def lower(nest: Nest, kernel: Kernel, keep: str = "") -> Nest:
    """A nest as the printer takes it: flat indices, no axis of extent 1, as few axes as possible, nothing unused.

    The axis `keep` stays by itself.
    """
    live = replace(nest, body=without_dead(nest.body))
    flat = prune_guards(drop_unit_axes(flatten(live, kernel)))
    return merge_axes(flat, frozenset(axis.name for axis in flat.axes if axis.name != keep))


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a schedule asks about a nest's scalars.

    `inner`: depends on a reduction axis; `phase`: passes over the reduction axes that must have ended before an outer
    scalar is known, or the first pass in which an inner one can be computed; `axes`: all axes that it depends on.
    """

    definitions: Mapping[str, Definition]
    inner: Mapping[str, bool]
    phase: Mapping[str, int]
    axes: Mapping[str, frozenset[str]]

    def reads(self, statement: Statement) -> Iterator[str]:
        """The scalars that a statement needs, also those inside index expressions."""
        yield from arguments(statement)
        for expression in expressions(statement):
            yield from (variable for variable in expression.variables if variable in self.definitions)

    def phase_of(self, statement: Statement) -> int:
        """The first pass in which a store can run, or the pass in which a reduce runs."""
        return max((self.phase[name] for name in self.reads(statement)), default=0)

    def axes_of(self, statement: Statement) -> frozenset[str]:
        found: set[str] = set()
        for expression in expressions(statement):
            for variable in expression.variables:
                found |= self.axes.get(variable, frozenset((variable,)))
        for argument in arguments(statement):
            found |= self.axes[argument]
        return frozenset(found)

    def is_inner(self, store: Store, reductions: frozenset[str]) -> bool:
        """True when a store happens at every point of the reduction axes."""
        return bool(self.axes_of(store) & reductions) or any(self.inner[name] for name in self.reads(store))


def analyse(nest: Nest) -> Analysis:
    """Levels, phases and axis dependences of every scalar."""
    inner = levels(nest)
    reductions = {axis.name for axis in nest.reductions}
    analysis = Analysis(
        {s.name: s for s in nest.body if not isinstance(s, Store)}, inner, phase := {}, axes := {}
    )
    everything = frozenset(axis.name for axis in nest.parallel)
    for statement in nest.body:
        match statement:
            case Store():
                continue
            case Reduce():
                phase[statement.name] = analysis.phase_of(statement) + 1
                axes[statement.name] = analysis.axes_of(statement) - reductions
            case Anchor():
                phase[statement.name] = 0
                axes[statement.name] = everything
            case Constant() | Load() | IndexValue() | Compute() | Random():
                phase[statement.name] = analysis.phase_of(statement)
                axes[statement.name] = analysis.axes_of(statement)
    return analysis


def guard_axes(guard: Guard, analysis: Analysis) -> frozenset[str]:
    """The axes that a guard's condition depends on."""
    found: set[str] = set()
    for variable in guard.expression.variables:
        found |= analysis.axes.get(variable, frozenset((variable,)))
    return frozenset(found)
