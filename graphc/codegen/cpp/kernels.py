"""One kernel as a C++ function: its signature, its nests, or its anchor's template with the nest as epilogue."""

from __future__ import annotations

from dataclasses import dataclass, replace

from graphc.codegen.cpp.anchors import print_anchor
from graphc.codegen.cpp.expressions import MEMORY_TYPES, Names, dim_text
from graphc.codegen.cpp.nests import expressions, lower
from graphc.codegen.cpp.printer import NestPrinter
from graphc.codegen.cpp.schedule import HALVES, PARALLEL_COST, Schedule, decide, item_axes, shape_nests
from graphc.codegen.cpp.scratch import SCRATCH, Scratch, scratch_of
from graphc.codegen.cpp.target import CpuTarget
from graphc.codegen.cpp.team import shared_schedule
from graphc.codegen.cpp.together import TOGETHER, lowered_together, rows_at_once
from graphc.codegen.cpp.writer import Writer
from graphc.ir.kernel import Access, Kernel, Load, Nest, Store
from graphc.templates import render
from graphc.types import Dim, DType, dim_symbols, dimension


@dataclass(frozen=True, slots=True)
class Function:
    """A kernel's C++: `symbols` are the sizes that it takes after its buffers; `in_team`: see `team.py`."""

    name: str
    declaration: str
    text: str
    symbols: tuple[str, ...]
    headers: tuple[str, ...]
    scratch: Scratch
    in_team: bool = False


def kernel_symbols(kernel: Kernel) -> tuple[str, ...]:
    """Every symbolic dimension that occurs anywhere in the kernel, sorted."""
    dims: list[Dim] = []
    for nest in kernel.nests:
        for statement in nest.body:
            for expression in expressions(statement):
                dims += [expression.offset, *(stride for _, stride in expression.terms)]
            if isinstance(statement, (Load, Store)):
                dims += [bound for guard in statement.guards for bound in (guard.low, guard.high)]
    if kernel.anchor is not None:
        dims += list(kernel.anchor.result.shape)
    return tuple(sorted({*kernel.symbols, *dim_symbols(dims)}))


def generate_function(
    kernel: Kernel, name: str, target: CpuTarget, equals: tuple[Kernel, ...] = (), in_team: bool = False
) -> Function:
    """Print a kernel; `equals` are kernels of other operators that the same function serves.

    `in_team`: all threads of a parallel region call it (`team.py`).
    """
    symbols = kernel_symbols(kernel)
    names = Names((*symbols, SCRATCH, "team", "share", "scope"))
    scalars = {s.name for nest in kernel.nests for s in nest.body if not isinstance(s, Store)}
    buffers = {
        p.name: names.new(f"{p.name}_data" if p.name in scalars else p.name) for p in kernel.parameters
    }
    parameters = []
    for parameter in kernel.parameters:
        constant = "const " if parameter.access is Access.IN else ""
        parameters.append(f"{constant}{MEMORY_TYPES[parameter.type.dtype]}* {buffers[parameter.name]}")
    out = Writer(1)
    headers: tuple[str, ...] = ("prelude.h", "vector_math.h", "philox.h", "lanes.h")
    if kernel.anchor is not None:
        headers += print_anchor(out, kernel, buffers, names, target)
    else:
        headers += _print_nests(out, kernel, buffers, names, target, in_team)
    if any(parameter.type.dtype in HALVES for parameter in kernel.parameters):
        headers += ("half.h",)
    scratch = scratch_of(out.scratch, headers)
    prologue = ""
    if scratch:
        headers += ("scratch.h",)
        parameters.append(f"{MEMORY_TYPES[DType.U8]}* {SCRATCH}")
        prologue = _scratch_prologue(scratch, target)
    signature = ", ".join(parameters + [f"int64_t {symbol}" for symbol in symbols])
    text = render(
        "cpp/kernel.cpp.j2",
        comment=kernel_comment(kernel, equals),
        function=name,
        parameters=signature,
        body=prologue + out.text,
    )
    return Function(name, f"void {name}({signature});", text, symbols, headers, scratch, in_team)


def _scratch_prologue(scratch: Scratch, target: CpuTarget) -> str:
    """The lines that hand the kernel's scratch to its templates, and to loops of its own."""
    out = Writer(1)
    out.line(f"const gc_scratch_view team = {scratch.view(target.cores)};")
    if scratch.template:
        out.line("const gc_scratch_scope scope(team);")
    return out.text + "\n"


def kernel_comment(kernel: Kernel, equals: tuple[Kernel, ...]) -> list[str]:
    """The user's operators, those of equal kernels, then the kernel's IR."""
    text = str(kernel)
    also = [f"and for {other.name}: {', '.join(map(str, other.origins))}".rstrip(": ") for other in equals]
    return [*(str(origin) for origin in kernel.origins), *also, *text.splitlines()]


def _print_nests(
    out: Writer, kernel: Kernel, buffers: dict[str, str], names: Names, target: CpuTarget, in_team: bool
) -> tuple[str, ...]:
    """Print all nests; returns the headers that they need."""
    if TOGETHER in kernel.attributes:
        return _print_together(out, kernel, buffers, names, target)
    nests = [part for nest in kernel.nests for part in shape_nests(lower(nest, kernel), target)]
    schedules = [decide(nest, kernel, target) for nest in nests]
    headers = ("tile.h",) if any(schedule.turned for schedule in schedules) else ()
    if in_team:
        for nest, schedule in zip(nests, schedules, strict=True):
            chosen = shared_schedule(nest, schedule)
            NestPrinter(out, nest, chosen, buffers, names, in_region=True).print()
        return headers
    total = dimension(sum((schedule.work for schedule in schedules), start=0))
    pays = bool(kernel.attributes.get("threads", not isinstance(total, int) or total >= PARALLEL_COST))
    streams = any(schedule.streams for schedule in schedules)
    if pays and (len(nests) > 1 or streams):
        condition = "" if isinstance(total, int) else f" if ({dim_text(total)} > {PARALLEL_COST})"
        out.line(f"#pragma omp parallel{condition}")
        with out.block(""):
            for nest, schedule in zip(nests, schedules, strict=True):
                NestPrinter(out, nest, schedule, buffers, names, in_region=True).print()
            if streams:
                out.line("gc_stream_fence();")
        return headers
    for nest, schedule in zip(nests, schedules, strict=True):
        _print_alone(out, nest, schedule, buffers, names, pays)
    if streams:
        out.line("gc_stream_fence();")
    return headers


def _print_together(
    out: Writer, kernel: Kernel, buffers: dict[str, str], names: Names, target: CpuTarget
) -> tuple[str, ...]:
    """Print nests that share their first axis, which threads share out."""
    nests = lowered_together(kernel, target)
    assert nests is not None
    schedules = [replace(decide(nest, kernel, target), threaded=False) for nest in nests]
    chunk = nests[0].axes[0]
    out.line("#pragma omp parallel")
    with out.block(""):
        out.line("#pragma omp for schedule(static) nowait")
        variable = names.new(chunk.name)
        with out.block(f"for (int64_t {variable} = 0; {variable} < {dim_text(chunk.extent)}; ++{variable})"):
            pairs = zip(nests, schedules, strict=True)
            printers = [NestPrinter(out, nest, schedule, buffers, names) for nest, schedule in pairs]
            for printer in printers:
                printer.env[chunk.name] = variable
            rows, columns = printers
            count = rows_at_once(nests[0], nests[1], target)
            in_turn = nests[0].axes[1] in item_axes(nests[0], schedules[0])
            if count and in_turn and columns.runs_in_parts() and not columns.is_blocked():
                _print_parts(rows, columns, names, count)
            else:
                rows.print()
                columns.print()
        if any(schedule.streams for schedule in schedules):
            out.line("gc_stream_fence();")
    return ("tile.h",) if any(schedule.turned for schedule in schedules) else ()


def _print_parts(rows: NestPrinter, columns: NestPrinter, names: Names, count: int) -> None:
    """Print a chunk, `count` rows at a time: the columns find them in the cache that is next to the core."""
    part = rows.nest.axes[1]
    start, stop = names.new(f"{part.name}_start"), names.new(f"{part.name}_stop")
    with columns.columns_in_parts() as add_rows:
        header = f"for (int64_t {start} = 0; {start} < {dim_text(part.extent)}; {start} += {count})"
        with columns.block(header):
            rows.out.line(f"const int64_t {stop} = {start} + {count};")
            rows.bounds[part.name] = start, stop
            rows.print()
            add_rows(start, stop)


def _print_alone(
    out: Writer, nest: Nest, schedule: Schedule, buffers: dict[str, str], names: Names, pays: bool
) -> None:
    chosen = schedule if pays else replace(schedule, threaded=False)
    NestPrinter(out, nest, chosen, buffers, names).print()
