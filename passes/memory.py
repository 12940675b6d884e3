"""What a program will take from memory, by category, and what is live when it takes most: known before it runs.

    parameters, states, constants   the executable holds them between calls
    inputs, outputs                 the caller's
    activations                     intermediates that the model's outputs are made of
    gradients                       the other ones: the backward pass and the update, and gradients that are outputs
    workspace                       what kernels need beside their operands

Categories follow from the graph: what kind an input is, and which values the model's own outputs depend on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphc.ir.graph import Graph, InputKind
from graphc.ir.program import Buffer, Placement, Plan, Program, Role
from graphc.passes.gradient import model_outputs
from graphc.passes.offsets import live_at
from graphc.passes.plan import buffer_nbytes

CATEGORIES = (
    "parameters", "states", "constants", "inputs", "outputs", "activations", "gradients", "workspace",
)  # fmt: skip
_OF_ROLE = {Role.INPUT: "inputs", Role.CONSTANT: "constants", Role.WORKSPACE: "workspace"}


def categories(program: Program) -> tuple[str, ...]:
    """The category of each buffer."""
    graph = program.graph
    parameters = {item.name for item in graph.inputs if item.kind is InputKind.PARAMETER}
    own = model_outputs(graph)
    forward = _ancestors(graph, own)
    place_of = dict(program.inputs)
    held = {place_of[name] for name in parameters if name in place_of}
    shown = {index for name, index in program.outputs if name in own}

    def category(index: int, buffer: Buffer) -> str:
        if buffer.role is Role.STATE:
            return "parameters" if index in held else "states"
        if buffer.role is Role.OUTPUT:
            return "outputs" if index in shown else "gradients"
        if buffer.role is Role.INTERMEDIATE:
            # One that is overwritten in place counts as what it becomes.
            return "activations" if buffer.values and buffer.values[-1] in forward else "gradients"
        return _OF_ROLE[buffer.role]

    return tuple(category(index, buffer) for index, buffer in enumerate(program.buffers))


def _ancestors(graph: Graph, outputs: frozenset[str]) -> set[str]:
    """The values that the model's own outputs depend on, those included."""
    found = {
        value.name for name, value in zip(graph.output_names, graph.outputs, strict=True) if name in outputs
    }
    for node in reversed(graph.nodes):
        if any(value.name in found for value in node.outputs):
            found.update(value.name for value in (*node.inputs, *node.outputs))
    return found


def memory_report(program: Program, made: Plan) -> dict[str, Any]:
    """Bytes by category and by role, the arena beside its bounds, and what is live at the peak: JSON-ready."""
    sizes = dict(made.sizes)
    kinds = categories(program)
    by_role = dict.fromkeys((role.value for role in Role), 0)
    total, at_peak = dict.fromkeys(CATEGORIES, 0), dict.fromkeys(CATEGORIES, 0)
    for kind, buffer in zip(kinds, program.buffers, strict=True):
        nbytes = buffer_nbytes(buffer, sizes)
        by_role[buffer.role.value] += nbytes
        total[kind] += nbytes
        if buffer.role not in (Role.INTERMEDIATE, Role.WORKSPACE):
            at_peak[kind] += nbytes
    live = live_at(made.placements, len(program.steps), made.alignment)
    peak = max(range(len(live)), key=live.__getitem__, default=0)
    alive = [p for p in made.placements if p.lifetime.first <= peak <= p.lifetime.last]
    alive.sort(key=lambda placement: (-placement.size, program.buffers[placement.buffer].name))
    for placement in alive:
        at_peak[kinds[placement.buffer]] += placement.size
    outside = sum(n for role, n in by_role.items() if role not in ("intermediate", "workspace"))
    kernel = program.kernels[program.steps[peak].kernel].name if program.steps else ""
    again = program.recomputed
    return {
        "schema": 1,
        "program": program.name,
        "sizes": sizes,
        "bytes": by_role,
        "categories": {kind: {"total": total[kind], "at_peak": at_peak[kind]} for kind in CATEGORIES},
        "total": outside + made.size,
        "arena": {"naive": made.naive, "planned": made.size, "lower_bound": made.lower_bound},
        "recompute": {
            "plain_arena": again.plain,
            "launches": again.launches,
            "nodes": again.nodes,
            "operations_added": again.more,
            "operations": again.operations,
        }
        if again is not None
        else None,
        "peak": {
            "step": peak,
            "kernel": kernel,
            "live": [placement_row(program, placement, kinds[placement.buffer]) for placement in alive],
        },
    }


def placement_row(program: Program, placement: Placement, category: str) -> dict[str, Any]:
    """A tensor's place, and the operator and line of the user's that it comes from: JSON-ready."""
    buffer = program.buffers[placement.buffer]
    origin = buffer.origins[0] if buffer.origins else None
    return {
        "buffer": buffer.name,
        "type": str(buffer.type),
        "category": category,
        "bytes": placement.size,
        "offset": placement.offset,
        "first": placement.lifetime.first,
        "last": placement.lifetime.last,
        "operator": f"{origin.operator} {origin.name}" if origin else "",
        "line": str(origin.location) if origin and origin.location else "",
    }


def placement_rows(program: Program, made: Plan) -> list[dict[str, Any]]:
    """A row for every tensor of the arena."""
    kinds = categories(program)
    return [placement_row(program, placement, kinds[placement.buffer]) for placement in made.placements]


def memory_text(report: Mapping[str, Any]) -> str:
    """A report of `memory_report` for people."""
    arena, peak = report["arena"], report["peak"]
    sizes = ", ".join(f"{name}={value}" for name, value in report["sizes"].items())
    lines = [
        f"memory of {report['program']}" + (f" for {sizes}" if sizes else ""),
        f"  {report['total']:,} bytes: {arena['planned']:,} in the arena, the rest held by the program or its caller",
        f"  {'':<12}{'all, bytes':>18}{'at the peak':>18}",
    ]
    lines += [
        f"  {kind:<12}{row['total']:>18,}{row['at_peak']:>18,}"
        for kind, row in report["categories"].items()
        if row["total"]
    ]
    lines.append(
        f"  arena: {arena['planned']:,} bytes planned, {arena['naive']:,} without reuse, "
        f"{arena['lower_bound']:,} at least"
    )
    again = report["recompute"]
    if again is not None:
        share = again["operations_added"] / max(again["operations"], 1)
        lines.append(
            f"  recomputation: {again['plain_arena']:,} bytes of arena without it; {again['launches']} launches "
            f"({again['nodes']} operators) run again, {share:.1%} more operations"
        )
    if peak["live"]:
        lines.append(f"  live at the peak, step {peak['step']} ({peak['kernel']}):")
    for row in peak["live"]:
        place = "  ".join(part for part in (row["operator"], row["line"]) if part)
        text = f"{row['bytes']:>16,}  {row['category']:<11}  {row['buffer']}: {row['type']}  {place}"
        lines.append(f"    {text.rstrip()}")
    return "\n".join(lines) + "\n"
