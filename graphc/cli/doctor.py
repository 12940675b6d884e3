"""`graphc doctor`: what graphc finds on this machine, and what is missing."""

import dataclasses
import json
from collections.abc import Iterable

import click
from rich import box
from rich.console import Console
from rich.table import Table

from graphc.diagnostics import EXIT_TOOLCHAIN
from graphc.runtime.survey import Compiler, Survey

JSON_SCHEMA = 1


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON with a schema number instead of tables.")
def doctor(as_json: bool) -> int:
    """Show compilers, GPU, versions and the cache, and say what is missing.

    Exit code 0 if generated C++ can be compiled here and the cache can be written, else 4.
    """
    from graphc.runtime.folders import cache_folder
    from graphc.runtime.survey import survey

    found = survey(cache_folder())
    problems = problems_of(found)
    if as_json:
        click.echo(json.dumps(as_data(found, problems), indent=2))
    else:
        console = Console()
        for table in tables_of(found):
            console.print(table)
    for problem in problems:
        click.echo(problem, err=True)
    return EXIT_TOOLCHAIN if problems else 0


def problems_of(found: Survey) -> tuple[str, ...]:
    """Return what keeps graphc from compiling here, each with its remedy; a missing GPU is no problem."""
    problems = []
    if found.compiler is None:
        tried = "; ".join(f"{compiler.command}: {compiler.problem}" for compiler in found.compilers)
        problems.append(
            f"no working C++ compiler ({tried})\nhelp: install g++ or clang++, or name one in CXX; "
            "until then models run on the reference executor"
        )
    if not found.cache.writable:
        problems.append(
            f"the cache folder {found.cache.folder} cannot be written\n"
            "help: name another folder in GRAPHC_CACHE_DIR"
        )
    return tuple(problems)


def as_data(found: Survey, problems: Iterable[str]) -> dict[str, object]:
    """Return everything found as plain data; `schema` rises when a key changes its meaning or goes."""
    chosen = found.compiler
    return {
        "schema": JSON_SCHEMA,
        **dataclasses.asdict(found),
        "compiler": chosen.command if chosen else None,
        "problems": list(problems),
    }


def tables_of(found: Survey) -> list[Table]:
    """Lay everything found out as tables."""
    machine = _table("machine", "", "")
    machine.add_row("system", found.system)
    machine.add_row("processor", f"{found.processor}, {found.cores} cores")
    machine.add_row("python", found.python)

    compilers = _table("C++ compilers", "command", "version", "vectors", "OpenMP", "libmvec", "")
    for compiler in found.compilers:
        compilers.add_row(*_compiler_row(compiler, compiler is found.compiler))

    gpus = _table("GPU", "device", "architecture", "memory")
    for gpu in found.gpus:
        gpus.add_row(gpu.name, gpu.capability, _size(gpu.memory_bytes))
    if not found.gpus:
        gpus.add_row("none", "Triton kernels are generated and checked, not run", "")
    gpus.caption = f"driver {found.driver or 'none'}, CUDA of torch {found.cuda or 'none'}"

    libraries = _table("libraries", "name", "version")
    for name, version in found.libraries.items():
        libraries.add_row(name, version or "not installed")

    cache = _table("cache", "", "")
    cache.add_row("folder", found.cache.folder)
    cache.add_row("entries", f"{found.cache.entries}, {_size(found.cache.size_bytes)}")
    cache.add_row("free space", _size(found.cache.free_bytes))
    cache.add_row("writable", _yes(found.cache.writable))
    return [machine, compilers, gpus, libraries, cache]


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        show_header=any(columns),
        box=box.SIMPLE,
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _compiler_row(compiler: Compiler, chosen: bool) -> tuple[str, ...]:
    if not compiler.works:
        return compiler.command, compiler.version, "", "", "", compiler.problem
    vectors = f"{compiler.vector_bits} bits" if compiler.vector_bits else "unknown"
    threads = f"{compiler.openmp_threads} threads"
    return (
        compiler.command,
        compiler.version,
        vectors,
        threads,
        _yes(compiler.libmvec),
        "used" if chosen else "",
    )


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _size(count: int) -> str:
    """Write a number of bytes with a binary unit: 1536 -> '1.5 KiB'."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
