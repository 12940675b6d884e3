"""`graphc run MODEL`: compile a model, run it once, show what came out; --check compares it with float64."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphc.cli.arrays import Tensors, complete_inputs, read_inputs, set_parameters
from graphc.cli.compare import Comparison, compare
from graphc.cli.options import Request, model_options
from graphc.cli.output import emit_json, format_seconds, print_table, result_file
from graphc.diagnostics import EXIT_NUMBERS

if TYPE_CHECKING:
    import torch

    from graphc.driver.executable import Executable


@click.command()
@model_options
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]FILE",
    help="name=file.npy, or a .npz or .safetensors file with several; others are random.",
)
@click.option(
    "--params", type=click.Path(path_type=Path), help="Values of parameters and states (safetensors)."
)
@click.option("--save", type=click.Path(path_type=Path), help="Write the outputs to a .npz file.")
@click.option(
    "--check", is_flag=True, help="Compare with the float64 reference; exit code 3 when numbers differ."
)
@click.option(
    "--repeat", default=1, show_default=True, type=click.IntRange(1), help="Run so often and show the time."
)
@click.option(
    "--choices", type=click.Path(path_type=Path), help="A file of choices to follow; graphc tune writes one."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON with a schema number.")
def run(
    request: Request,
    inputs: tuple[str, ...],
    params: Path | None,
    save: Path | None,
    check: bool,
    repeat: int,
    choices: Path | None,
    as_json: bool,
) -> int:
    """Compile MODEL and run it once.

    Inputs that no --input names are random, parameters are initialized with Xavier; --seed fixes both.
    """  # fmt: skip
    from graphc.driver.compile import compile

    given = read_inputs(inputs)
    graph = request.graph()
    executable = compile(graph, target=request.target, options=request.compile_options(), choices=choices)
    set_parameters(executable, params, request.seed)
    tensors = complete_inputs(executable, given, request)
    before = {name: state.clone() for name, state in executable.states.items()}
    results: Tensors = executable.run(**tensors)
    comparison = compare(executable, tensors, before, results) if check else None
    seconds = [_timed(executable, tensors) for _ in range(repeat - 1)]
    if save is not None:
        save_outputs(save, results)
    rows = [describe(name, tensor) for name, tensor in results.items()]
    if as_json:
        emit_json(_report(request, executable, rows, comparison, seconds))
    else:
        _show(request, executable, rows, comparison, seconds)
    return EXIT_NUMBERS if comparison is not None and not comparison.equal else 0


def _timed(executable: Executable, tensors: Tensors) -> float:
    start = time.perf_counter()
    executable.run(**tensors)
    return time.perf_counter() - start


def describe(name: str, tensor: torch.Tensor) -> dict[str, Any]:
    """An output's name, type and range; the range leaves NaN out."""
    from graphc.types import DType, TensorType

    values = tensor.cpu().double()
    numbers = values[~values.isnan()]
    row: dict[str, Any] = {"name": name, "type": str(TensorType(DType.of(tensor.dtype), tuple(tensor.shape)))}
    for what, function in (("min", "min"), ("mean", "mean"), ("max", "max")):
        row[what] = float(getattr(numbers, function)()) if numbers.numel() else None
    return row | {"nan": int(values.isnan().sum())}


def save_outputs(path: Path, results: Mapping[str, torch.Tensor]) -> None:
    """Write the outputs to a .npz file; bf16, which numpy lacks, as f32."""
    import numpy
    import torch

    arrays: dict[str, Any] = {
        name: (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).cpu().numpy()
        for name, tensor in results.items()
    }
    with result_file(path) as file:
        numpy.savez(file, **arrays)
    click.echo(f"wrote {path}", err=True)


def _report(
    request: Request,
    executable: Executable,
    rows: list[dict[str, Any]],
    comparison: Comparison | None,
    seconds: list[float],
) -> dict[str, Any]:
    return {
        "model": request.model,
        "target": executable.target,
        "kernels": len(executable.program.steps),
        "build_seconds": executable.build_report,
        "outputs": rows,
        "median_seconds": statistics.median(seconds) if seconds else None,
        "check": {name: getattr(comparison, name) for name in Comparison.__dataclass_fields__}
        if comparison
        else None,
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _show(
    request: Request,
    executable: Executable,
    rows: list[dict[str, Any]],
    comparison: Comparison | None,
    seconds: list[float],
) -> None:
    table = [
        (
            row["name"],
            row["type"],
            _number(row["min"]),
            _number(row["mean"]),
            _number(row["max"]),
            str(row["nan"]),
        )
        for row in rows
    ]
    caption = f"{len(executable.program.steps)} kernels on {executable.target}"
    print_table(
        f"{request.model}: outputs", ("output", "type", "min>", "mean>", "max>", "NaN>"), table, caption
    )
    if seconds:
        median = format_seconds(statistics.median(seconds))
        click.echo(f"median of {len(seconds)} runs after the first: {median}", err=True)
    if comparison is None:
        return
    verdict = "agrees with float64" if comparison.equal else "DIFFERS from float64"
    click.echo(
        f"{verdict}: worst {comparison.where} = {comparison.got:.9g}, float64 {comparison.expected:.9g} "
        f"(error {comparison.error:.2e} of the largest)",
        err=True,
    )
