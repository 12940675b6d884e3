"""scatter_add without atomics: each program owns a tile of the result and looks for the updates that belong there."""

from __future__ import annotations

from graphc.codegen.triton.collapse import collapse
from graphc.codegen.triton.expressions import TRITON_TYPES, dim_text, without_parentheses
from graphc.codegen.triton.kernel import DEFAULT_STAGES, KernelNames, KernelSource, ir_lines
from graphc.codegen.triton.printer import Scope
from graphc.codegen.triton.schedule import Group, next_power_of_2, size_guess
from graphc.ir.kernel import Anchor, AnchorOperation, Axis, Kernel
from graphc.templates import render
from graphc.types import Dim, product

BLOCK_K = 32
TEMPLATE_NAMES = (
    "column_blocks", "row_blocks", "slice", "m", "n", "k", "start", "accumulator", "target", "hits", "updates",
    "m_inside", "n_inside", "k_inside", "m_first",
)  # fmt: skip


def print_scatter(kernel: Kernel, anchor: AnchorOperation, function: str) -> KernelSource:
    """The source of a scatter_add with its epilogue; the result's axes are those before, at and behind `axis`."""
    (nest,) = kernel.nests
    types = {p.name: p.type for p in kernel.parameters}
    shared = KernelNames.of(kernel)
    for name in TEMPLATE_NAMES:
        shared.names.new(name)
    axis = int(anchor.attributes["axis"])
    before, target, behind = nest.axes[:axis], nest.axes[axis], nest.axes[axis + 1 :]
    indices, updates = anchor.operands
    count = types[indices].size
    rows = Group("m", (target,), 8)
    width = product(a.extent for a in behind)
    columns = Group("n", behind, min(32, next_power_of_2(max(size_guess(width), 1))))
    blocks = (("BLOCK_M", rows.block), ("BLOCK_N", columns.block), ("BLOCK_K", BLOCK_K))
    variables = {target.name: "m[:, None]"}
    lines = _decode(shared, "slice", before, "", variables) + _decode(
        shared, "n", behind, "[None, :]", variables
    )
    scope = _scope(kernel, shared, rows, columns, before, variables)
    flat = collapse(nest, types, keep_axes=True)
    for statement in flat.body:
        if isinstance(statement, Anchor):
            scope.declare(statement.name, statement.dtype, frozenset(("m", "n")))
            scope.text[statement.name] = "accumulator"
    text = render(
        "triton/scatter_add.py.j2",
        ir=ir_lines(kernel),
        function=function,
        shared=shared,
        parameters=list(shared.pointers.values()),
        blocks=blocks,
        wide=bool(shared.wide),
        comment=f"{anchor.primitive} {'; '.join(map(str, anchor.origins))}".rstrip(),
        indices=shared.pointers[indices],
        updates=shared.pointers[updates],
        count=without_parentheses(dim_text(count)),
        size=without_parentheses(dim_text(target.extent)),
        width=dim_text(width),
        slices=bool(before),
        lines=lines,
        accumulator=TRITON_TYPES[anchor.accumulator],
        wide_cast="" if shared.index_type == "tl.int32" else f".to({shared.index_type})",
        epilogue=scope.lines([s for s in flat.body if not isinstance(s, Anchor)]),
    )
    slices = tuple((a.extent, 1) for a in before)
    return KernelSource(
        function=function,
        text=text,
        pointers=tuple(shared.pointers.values()),
        symbols=shared.symbols,
        blocks=blocks,
        grid=((*slices, (target.extent, rows.block), (width, columns.block)),),
        warps=4,
        stages=DEFAULT_STAGES,
        wide=shared.wide,
        helpers=frozenset(scope.helpers),
    )


def _decode(
    shared: KernelNames, index: str, axes: tuple[Axis, ...], subscript: str, variables: dict[str, str]
) -> list[str]:
    if len(axes) == 1:
        variables[axes[0].name] = f"{index}{subscript}"
        return []
    lines: list[str] = []
    inner: Dim = 1
    for position in range(len(axes) - 1, -1, -1):
        axis = axes[position]
        text = index if inner == 1 else f"{index} // {dim_text(inner)}"
        if position > 0:
            text = f"{text} % {dim_text(axis.extent)}"
        name = shared.names.of("axis", axis.name)
        lines.append(f"{name} = {text}")
        variables[axis.name] = f"{name}{subscript}"
        inner = inner * axis.extent
    return lines


def _scope(
    kernel: Kernel,
    shared: KernelNames,
    rows: Group,
    columns: Group,
    slices: tuple[Axis, ...],
    variables: dict[str, str],
) -> Scope:
    (nest,) = kernel.nests
    varies = {axis.name: frozenset((group.name,)) for group in (rows, columns) for axis in group.axes}
    return Scope(
        names=shared.names,
        pointers=shared.pointers,
        dtypes=shared.dtypes,
        extents={axis.name: axis.extent for axis in nest.axes},
        variables=variables,
        varies=varies | {axis.name: frozenset() for axis in slices},
        masks={"m": "m_inside[:, None]", "n": "n_inside[None, :]"},
        tile=(rows, columns),
        block_names={"m": "BLOCK_M", "n": "BLOCK_N"},
    )
