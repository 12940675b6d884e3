"""`graphc explain G203`: what a diagnostic's code means. `graphc explain MODEL`: why operators were fused or not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import click

from graphc.cli.codes import CODES, FAMILIES
from graphc.cli.options import Request, model_options
from graphc.cli.output import emit, emit_json, format_bytes, print_table
from graphc.diagnostics import closest
from graphc.ir.graph import Graph
from graphc.ir.program import Decision
from graphc.types import Dim, evaluate, format_dim


@click.command()
@model_options
@click.option("--refused", is_flag=True, help="Only what was not fused.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with a schema number.")
def explain(request: Request, refused: bool, as_json: bool) -> None:
    """Explain a diagnostic's code (G203), or why the operators of a MODEL were fused or not."""
    if re.fullmatch(r"[Gg]\d+", request.model):
        explain_code(request.model.upper(), as_json)
    else:
        explain_fusion(request, refused, as_json)


def explain_code(code: str, as_json: bool) -> None:
    """Print a code's meaning, an example and the fix; usage error for a code that does not exist."""
    entry = CODES.get(code)
    if entry is None:
        same = ", ".join(known for known in CODES if known[:2] == code[:2])
        hint = (
            f"codes of {FAMILIES[code[:2]]}: {same}"
            if same
            else closest(code, list(CODES)) or "see G101 to G607"
        )
        raise click.UsageError(f"there is no code {code}; {hint}")
    if as_json:
        family = FAMILIES[code[:2]]
        emit_json({"code": code, "family": family, "title": entry.title, "meaning": entry.meaning,
                   "example": entry.example, "fix": entry.fix})  # fmt: skip
        return
    example = "".join(f"\n    {line}" for line in entry.example.splitlines())
    parts = [f"{code}: {entry.title}   ({FAMILIES[code[:2]]})", entry.meaning]
    parts += [f"for example{example}"] if example else []
    emit("\n\n".join([*parts, f"fix: {entry.fix}"]))


def explain_fusion(request: Request, refused: bool, as_json: bool) -> None:
    """Print every decision of fusion with its reason."""
    from graphc.driver.compile import lower

    stages = lower(request.graph(), request.compile_options(), request.target)
    program = stages.program
    lines = operator_lines(stages.optimized)
    decisions = [decision for decision in program.decisions if not (refused and decision.accepted)]
    if as_json:
        emit_json({
            "model": request.model,
            "operators": len(stages.optimized.nodes),
            "kernels": len(program.steps),
            "decisions": [decision_data(decision, lines) for decision in decisions],
        })  # fmt: skip
        return
    rows = [decision_row(decision, lines, request.sizes) for decision in decisions]
    accepted = sum(decision.accepted for decision in program.decisions)
    caption = (
        f"{len(stages.optimized.nodes)} operators in {len(program.steps)} kernels; "
        f"{accepted} of {len(program.decisions)} decisions fuse"
    )
    columns = ("producer", "consumer", "fused", "reason", "bytes saved>", "line")
    print_table(f"{request.model}: fusion", columns, rows, caption)


def decision_data(decision: Decision, lines: Mapping[str, str]) -> dict[str, Any]:
    """A decision as plain data, with the user's lines of both sides."""
    return {
        "producer": decision.producer,
        "consumer": decision.consumer,
        "accepted": decision.accepted,
        "reason": decision.reason,
        "bytes_saved": format_dim(decision.bytes_saved),
        "producer_line": line_of(decision.producer, lines),
        "consumer_line": line_of(decision.consumer, lines),
    }


def decision_row(decision: Decision, lines: Mapping[str, str], sizes: Mapping[str, int]) -> tuple[str, ...]:
    """One line of the table."""
    return (
        decision.producer,
        decision.consumer,
        "yes" if decision.accepted else "no",
        decision.reason,
        _saved(decision.bytes_saved, sizes) if decision.accepted else "",
        line_of(decision.producer, lines),
    )


def line_of(side: str, lines: Mapping[str, str]) -> str:
    """The user's line of a decision's side, which is written `operator (primitive)`; empty when it has none."""
    return lines.get(side.partition(" (")[0], "")


def _saved(saved: Dim, sizes: Mapping[str, int]) -> str:
    try:
        return format_bytes(evaluate(saved, sizes))
    except KeyError:
        return format_dim(saved)


def operator_lines(graph: Graph) -> dict[str, str]:
    """The user's line of each declared operator, by its name."""
    origins = [origin for node in graph.nodes for origin in node.origins]
    return {origin.name: str(origin.location) for origin in origins if origin.location is not None}
