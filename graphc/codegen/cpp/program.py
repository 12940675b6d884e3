"""A Program as C++ sources: one function a kernel, one entry point that calls them in order."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from graphc.codegen.cpp.anchors import workspaces
from graphc.codegen.cpp.equal import structure
from graphc.codegen.cpp.expressions import MEMORY_TYPES, Names, dim_text
from graphc.codegen.cpp.kernels import Function, generate_function
from graphc.codegen.cpp.products import mark_dots
from graphc.codegen.cpp.scratch import add_scratch
from graphc.codegen.cpp.split import split_reductions
from graphc.codegen.cpp.target import CpuTarget, detect
from graphc.codegen.cpp.team import Team, team_runs
from graphc.codegen.cpp.team import teams as teams_of
from graphc.codegen.cpp.together import run_together
from graphc.codegen.cpp.units import units
from graphc.ir.kernel import Kernel
from graphc.ir.program import Buffer, Program, Role
from graphc.templates import environment, render

FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512", "-fno-math-errno", "-fno-trapping-math",
    "-fno-signed-zeros", "-fvisibility=hidden", "-fopenmp", "-shared", "-fPIC",
)  # fmt: skip
HEADERS = (
    "prelude.h",
    "vector_math.h",
    "philox.h",
    "lanes.h",
    "half.h",
    "scratch.h",
    "tile.h",
    "packed.h",
    "operands.h",
    "strips.h",
    "matvec.h",
    "gemm.h",
    "packet.h",
    "small_gemm.h",
    "conv.h",
    "channels_last.h",
    "winograd_weight.h",
    "winograd.h",
    "winograd_last.h",
    "winograd_gradient.h",
    "depthwise.h",
    "scatter.h",
    "attention.h",
    "attention_gradient.h",
    "recurrence.h",
    "recurrence_gradient.h",
)


@dataclass(frozen=True, slots=True)
class CppProgram:
    """Sources of one shared library.

    `files`: (name, text), headers included; every .cpp is a unit. `program`: what the sources run, with workspace
    buffers appended. `labels`: (unit, operators that it holds), for messages. `prologue`: the sources of what computes
    the program's constant buffers.
    """

    name: str
    files: tuple[tuple[str, str], ...]
    program: Program
    flags: tuple[str, ...]
    target: CpuTarget
    labels: tuple[tuple[str, str], ...]
    prologue: CppProgram | None = None


def generate(program: Program, target: CpuTarget | None = None) -> CppProgram:
    """Print a program for a CPU, by default this machine's."""
    target = target or detect()
    program = add_workspaces(run_together(split_reductions(program, target), target), target)
    program = mark_dots(program, target)
    runs = team_runs(program, target)
    together = {program.steps[position].kernel for first, last in runs for position in range(first, last + 1)}
    functions = _functions(program, target, together)
    scratch = [function.scratch for function in functions]
    program = add_scratch(program, scratch, target.cores)
    teams = teams_of(program, runs, scratch)
    distinct = list({function.name: function for function in functions}.values())
    parts = units(distinct, target)
    stem = Names().new(program.name)
    entry = f"{stem}.cpp"
    if len(parts) == 1:
        files = [(entry, _entry_unit(program, target, functions, distinct, teams))]
        labels = [(entry, _names(distinct))]
    else:
        parts = [[replace(f, text=f.text.replace("static void", "void", 1)) for f in part] for part in parts]
        files = [(entry, _entry_unit(program, target, functions, [], teams))]
        files.append(
            (
                f"{stem}_kernels.h",
                render("cpp/program.h.j2", title=program.name, declarations=_declarations(distinct)),
            )
        )
        labels = [(entry, "the entry point")]
        for number, unit in enumerate(parts, 1):
            files.append((f"{stem}_{number}.cpp", _kernel_unit(program, f"{stem}_kernels.h", number, unit)))
            labels.append((f"{stem}_{number}.cpp", _names(unit)))
    files += _headers(distinct)
    prologue = generate(program.prologue, target) if program.prologue is not None else None
    return CppProgram(program.name, tuple(files), program, FLAGS, target, tuple(labels), prologue)


def add_workspaces(program: Program, target: CpuTarget) -> Program:
    """Give anchors the buffers of their own that their templates ask for."""
    needs = [workspaces(kernel, target) for kernel in program.kernels]
    if not any(needs):
        return program
    kernels = tuple(
        replace(kernel, parameters=(*kernel.parameters, *need)) if need else kernel
        for kernel, need in zip(program.kernels, needs, strict=True)
    )
    buffers, steps = list(program.buffers), []
    for step in program.steps:
        for need in needs[step.kernel]:
            step = replace(step, arguments=(*step.arguments, len(buffers)))
            kernel = program.kernels[step.kernel]
            buffers.append(
                Buffer(f"{kernel.name}.{need.name}", need.type, Role.WORKSPACE, origins=kernel.origins)
            )
        steps.append(step)
    return replace(program, buffers=tuple(buffers), kernels=kernels, steps=tuple(steps))


def _functions(program: Program, target: CpuTarget, together: Collection[int]) -> list[Function]:
    """The function of each kernel; structurally equal kernels share one. Those in `together` are for teams."""
    names = Names(program.symbols)
    keys = [structure(kernel) for kernel in program.kernels]
    shared: dict[str, list[Kernel]] = {}
    for key, kernel in zip(keys, program.kernels, strict=True):
        shared.setdefault(key, []).append(kernel)
    in_team = {keys[number] for number in together}
    made = {
        key: generate_function(
            kernels[0], names.new(kernels[0].name), target, tuple(kernels[1:]), key in in_team
        )
        for key, kernels in shared.items()
    }
    return [made[key] for key in keys]


def _names(functions: list[Function]) -> str:
    return ", ".join(function.name for function in functions)


def _declarations(functions: list[Function]) -> list[str]:
    return [function.declaration for function in functions]


def _used_headers(functions: list[Function]) -> list[str]:
    return [header for header in HEADERS if any(header in function.headers for function in functions)]


def _kernel_unit(program: Program, header: str, number: int, functions: list[Function]) -> str:
    return render(
        "cpp/unit.cpp.j2",
        title=program.name,
        header=header,
        part=number,
        headers=_used_headers(functions),
        kernels=[function.text for function in functions],
    )


def _entry_unit(
    program: Program,
    target: CpuTarget,
    functions: list[Function],
    inside: list[Function],
    teams: list[Team],
) -> str:
    from graphc import __version__

    header = f"{Names().new(program.name)}_kernels.h"
    return render(
        "cpp/program.cpp.j2",
        title=f"program {program.name}",
        version=__version__,
        target=f"{target.isa}, {target.vector_bytes * 8}-bit vectors",
        build=f"c++ {' '.join(FLAGS)} *.cpp -lmvec -lm -o program.so",
        alone="".join(f"{name}=64 " for name in program.symbols),
        sizes=", ".join(program.symbols),
        buffers=[
            f"{index:3} {buffer.role.value:12} {buffer.name}: {buffer.type}"
            for index, buffer in enumerate(program.buffers)
        ],
        headers=(_used_headers(inside) if inside else [header]) if functions else ["prelude.h"],
        kernels=[function.text for function in inside],
        symbols=len(program.symbols),
        prepare=_sizes(program),
        calls=_calls(program, functions),
        marks=_marks(program, functions, teams),
        options=_options(program),
        table=_buffer_table(program),
    )


def _sizes(program: Program) -> list[str]:
    lines = [f"const int64_t {name} = sizes[{index}];" for index, name in enumerate(program.symbols)]
    return lines or ["(void)sizes;"]


def _options(program: Program) -> list[str]:
    """Sizes of the symbolic dimensions from the command line, for the program on its own."""
    lines = [f'const int64_t {name} = gc_option(count, words, "{name}", 64);' for name in program.symbols]
    return [*lines, f"const int64_t sizes[] = {{{', '.join(program.symbols) or '0'}}};"]


def _buffer_table(program: Program) -> list[str]:
    return [
        f'{{"{buffer.name}", "{buffer.type.dtype}", {dim_text(buffer.type.size)}, {buffer.type.dtype.itemsize}}},'
        for buffer in program.buffers
    ] or ['{"", "f32", 0, 4},']


def _calls(program: Program, functions: list[Function]) -> list[str]:
    calls = []
    for step in program.steps:
        kernel, function = program.kernels[step.kernel], functions[step.kernel]
        arguments = [
            f"({MEMORY_TYPES[parameter.type.dtype]}*)buffers[{index}]"
            + (f" + {offset}" if (offset := step.offset(index)) else "")
            for parameter, index in zip(kernel.parameters, step.arguments, strict=True)
        ]
        calls.append(f"{function.name}({', '.join([*arguments, *function.symbols])});")
    return calls


def _marks(program: Program, functions: list[Function], teams: list[Team]) -> list[str]:
    """How each step is run: alone, or in a team: with or without a wait after it, or as the last (team.h)."""
    marks = ["GC_TEAM_LAST" if functions[step.kernel].in_team else "GC_NO_TEAM" for step in program.steps]
    for team in teams:
        for position in range(team.first, team.last):
            marks[position] = "GC_TEAM_WAITS" if position in team.waits else "GC_TEAM"
    return marks


def _headers(functions: list[Function]) -> list[tuple[str, str]]:
    """The template headers in use and those that they include, by name."""
    loader = environment().loader
    assert loader is not None
    found: dict[str, str] = {}

    def add(name: str) -> None:
        if name not in found:
            text, _, _ = loader.get_source(environment(), f"cpp/{name}")
            found[name] = text
            for line in text.splitlines():
                if line.startswith('#include "'):
                    add(line.split('"')[1])

    add("prelude.h")
    add("backoff.h")
    add("team.h")
    add("alone.h")
    for function in functions:
        for header in function.headers:
            add(header)
    return sorted(found.items())
