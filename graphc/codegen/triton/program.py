"""A whole program as one Triton module: its source text, and what a launcher must know about it. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from graphc.codegen.triton import anchors, split
from graphc.codegen.triton.expressions import Names, dim_text, identifier, without_parentheses
from graphc.codegen.triton.kernel import DEFAULT_STAGES, Grid, KernelSource, print_kernel
from graphc.codegen.triton.scalars import HELPER_NAMES, with_required
from graphc.codegen.triton.schedule import GpuTarget
from graphc.ir.kernel import Kernel
from graphc.ir.program import Buffer, Program, Role, Step
from graphc.templates import render
from graphc.types import Dim

RESERVED = frozenset({"run", "sizes", "main", "index_type", "torch", "triton", "tl", "buffers"})


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch: `arguments` are buffer numbers, `symbols` the sizes that follow them, `blocks` the constants.

    `offsets`: (buffer, elements), where in a buffer the launch's part of it begins.
    The grid has as many programs as the sum over nests of the product over groups of ceil(extent / block).
    """

    function: str
    arguments: tuple[int, ...]
    pointers: tuple[str, ...]
    symbols: tuple[str, ...]
    wide: tuple[Dim, ...]
    blocks: tuple[tuple[str, int], ...]
    grid: Grid
    warps: int
    stages: int
    offsets: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class TritonProgram:
    """A generated module. `program` is what it runs: kernels taken apart where that is faster, with workspaces.

    `prologue` computes the program's constant buffers.
    """

    name: str
    source: str
    launches: tuple[Launch, ...]
    program: Program
    prologue: TritonProgram | None = None

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The buffers of the given program, then the workspaces."""
        return self.program.buffers

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.program.symbols


def generate(program: Program, target: GpuTarget | None = None) -> TritonProgram:
    """Print every kernel of the program, once each, and its launches in order."""
    target = target or GpuTarget()
    program = _expand(program, target)
    names = Names(HELPER_NAMES | RESERVED)
    sources = [_print(kernel, names.new(kernel.name), target) for kernel in program.kernels]
    launches = tuple(_launch(sources[step.kernel], step) for step in program.steps)
    prologue = generate(program.prologue, target) if program.prologue is not None else None
    return TritonProgram(program.name, _module(program, sources, launches), launches, program, prologue)


def _expand(program: Program, target: GpuTarget) -> Program:
    """The program with each kernel replaced by those that are launched for it."""
    buffers, kernels, steps = list(program.buffers), list[Kernel](), list[Step]()
    stages = [split.stages_of(kernel, target) for kernel in program.kernels]
    first = [sum(len(parts) for parts, _ in stages[:number]) for number in range(len(stages))]
    for parts, _ in stages:
        kernels += parts
    for step in program.steps:
        parts, workspaces = stages[step.kernel]
        kernel = program.kernels[step.kernel]
        numbers = {p.name: n for p, n in zip(kernel.parameters, step.arguments, strict=True)}
        for name, type in workspaces:
            numbers[name] = len(buffers)
            buffers.append(Buffer(f"{name}.{len(buffers)}", type, Role.WORKSPACE, origins=kernel.origins))
        for position, part in enumerate(parts):
            arguments = tuple(numbers[p.name] for p in part.parameters)
            steps.append(Step(first[step.kernel] + position, arguments, step.offsets))
    return replace(program, buffers=tuple(buffers), kernels=tuple(kernels), steps=tuple(steps))


def _print(kernel: Kernel, function: str, target: GpuTarget) -> KernelSource:
    if kernel.anchor is not None:
        return anchors.print_anchor(kernel, function, target)
    return print_kernel(kernel, function, target)


def _launch(source: KernelSource, step: Step) -> Launch:
    return Launch(
        source.function,
        step.arguments,
        source.pointers,
        source.symbols,
        source.wide,
        source.blocks,
        source.grid,
        source.warps,
        source.stages,
        step.offsets,
    )


def _module(program: Program, sources: list[KernelSource], launches: tuple[Launch, ...]) -> str:
    helpers = with_required(set().union(*(source.helpers for source in sources)))
    symbols = tuple(identifier(symbol) for symbol in program.symbols)
    return render(
        "triton/module.py.j2",
        header=_header(program),
        functions=helpers,
        kernels=[source.text for source in sources],
        wide=any(source.wide for source in sources),
        symbols="".join(f", {symbol}" for symbol in symbols),
        parameters=", ".join(symbols),
        launches=[launch_text(launch) for launch in launches],
        buffers=[
            (b.name, f"torch.{str(b.type.dtype.torch).removeprefix('torch.')}", _plain(b.type.size))
            for b in program.buffers
        ],
        defaults=", ".join("64" for _ in symbols),
    )


def _header(program: Program) -> list[str]:
    return [
        f"{program.name}: Triton kernels made by graphc from the graph below.",
        "To make this file again: graphc dump MODEL --stage source --target gpu",
        "To run it alone: python FILE" + "".join(f" {symbol}" for symbol in program.symbols),
        "",
        *str(program.graph).splitlines(),
    ]


def launch_text(launch: Launch) -> str:
    """The launch as Python: function[grid](buffers, sizes, constants)."""
    constants = [f"{name}={value}" for name, value in launch.blocks]
    if launch.wide:
        constants.insert(0, f"INDEX=index_type({', '.join(_plain(size) for size in launch.wide)})")
    constants.append(f"num_warps={launch.warps}")
    constants += [f"num_stages={launch.stages}"] if launch.stages != DEFAULT_STAGES else []
    starts = dict(launch.offsets)
    buffers = (f"buffers[{n}][{starts[n]}:]" if n in starts else f"buffers[{n}]" for n in launch.arguments)
    arguments = [*buffers, *launch.symbols, *constants]
    head = f"{launch.function}[({grid_text(launch.grid)},)]"
    line = f"{head}({', '.join(arguments)})"
    if len(line) <= 104:
        return line
    return "\n".join([f"    {head}(", *(f"        {argument}," for argument in arguments), "    )"]).lstrip()


def grid_text(grid: Grid) -> str:
    """The number of programs, in Python."""
    nests = []
    for groups in grid:
        known, parts = 1, []
        for extent, block in groups:
            if isinstance(extent, int):
                known *= -(-extent // block)
            else:
                parts.append(f"triton.cdiv({_plain(extent)}, {block})" if block > 1 else dim_text(extent))
        nests.append(" * ".join([*parts, str(known)] if known != 1 or not parts else parts))
    if all(text.isdigit() for text in nests):
        return str(sum(map(int, nests)))
    return " + ".join(nests)


def _plain(dim: Dim) -> str:
    return without_parentheses(dim_text(dim))
