"""`graphc dump MODEL`: any stage between the declared model and the generated program, as text, JSON or dot."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphc.cli.model import load_model
from graphc.cli.options import Request, model_options
from graphc.cli.output import emit, emit_json, result_file
from graphc.diagnostics import closest
from graphc.ir.graph import Graph
from graphc.symbol import Symbol

if TYPE_CHECKING:
    import networkx

    from graphc.ir.program import Program

STAGES = {
    "symbol": "the declared operators",
    "graph": "the traced primitives",
    "grad": "with gradients of all parameters",
    "fused": "kernel launches over buffers",
    "kernels": "each kernel's loops",
    "source": "generated C++ or Triton",
    "plan": "where intermediates lie, and the peak",
}
FORMATS = ("text", "json", "dot", "svg")
STRATEGIES = ("none", "inplace", "coshare", "both", "optimal")


@click.command()
@model_options
@click.option(
    "--stage",
    type=click.Choice(list(STAGES)),
    default="graph",
    show_default=True,
    help=f"What to print. {'; '.join(f'{name}: {what}' for name, what in STAGES.items())}.",
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--after", metavar="PASS", default="", help="The graph after this pass, or after all.")
@click.option("--passes", "each_pass", is_flag=True, help="The graph after every pass that changed it.")
@click.option(
    "--memory",
    type=click.Choice(STRATEGIES),
    default="optimal",
    show_default=True,
    help="How the plan shares memory.",
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="A file instead of stdout; for sources a folder."
)
def dump(
    request: Request,
    stage: str,
    form: str,
    as_json: bool,
    after: str,
    each_pass: bool,
    memory: str,
    output: Path | None,
) -> None:
    """Print a stage of MODEL, from the declared operators to the generated program."""
    form = "json" if as_json else form
    if (after or each_pass) and stage != "graph":
        raise click.UsageError("--after and --passes belong to --stage graph")
    if memory != "optimal" and stage != "plan":
        raise click.UsageError("--memory belongs to --stage plan")
    if request.memory_budget and stage in ("symbol", "graph", "grad"):
        raise click.UsageError("--memory-budget belongs to the stages from fused on")
    if form == "svg" and stage != "plan":
        raise click.UsageError("--format svg draws the arena; it belongs to --stage plan")
    if form == "dot" and stage in ("kernels", "source", "plan"):
        raise click.UsageError(f"--stage {stage} is no graph, so it has no dot form; use text or json")
    printers: Mapping[str, Callable[[], None]] = {
        "symbol": lambda: _symbol(request, form, output),
        "graph": lambda: _graphs(request, form, after, each_pass, output),
        "grad": lambda: _graph(_gradient(request), form, "grad", output),
        "fused": lambda: _fused(request, form, output),
        "kernels": lambda: _kernels(request, form, output),
        "source": lambda: _source(request, form, output),
        "plan": lambda: _plan(request, form, memory, output),
    }
    printers[stage]()


# Symbols and graphs


def _network(network: networkx.MultiDiGraph, form: str, stage: str, output: Path | None) -> None:
    from graphc.cli.drawing import as_data, as_dot

    if form == "dot":
        emit(as_dot(network), output)
    else:
        emit_json({"stage": stage, **as_data(network)}, output)


def _symbol(request: Request, form: str, output: Path | None) -> None:
    value = load_model(request.model).value
    if not isinstance(value, Symbol):
        raise click.UsageError(f"{request.model} is a Graph; it has no stage symbol")
    if form == "text":
        emit(value.debug_str(), output)
        return
    from graphc.cli.drawing import symbol_network

    _network(symbol_network(value), form, "symbol", output)


def _gradient(request: Request) -> Graph:
    # A training step holds its gradients already.
    return request.graph() if request.optimizer else replace(request, train=True).graph()


def _graph(graph: Graph, form: str, stage: str, output: Path | None) -> None:
    if form == "text":
        emit(str(graph), output)
        return
    from graphc.cli.drawing import graph_network

    _network(graph_network(graph), form, stage, output)


def _graphs(request: Request, form: str, after: str, each_pass: bool, output: Path | None) -> None:
    graph = request.graph()
    if not after and not each_pass:
        _graph(graph, form, "graph", output)
        return
    steps = after_passes(graph)
    if after:
        names = [name for name, _ in steps]
        if after not in (*names, "all"):
            raise click.UsageError(f"there is no pass {after!r}; {closest(after, names) or ', '.join(names)}")
        chosen = steps[-1][1] if after == "all" else dict(steps)[after]
        _graph(chosen, form, "graph", output)
        return
    if form != "text":
        raise click.UsageError("--passes prints text; take --after PASS for one graph in another format")
    texts = [f"// as traced: {len(graph.nodes)} nodes\n{graph}"]
    for name, result in steps:
        if result is graph:
            texts.append(f"// {name}: no change\n")
        else:
            texts.append(f"// {name}: {len(graph.nodes)} -> {len(result.nodes)} nodes\n{result}")
        graph = result
    emit("\n".join(texts), output)


def after_passes(graph: Graph) -> list[tuple[str, Graph]]:
    """The graph after each pass of the usual pipeline, by the pass's name."""
    from graphc.passes.manager import PassManager, default_pipeline

    seen: list[tuple[str, Graph]] = []
    PassManager(default_pipeline(), dump=lambda index, name, result: seen.append((name, result))).run(graph)
    return seen[1:]


# Programs


def _program(request: Request, memory: str = "optimal") -> Program:
    from graphc.driver.compile import lower

    return lower(request.graph(), request.compile_options(memory), request.target).program


def _fused(request: Request, form: str, output: Path | None) -> None:
    program = _program(request)
    if form != "text":
        from graphc.cli.drawing import program_network

        _network(program_network(program), form, "fused", output)
        return
    emit(program_text(program), output)


def program_text(program: Program) -> str:
    """A program as lines: its buffers, then each launch with what it reads, writes and computes."""
    lines = [
        f"program {program.name}: {len(program.steps)} launches of {len(program.kernels)} kernels",
        "",
        "buffers",
    ]
    width = max((len(buffer.name) for buffer in program.buffers), default=0)
    lines += [
        f"  {buffer.name:<{width}}  {buffer.role.value:<12}  {buffer.type}" for buffer in program.buffers
    ]
    lines += ["", "launches"]
    for number, step in enumerate(program.steps):
        kernel = program.kernels[step.kernel]
        names = [program.buffers[index].name for index in step.arguments]
        reads = [n for n, p in zip(names, kernel.parameters, strict=True) if p.access.value != "out"]
        writes = [n for n, p in zip(names, kernel.parameters, strict=True) if p.access.value != "in"]
        lines.append(f"  {number}: {kernel.name}({', '.join(reads)}) -> ({', '.join(writes)})")
        lines += [f"       {origin}" for origin in kernel.origins]
    if program.prologue is not None:
        lines += ["", program_text(program.prologue)]
    return "\n".join(lines)


def _kernels(request: Request, form: str, output: Path | None) -> None:
    program = _program(request)
    if form == "text":
        emit("\n".join(str(kernel) for kernel in program.kernels), output)
        return
    kernels = [
        {
            "name": kernel.name,
            "launches": sum(program.kernels[step.kernel] is kernel for step in program.steps),
            "parameters": [
                {"name": p.name, "type": str(p.type), "access": p.access.value} for p in kernel.parameters
            ],
            "anchor": kernel.anchor.primitive if kernel.anchor else None,
            "origins": [str(origin) for origin in kernel.origins],
            "text": str(kernel),
        }
        for kernel in program.kernels
    ]
    emit_json({"stage": "kernels", "kernels": kernels}, output)


def _source(request: Request, form: str, output: Path | None) -> None:
    files = generated_files(_program(request), request.target)
    if form == "json":
        emit_json({"stage": "source", "target": request.target, "files": files}, output)
    elif output is None:
        # Headers are the same for every program: they belong in a folder, not on a screen.
        headers = [name for name in files if name.endswith(".h")]
        emit("\n".join(text for name, text in files.items() if name not in headers))
        if headers:
            click.echo(f"without {', '.join(headers)}; --output FOLDER writes all", err=True)
    else:
        write_folder(output, files)


def generated_files(program: Program, target: str) -> dict[str, str]:
    """The sources for a target, without building them: they need neither a compiler nor a GPU."""
    if target == "gpu":
        from graphc.codegen import triton

        generated = triton.generate(program)
        parts = [generated.prologue, generated] if generated.prologue else [generated]
        return {f"{part.name}.py": part.source for part in parts}
    if target == "cpu":
        from graphc.codegen import cpp

        made = cpp.generate(cpp.pack_constants(program))
        return {**dict(made.prologue.files if made.prologue is not None else ()), **dict(made.files)}
    raise click.UsageError("the reference target runs torch and generates no source; use --target cpu or gpu")


def write_folder(folder: Path, files: Mapping[str, str]) -> None:
    """Write all files into a folder, which is made; each appears whole."""
    if folder.exists() and not folder.is_dir():
        raise click.UsageError(f"--output: sources need a folder, and {folder} is a file")
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"cannot make the folder {folder}: {error.strerror}") from None
    for name, text in files.items():
        with result_file(folder / name) as file:
            file.write(text.encode())
    click.echo(f"wrote {len(files)} files to {folder}", err=True)


def _plan(request: Request, form: str, memory: str, output: Path | None) -> None:
    from graphc.driver.memory import with_workspace
    from graphc.passes.memory import memory_report, memory_text
    from graphc.passes.plan import plan

    program = with_workspace(_program(request, memory), request.target)
    made = plan(program, request.sizes_for(program.graph), memory)
    if form == "json":
        emit_json({"stage": "plan", **memory_report(program, made), "plan": made.to_json()}, output)
    elif form == "svg":
        from graphc.cli.arena_chart import arena_svg

        emit(arena_svg(program, made), output)
    else:
        emit(memory_text(memory_report(program, made)), output)
