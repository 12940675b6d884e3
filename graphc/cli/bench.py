"""`graphc bench MODEL`: each kernel beside this machine's limits, the whole program beside torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphc.cli.arrays import Tensors, complete_inputs, set_parameters
from graphc.cli.options import Request, model_options
from graphc.cli.output import emit_json, format_bytes, format_seconds, print_table, progress
from graphc.runtime.measure import Timing, alternate

if TYPE_CHECKING:
    from graphc.cli.kernel_bench import KernelCase
    from graphc.driver.executable import Executable
    from graphc.runtime.limits import Limits, TorchLimits

    AnyLimits = Limits | TorchLimits

PEERS = ("none", "eager", "compile")


@dataclass(frozen=True, slots=True)
class KernelResult:
    """A kernel's time, and its fraction of the limit that binds it: memory, or multiply-adds of a contraction.

    With launches > 1 the bytes, operations and seconds are those of all its launches in one run of the program.
    """

    kernel: str
    origins: tuple[str, ...]
    nbytes: int
    flops: int
    median_seconds: float
    iqr_seconds: float
    gb_per_second: float
    gflop_per_second: float
    bound: str
    fraction: float
    in_cache: bool
    launches: int = 1


@click.command()
@model_options
@click.option(
    "--peers",
    type=click.Choice(PEERS),
    default="compile",
    show_default=True,
    help="Beside torch eager, beside eager and torch.compile, or alone.",
)
@click.option(
    "--steps", is_flag=True, help="Time the kernels inside the running program, not each by itself."
)
@click.option("--rounds", default=11, show_default=True, type=click.IntRange(1), help="Alternating rounds.")
@click.option(
    "--choices", type=click.Path(path_type=Path), help="A file of choices to follow; graphc tune writes one."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON with a schema number.")
def bench(
    request: Request, peers: str, steps: bool, rounds: int, choices: Path | None, as_json: bool
) -> None:
    """Measure each kernel of MODEL, and the whole program beside torch, in alternating rounds."""  # fmt: skip
    from graphc.driver.compile import compile
    from graphc.runtime.limits import Limits, TorchLimits

    executable = compile(
        request.graph(), target=request.target, options=request.compile_options(), choices=choices
    )
    set_parameters(executable, None, request.seed)
    inputs = complete_inputs(executable, {}, request)
    device = executable.backend.device
    limits = Limits() if device.type == "cpu" else TorchLimits(device)
    if steps:
        from graphc.cli.step_bench import measure_steps

        kernels = measure_steps(executable, inputs, dict(request.sizes), limits, rounds)
    else:
        kernels = measure_kernels(executable, dict(request.sizes), request.target, limits, rounds)
    calls = program_calls(executable, inputs, dict(request.sizes), peers)
    programs = alternate(calls, rounds=rounds, each_round=limits.probe)
    if as_json:
        emit_json({
            "model": request.model,
            "target": executable.target,
            "limits": {"bandwidth": limits.bandwidth, "flops": limits.flops, "threads": limits.threads},
            "kernels": [asdict(result) for result in kernels],
            "programs": {name: asdict(timing) for name, timing in programs.items()},
        })  # fmt: skip
        return
    show_kernels(request.model, kernels, limits)
    show_programs(request.model, programs)


def measure_kernels(
    executable: Executable, sizes: Mapping[str, int], target: str, limits: AnyLimits, rounds: int
) -> list[KernelResult]:
    """Build and time every kernel by itself, all in the same rounds."""
    from graphc.cli.kernel_bench import kernel_case

    program = executable.program
    if executable.target == "reference":
        return []
    cases = []
    with progress("building", len(program.kernels)) as item:
        for kernel in program.kernels:
            item(kernel.name)
            cases.append(kernel_case(program, kernel, sizes, target))
    timings = alternate({case.kernel.name: case.call for case in cases}, rounds=rounds, round_seconds=0.01,
                        each_round=limits.probe)  # fmt: skip
    return [kernel_result(case, timings[case.kernel.name], limits) for case in cases]


def kernel_result(case: KernelCase, timing: Timing, limits: AnyLimits) -> KernelResult:
    """Set a time beside the limits that were probed in the same rounds."""
    from graphc.cli.kernel_bench import fits_cache

    memory, arithmetic = case.nbytes / limits.bandwidth, case.flops / limits.flops
    return KernelResult(
        kernel=case.kernel.name,
        origins=tuple(str(origin) for origin in case.kernel.origins),
        nbytes=case.nbytes,
        flops=case.flops,
        median_seconds=timing.median,
        iqr_seconds=timing.iqr,
        gb_per_second=case.nbytes / timing.median / 1e9,
        gflop_per_second=case.flops / timing.median / 1e9,
        bound="arithmetic" if arithmetic > memory else "memory",
        fraction=max(memory, arithmetic) / timing.median,
        in_cache=fits_cache(case.nbytes),
    )


def program_calls(
    executable: Executable, inputs: Tensors, sizes: Mapping[str, int], peers: str
) -> dict[str, Callable[[], object]]:
    """What is timed as a whole: graphc's call and, where torch can run the graph, torch's."""
    from graphc.runtime.limits import synchronize

    device = executable.backend.device

    def timed(function: Callable[[], object]) -> Callable[[], None]:
        def call() -> None:
            function()
            synchronize(device)

        return call

    calls: dict[str, Callable[[], object]] = {"graphc": timed(lambda: executable.run(**inputs))}
    if peers == "none":
        return calls
    import torch

    from graphc.cli.kernel_bench import torch_program

    states = {name: state.clone() for name, state in executable.states.items()}
    tensors = inputs | states
    try:
        module = torch_program(executable.optimized, sizes, tensors)
        arguments = [tensors[item.name] for item in executable.optimized.inputs]
        module(*arguments)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        click.echo(f"torch cannot run this graph as one module: {error}", err=True)
        return calls
    calls["eager"] = timed(lambda: module(*arguments))
    if peers == "compile":
        click.echo("torch.compile builds the same graph; this may take a minute", err=True)
        compiled = torch.compile(module)
        compiled(*arguments)
        calls["compile"] = timed(lambda: compiled(*arguments))
    return calls


def show_kernels(model: str, kernels: list[KernelResult], limits: AnyLimits) -> None:
    """The table of kernels, in launch order."""
    rows = []
    for result in kernels:
        arithmetic = f"{result.gflop_per_second:.1f}" if result.flops else ""
        percent = f"{100 * result.fraction:.0f}%" + (
            "*" if result.in_cache and result.bound == "memory" else ""
        )
        launches = f" x{result.launches}" if result.launches > 1 else ""
        rows.append((
            f"{result.kernel}{launches}",
            format_bytes(result.nbytes),
            format_seconds(result.median_seconds),
            format_seconds(result.iqr_seconds),
            f"{result.gb_per_second:.1f}",
            arithmetic,
            f"{percent} of {result.bound}",
        ))  # fmt: skip
    threads = f" on {limits.threads} threads" if limits.threads else ""
    caption = (
        f"limits probed in the same rounds: {limits.bandwidth / 1e9:.1f} GB/s, {limits.flops / 1e9:.0f} GFLOP/s"
        f"{threads}\n* its data fits in the cache, where memory is no limit"
    )
    columns = ("kernel", "bytes>", "median>", "IQR>", "GB/s>", "GFLOP/s>", "of its limit>")
    print_table(f"{model}: kernels", columns, rows, caption)


def show_programs(model: str, programs: Mapping[str, Timing]) -> None:
    """The table of whole programs."""
    ours = programs["graphc"].median
    rows: list[tuple[Any, ...]] = [
        (
            name,
            format_seconds(t.median),
            format_seconds(t.iqr),
            f"{t.median / ours:.2f}",
            f"{t.rounds} x {t.calls}",
        )
        for name, t in programs.items()
    ]
    caption = "torch runs the same optimized graph, each primitive through its torch form"
    print_table(
        f"{model}: whole program",
        ("candidate", "median>", "IQR>", "over graphc>", "rounds x calls>"),
        rows,
        caption,
    )
