"""Structural equality of kernels: same loops and types, whatever their values and operators are called."""

from __future__ import annotations

from dataclasses import replace

from graphc.codegen.cpp.nests import rename_statement
from graphc.ir.kernel import Axis, Kernel, Nest, Statement, Store


def structure(kernel: Kernel) -> str:
    """A text that two kernels share exactly when one C++ function serves both, arguments by position."""
    buffers = {parameter.name: f"p{index}" for index, parameter in enumerate(kernel.parameters)}
    parameters = tuple(replace(p, name=buffers[p.name]) for p in kernel.parameters)
    nests = tuple(_canonical_nest(nest, buffers) for nest in kernel.nests)
    anchor = kernel.anchor
    if anchor is not None:
        anchor = replace(
            anchor,
            operands=tuple(buffers[name] for name in anchor.operands),
            results=tuple(name and buffers[name] for name in anchor.results),
            origins=(),
        )
    return repr((parameters, nests, anchor, kernel.attributes))


def _canonical_nest(nest: Nest, buffers: dict[str, str]) -> Nest:
    names = {axis.name: f"a{index}" for index, axis in enumerate(nest.axes)}
    for index, statement in enumerate(nest.body):
        if not isinstance(statement, Store):
            names[statement.name] = f"s{index}"
    axes = tuple(Axis(names[axis.name], axis.extent, axis.reduction) for axis in nest.axes)
    return Nest(axes, tuple(_canonical_statement(s, names, buffers) for s in nest.body))


def _canonical_statement(statement: Statement, names: dict[str, str], buffers: dict[str, str]) -> Statement:
    return replace(rename_statement(statement, names, buffers), origins=())
