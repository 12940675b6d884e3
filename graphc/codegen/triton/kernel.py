"""One kernel: its nests under their schedules, as the source of a Triton function and what its launch needs."""

from __future__ import annotations

from dataclasses import dataclass

from graphc.codegen.triton.collapse import collapse
from graphc.codegen.triton.expressions import Names, dim_text
from graphc.codegen.triton.nest import NestPrinter, NestText
from graphc.codegen.triton.scalars import HELPER_NAMES
from graphc.codegen.triton.schedule import GpuTarget, Group, NestSchedule, schedule
from graphc.ir.kernel import Affine, Kernel, Nest, Random
from graphc.templates import render
from graphc.types import Dim, DType, product

Grid = tuple[tuple[tuple[Dim, int], ...], ...]
"""Programs of a launch: the sum over nests of the product over groups of ceil(extent / block)."""

WIDE = 2**31
DEFAULT_STAGES = 3
"""What Triton takes where a launch says nothing."""


@dataclass(frozen=True, slots=True)
class KernelSource:
    """The text of a kernel's function, which takes the kernel's parameters in order, and how to launch it.

    `wide` are the sizes that decide whether indices take 64 bits (empty when that is settled at compile time).
    """

    function: str
    text: str
    pointers: tuple[str, ...]
    symbols: tuple[str, ...]
    blocks: tuple[tuple[str, int], ...]
    grid: Grid
    warps: int
    stages: int
    wide: tuple[Dim, ...]
    helpers: frozenset[str]


@dataclass
class KernelNames:
    """The names that all parts of a kernel share."""

    names: Names
    pointers: dict[str, str]
    dtypes: dict[str, DType]
    symbols: tuple[str, ...]
    wide: tuple[Dim, ...]
    index_type: str

    @classmethod
    def of(cls, kernel: Kernel) -> KernelNames:
        names = Names(HELPER_NAMES)
        symbols = tuple(names.new(symbol) for symbol in kernel.symbols)
        pointers = {p.name: names.new(f"{p.name}_ptr") for p in kernel.parameters}
        sizes = [p.type.size for p in kernel.parameters]
        sizes += [product(axis.extent for axis in nest.axes) for nest in kernel.nests]
        sizes += [
            _reach(statement.index, nest)
            for nest in kernel.nests
            for statement in nest.body
            if isinstance(statement, Random)
        ]
        symbolic = tuple(dict.fromkeys(size for size in sizes if not isinstance(size, int)))
        large = any(isinstance(size, int) and size >= WIDE for size in sizes)
        index_type = "tl.int64" if large else "INDEX" if symbolic else "tl.int32"
        dtypes = {p.name: p.type.dtype for p in kernel.parameters}
        return cls(names, pointers, dtypes, symbols, () if large else symbolic, index_type)

    @property
    def head(self) -> list[str]:
        """The first lines of a kernel: the program's number, and sizes in the type of an index."""
        cast = "" if self.index_type == "tl.int32" else f".to({self.index_type})"
        lines = [f"{symbol} = {symbol}.to({self.index_type})" for symbol in self.symbols] if cast else []
        return [*lines, f"program = tl.program_id(0){cast}"]


def print_kernel(kernel: Kernel, function: str, target: GpuTarget) -> KernelSource:
    """The source of a kernel without an anchor."""
    shared = KernelNames.of(kernel)
    types = {parameter.name: parameter.type for parameter in kernel.parameters}
    nests = [collapse(nest, types) for nest in kernel.nests]
    schedules = [schedule(nest, target) for nest in nests]
    if len(nests) == 1:
        return _single(kernel, function, shared, nests[0], schedules[0])
    return _horizontal(kernel, function, shared, nests, schedules)


def _reach(expression: Affine, nest: Nest) -> Dim:
    """A bound of the values that a counter takes."""
    extents = {axis.name: axis.extent for axis in nest.axes}
    return sum((stride * extents[name] for name, stride in expression.terms), start=expression.offset)


def grid_of(plan: NestSchedule) -> tuple[tuple[Dim, int], ...]:
    """(extent, block) of every group that the programs of a nest are numbered by."""
    return tuple((group.extent, group.block) for group in plan.grid)


def _source(
    kernel: Kernel,
    function: str,
    shared: KernelNames,
    text: str,
    blocks: tuple[tuple[str, int], ...],
    plans: list[NestSchedule],
    helpers: set[str],
) -> KernelSource:
    return KernelSource(
        function=function,
        text=text,
        pointers=tuple(shared.pointers.values()),
        symbols=shared.symbols,
        blocks=blocks,
        grid=tuple(grid_of(plan) for plan in plans),
        warps=max(plan.warps for plan in plans),
        stages=DEFAULT_STAGES,
        wide=shared.wide,
        helpers=frozenset(helpers),
    )


def _single(
    kernel: Kernel, function: str, shared: KernelNames, nest: Nest, plan: NestSchedule
) -> KernelSource:
    printer = NestPrinter(
        nest, plan, shared.names, shared.pointers, shared.dtypes, "program", shared.index_type
    )
    part = printer.text()
    text = render(
        "triton/kernel.py.j2",
        ir=ir_lines(kernel),
        function=function,
        shared=shared,
        parameters=list(shared.pointers.values()),
        blocks=part.blocks,
        nest=part,
        wide=bool(shared.wide),
    )
    return _source(kernel, function, shared, text, part.blocks, [plan], part.helpers)


@dataclass
class Part:
    """One nest of a horizontal kernel: its function, what that takes, and which programs run it."""

    function: str
    parameters: list[str]
    nest: NestText
    blocks: list[tuple[str, str]]
    count: str


def _horizontal(
    kernel: Kernel, function: str, shared: KernelNames, nests: list[Nest], plans: list[NestSchedule]
) -> KernelSource:
    """Nests side by side: each has a range of the program numbers and a function of its own."""
    parts: list[Part] = []
    blocks: dict[str, int] = {}
    helpers: set[str] = set()
    for number, (nest, plan) in enumerate(zip(nests, plans, strict=True)):
        names = KernelNames.of(kernel)
        used = list(dict.fromkeys(s.buffer for s in nest.body if hasattr(s, "buffer")))
        printer = NestPrinter(
            nest, plan, names.names, names.pointers, names.dtypes, "program", shared.index_type
        )
        text = printer.text()
        arguments = []
        for name, size in text.blocks:
            # Nests of one block size share its constant.
            common = next((key for key, value in blocks.items() if value == size), None)
            common = common or shared.names.new(f"BLOCK_{size}")
            blocks[common] = size
            arguments.append((name, common))
        parts.append(
            Part(
                f"{function}__{number}",
                [names.pointers[buffer] for buffer in used],
                text,
                arguments,
                _programs(
                    plan.grid, dict(zip((g.name for g in plan.tile), (c for _, c in arguments), strict=True))
                ),
            )
        )
        helpers |= text.helpers
    source = render(
        "triton/horizontal.py.j2",
        ir=ir_lines(kernel),
        function=function,
        shared=shared,
        parameters=list(shared.pointers.values()),
        blocks=tuple(blocks.items()),
        parts=parts,
        wide=bool(shared.wide),
    )
    return _source(kernel, function, shared, source, tuple(blocks.items()), plans, helpers)


def _programs(grid: tuple[Group, ...], blocks: dict[str, str]) -> str:
    """The number of programs of a nest, in Triton."""
    parts = [
        f"tl.cdiv({dim_text(group.extent)}, {blocks[group.name]})"
        if group.block > 1
        else dim_text(group.extent)
        for group in grid
    ]
    return " * ".join(parts) or "1"


def ir_lines(kernel: Kernel) -> list[str]:
    """The kernel's IR, for the comment above its function."""
    return str(kernel).splitlines()
