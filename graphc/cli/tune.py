"""`graphc tune MODEL -o FILE`: measure alternatives for the kernels of a model, within a budget of time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphc.cli.options import Request, model_options
from graphc.cli.output import print_table

if TYPE_CHECKING:
    from graphc.codegen.cpp.choices import Chosen
    from graphc.ir.kernel import Kernel


@click.command()
@model_options
@click.option("--budget", default="30s", show_default=True, help="Time to measure for: 30s, 2min.")
@click.option(
    "--output", "-o", "path", required=True, type=click.Path(path_type=Path, dir_okay=False),
    help="The file of choices; what it holds already is kept and not measured again.",
)  # fmt: skip
def tune(request: Request, budget: str, path: Path) -> None:
    """Measure alternatives for each kernel of MODEL and write the fastest as a file of choices."""  # fmt: skip
    from graphc.driver import tuning
    from graphc.driver.compile import lower

    if request.target != "cpu":
        raise click.UsageError("choices are of generated C++: use --target cpu")
    seconds = tuning.budget_seconds(budget)
    known = tuning.read_choices(path, missing_ok=True)
    graph = request.graph()
    rows: list[tuple[str, str, str]] = []

    def report(kernel: Kernel, chosen: Chosen, remark: str) -> None:
        words = " ".join(f"{knob}={value}" for knob, value in chosen.items()) or "as it was"
        rows.append((kernel.name, words, remark))
        click.echo(f"{kernel.name}: {words} ({remark})", err=True)

    found = tuning.tune(lower(graph).program, request.sizes_for(graph), seconds, known, report)
    tuning.write_choices(path, str(found))
    print_table(
        f"{request.model}: {len(found.chosen)} kernels in {path}", ("kernel", "choices", "time"), rows
    )
