"""Compares positions in 32 bits where their range is known: twice the lanes, and no mixing with 4-byte data.

Indices and positions are i64 in the Kernel IR. A comparison of two of them, each known to fit (a cast from a smaller
integer, an index expression over known extents, a small constant), becomes a comparison of i32 scalars. Where only one
is known to fit, and the other (a label) does not change along its axes, the other is clamped to 32 bits once: a value
outside compares with every position as the nearest bound does.
"""

from __future__ import annotations

from dataclasses import replace

from graphc.codegen.cpp.nests import analyse, without_dead
from graphc.ir.kernel import Affine, Compute, Constant, Definition, IndexValue, Nest, Statement, Store
from graphc.types import DType

LIMIT = 2**31 - 1
_COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))
_SMALL = frozenset((DType.BOOL, DType.U8, DType.I8, DType.I16, DType.I32))


def narrow_comparisons(nest: Nest) -> Nest:
    """The nest with such comparisons in 32 bits; the same object when there is none."""
    definitions = {s.name: s for s in nest.body if not isinstance(s, Store)}
    narrowed: dict[str, Definition] = {}
    for name, definition in definitions.items():
        found = _narrow(definition, definitions, nest)
        if found is not None:
            narrowed[name] = found
    chosen = _comparisons(nest, definitions, narrowed)
    if not chosen:
        return nest
    wanted = {argument for names in chosen.values() for argument in names}
    small: dict[str, tuple[Definition, ...]] = {
        name: (narrowed[name],) if name in narrowed else _clamped(definitions[name]) for name in wanted
    }
    body: list[Statement] = []
    for statement in nest.body:
        if isinstance(statement, Compute) and statement.name in chosen:
            statement = replace(
                statement, arguments=tuple(small[name][-1].name for name in statement.arguments)
            )
        body.append(statement)
        if not isinstance(statement, Store) and statement.name in wanted:
            body += small[statement.name]
    return replace(nest, body=without_dead(body))


def _comparisons(
    nest: Nest, definitions: dict[str, Definition], narrowed: dict[str, Definition]
) -> dict[str, tuple[str, ...]]:
    """The comparisons to do in 32 bits, and what each compares."""
    axes = analyse(nest).axes
    chosen = {}
    for name, statement in definitions.items():
        if not isinstance(statement, Compute) or statement.operation not in _COMPARISONS:
            continue
        fitting = [argument for argument in statement.arguments if argument in narrowed]
        others = [argument for argument in statement.arguments if argument not in narrowed]
        apart = all(
            definitions[o].dtype is DType.I64 and not axes[o] & axes[f] for o in others for f in fitting
        )
        if len(fitting) == 2 or (fitting and apart and axes[fitting[0]]):
            chosen[name] = statement.arguments
    return chosen


def _clamped(statement: Definition) -> tuple[Definition, ...]:
    """An i64 scalar's nearest value of 32 bits."""
    name = statement.name
    return (
        Constant(f"{name}.highest", DType.I64, LIMIT),
        Constant(f"{name}.lowest", DType.I64, -LIMIT - 1),
        Compute(f"{name}.below", DType.I64, "minimum", (name, f"{name}.highest")),
        Compute(f"{name}.clamped", DType.I64, "maximum", (f"{name}.below", f"{name}.lowest")),
        Compute(f"{name}.narrow", DType.I32, "cast", (f"{name}.clamped",)),
    )


def _narrow(statement: Definition, definitions: dict[str, Definition], nest: Nest) -> Definition | None:
    """The statement in 32 bits under another name, None when it may not fit."""
    if statement.dtype is not DType.I64:
        return None
    name = f"{statement.name}.narrow"
    match statement:
        case Constant(value=value) if -LIMIT < value < LIMIT:
            return replace(statement, name=name, dtype=DType.I32)
        case IndexValue(expression=expression) if _fits(expression, nest):
            return replace(statement, name=name, dtype=DType.I32)
        case Compute(operation="cast", arguments=(argument,)) if definitions[argument].dtype in _SMALL:
            return replace(statement, name=name, dtype=DType.I32)
        case _:
            return None


def _fits(expression: Affine, nest: Nest) -> bool:
    extents = {axis.name: axis.extent for axis in nest.axes}
    if not isinstance(expression.offset, int):
        return False
    reach = abs(expression.offset)
    for name, stride in expression.terms:
        extent = extents.get(name)
        if not isinstance(stride, int) or not isinstance(extent, int):
            return False
        reach += abs(stride) * extent
    return reach < LIMIT
