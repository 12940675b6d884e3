"""Rewrites of loop nests: axes, buffers and indices replaced throughout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from graphc.ir.kernel import (
    Affine,
    Anchor,
    Compute,
    Constant,
    Guard,
    IndexValue,
    Load,
    Nest,
    Random,
    Reduce,
    Statement,
    Store,
)

Expression = Callable[[Affine], Affine]


def map_statement(statement: Statement, expression: Expression) -> Statement:
    """The statement with every affine expression mapped."""

    def guards(items: tuple[Guard, ...]) -> tuple[Guard, ...]:
        return tuple(Guard(expression(guard.expression), guard.low, guard.high) for guard in items)

    match statement:
        case Load() | Store():
            index = tuple(map(expression, statement.index))
            return replace(statement, index=index, guards=guards(statement.guards))
        case IndexValue():
            return replace(statement, expression=expression(statement.expression))
        case Random():
            return replace(statement, index=expression(statement.index))
        case _:
            return statement


def map_nest(nest: Nest, expression: Expression) -> Nest:
    """The nest with every affine expression of its body mapped."""
    return replace(nest, body=tuple(map_statement(statement, expression) for statement in nest.body))


def substitute(nest: Nest, table: Mapping[str, Affine]) -> Nest:
    """Replace variables by expressions in the body; the axes stay."""
    known: dict[Affine, Affine] = {}

    def expression(affine: Affine) -> Affine:
        found = known.get(affine)
        if found is None:
            found = known[affine] = affine.substitute(table)
        return found

    return map_nest(nest, expression)


def rename_axes(nest: Nest, table: Mapping[str, str]) -> Nest:
    """The nest with other names for its axes, which stand in their order in every expression."""
    axes = tuple(replace(axis, name=table.get(axis.name, axis.name)) for axis in nest.axes)
    body = substitute(nest, {old: Affine.axis(new) for old, new in table.items()}).body
    order = {axis.name: k for k, axis in enumerate(axes)}
    return map_nest(Nest(axes, body), lambda affine: _in_axis_order(affine, order))


def _in_axis_order(affine: Affine, order: Mapping[str, int]) -> Affine:
    if len(affine.terms) < 2:
        return affine
    last = len(order)
    return Affine(affine.offset, tuple(sorted(affine.terms, key=lambda term: order.get(term[0], last))))


def rename_scalars(statement: Statement, table: Mapping[str, str]) -> Statement:
    """Rename scalars in definitions, arguments and indirect indices."""
    match statement:
        case Constant() | Anchor():
            return replace(statement, name=table.get(statement.name, statement.name))
        case Compute():
            arguments = tuple(table.get(a, a) for a in statement.arguments)
            return replace(statement, name=table.get(statement.name, statement.name), arguments=arguments)
        case Reduce():
            argument = table.get(statement.argument, statement.argument)
            return replace(statement, name=table.get(statement.name, statement.name), argument=argument)
    statement = map_statement(statement, lambda expression: _renamed(expression, table))
    if isinstance(statement, Store):
        return replace(statement, value=table.get(statement.value, statement.value))
    return replace(statement, name=table.get(statement.name, statement.name))


def _renamed(expression: Affine, table: Mapping[str, str]) -> Affine:
    if not any(name in table for name, _ in expression.terms):
        return expression
    return Affine(
        expression.offset, tuple((table.get(name, name), stride) for name, stride in expression.terms)
    )


def rename_buffers(statement: Statement, table: Mapping[str, str]) -> Statement:
    """The statement with another name for its buffer."""
    match statement:
        case Load() | Random() | Store():
            return replace(statement, buffer=table[statement.buffer])
        case _:
            return statement
