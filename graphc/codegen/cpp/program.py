"""A Program as C++ sources: one function a kernel, one entry point that calls them in order."""

from __future__ import annotations

from dataclasses import dataclass

from graphc.codegen.cpp.expressions import TYPES, Names
from graphc.codegen.cpp.kernels import Function, generate_function
from graphc.codegen.cpp.target import CpuTarget, detect
from graphc.ir.program import Program
from graphc.templates import environment, render

FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512", "-fno-math-errno", "-fno-trapping-math",
    "-fno-signed-zeros", "-fvisibility=hidden", "-fopenmp", "-shared", "-fPIC",
)  # fmt: skip
HEADERS = ("prelude.h", "vector_math.h", "philox.h", "lanes.h", "gemm.h", "conv.h", "scatter.h")


@dataclass(frozen=True, slots=True)
class CppProgram:
    """Sources of one shared library.

    `files`: (name, text), headers included; every .cpp is a unit. `program`: what the sources run, with workspace
    buffers appended. `labels`: (unit, operators that it holds), for messages.
    """

    name: str
    files: tuple[tuple[str, str], ...]
    program: Program
    flags: tuple[str, ...]
    target: CpuTarget
    labels: tuple[tuple[str, str], ...]


def generate(program: Program, target: CpuTarget | None = None) -> CppProgram:
    """Print a program for a CPU, by default this machine's."""
    target = target or detect()
    names = Names(program.symbols)
    functions = [
        generate_function(kernel, names.new(kernel.name), target, static=True) for kernel in program.kernels
    ]
    stem = Names().new(program.name)
    source = _entry_unit(program, target, functions, [f.text for f in functions])
    files = [(f"{stem}.cpp", source), *_headers(functions)]
    labels = ((f"{stem}.cpp", ", ".join(kernel.name for kernel in program.kernels)),)
    return CppProgram(program.name, tuple(files), program, FLAGS, target, labels)


def _entry_unit(program: Program, target: CpuTarget, functions: list[Function], kernels: list[str]) -> str:
    from graphc import __version__

    used = [header for header in HEADERS if any(header in function.headers for function in functions)]
    return render(
        "cpp/program.cpp.j2",
        title=f"program {program.name}",
        version=__version__,
        target=f"{target.isa}, {target.vector_bytes * 8}-bit vectors",
        build=f"c++ {' '.join(FLAGS)} *.cpp -lmvec -lm -o program.so",
        sizes=", ".join(program.symbols),
        buffers=[
            f"{index:3} {buffer.role.value:12} {buffer.name}: {buffer.type}"
            for index, buffer in enumerate(program.buffers)
        ],
        headers=used or ["prelude.h"],
        kernels=kernels,
        prepare=_sizes(program),
        calls=_calls(program, functions),
    )


def _sizes(program: Program) -> list[str]:
    lines = [f"const int64_t {name} = sizes[{index}];" for index, name in enumerate(program.symbols)]
    return lines or ["(void)sizes;"]


def _calls(program: Program, functions: list[Function]) -> list[str]:
    calls = []
    for step in program.steps:
        kernel, function = program.kernels[step.kernel], functions[step.kernel]
        arguments = [
            f"({TYPES[parameter.type.dtype]}*)buffers[{index}]"
            for parameter, index in zip(kernel.parameters, step.arguments, strict=True)
        ]
        calls.append(f"{function.name}({', '.join([*arguments, *function.symbols])});")
    return calls


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
    for function in functions:
        for header in function.headers:
            add(header)
    return sorted(found.items())
