"""The structure of a kernel: equal for kernels that differ in names only, so each is generated once."""

from __future__ import annotations

from dataclasses import replace

from graphc.ir.kernel import Kernel, Nest, Store
from graphc.passes.fusion.rewrite import rename_axes, rename_buffers, rename_scalars


def canonical(kernel: Kernel) -> tuple[Kernel, dict[str, str]]:
    """The kernel with parameters, axes and scalars numbered and origins dropped, and the new name of each old one."""
    table = {parameter.name: f"p{k}" for k, parameter in enumerate(kernel.parameters)}
    nests: list[Nest] = []
    names: dict[str, str] = dict(table)
    for nest in kernel.nests:
        axes = {axis.name: f"{'r' if axis.reduction else 'i'}{k}" for k, axis in enumerate(nest.axes)}
        scalars = {s.name: f"s{len(names) + k}" for k, s in enumerate(nest.body) if not isinstance(s, Store)}
        names.update(scalars)
        renamed = rename_axes(nest, axes)
        body = tuple(
            replace(rename_scalars(rename_buffers(s, table), scalars), origins=()) for s in renamed.body
        )
        nests.append(Nest(renamed.axes, body))
    anchor = kernel.anchor
    if anchor is not None:
        anchor = replace(
            anchor,
            operands=tuple(table[name] for name in anchor.operands),
            results=tuple(name and table[name] for name in anchor.results),
            origins=(),
        )
    parameters = tuple(replace(p, name=table[p.name]) for p in kernel.parameters)
    return replace(
        kernel, name="kernel", parameters=parameters, nests=tuple(nests), anchor=anchor, origins=()
    ), names


def structure(kernel: Kernel) -> str:
    """A text that two kernels share exactly when they differ in names only."""
    return repr(canonical(kernel)[0])
