"""Scratch of threads as buffers of the plan: what a kernel's loops and templates use beside its operands.

A kernel's scratch is one buffer, a share for each thread (templates/cpp/scratch.h). Steps follow one another, so all
kernels of a program use the same memory: one buffer of the largest known size, and one for each size that depends on
symbolic dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from graphc.codegen.cpp.expressions import dim_text
from graphc.ir.kernel import Access, Parameter
from graphc.ir.program import Buffer, Program, Role
from graphc.types import Dim, DType, TensorType, dimension

SCRATCH = "scratch"  # the parameter, and the C++ name of it
TILE_BYTES = 2_257_792  # gc_workspace_bytes in templates/cpp/tile.h, rounded up to whole cache lines
TEMPLATES: Mapping[str, int] = {
    "gemm.h": TILE_BYTES, "conv.h": TILE_BYTES, "channels_last.h": TILE_BYTES,
}  # fmt: skip
_LINE = 64


@dataclass(frozen=True, slots=True)
class Scratch:
    """Bytes of one thread's share: `rows` for the generated loops, `template` for the templates' workspace."""

    rows: Dim = 0
    template: int = 0

    @property
    def share(self) -> Dim:
        return dimension(self.rows + self.template)

    def __bool__(self) -> bool:
        return self.share != 0

    def view(self, threads: int) -> str:
        """The gc_scratch_view over the kernel's buffer."""
        return f"{{(char*){SCRATCH}, {dim_text(self.rows)}, {dim_text(self.share)}, {threads}}}"


def scratch_of(rows: Iterable[Dim], headers: Sequence[str]) -> Scratch:
    """What a kernel needs whose loops ask for `rows` bytes, one after the other, and whose templates these are."""
    wanted = list(dict.fromkeys(rows))
    most: Dim = 0
    if wanted:
        # Symbolic sizes have no order: their sum is enough for each.
        known = [dim for dim in wanted if isinstance(dim, int)]
        most = dimension(
            sum((dim for dim in wanted if not isinstance(dim, int)), start=max(known, default=0))
        )
        most = -(-most // _LINE) * _LINE if isinstance(most, int) else dimension(most + _LINE * len(wanted))
    return Scratch(most, max((TEMPLATES.get(header, 0) for header in headers), default=0))


def add_scratch(program: Program, needs: Sequence[Scratch], threads: int) -> Program:
    """Give the kernels that need scratch (`needs`, by kernel) a parameter and their steps a buffer for it."""
    if not any(needs):
        return program
    totals = [dimension(need.share * threads) for need in needs]
    largest = max((total for total in totals if isinstance(total, int)), default=0)
    kernels = list(program.kernels)
    for number, need in enumerate(needs):
        if need:
            kernel = kernels[number]
            type = TensorType(DType.U8, (totals[number],))
            kernels[number] = replace(
                kernel, parameters=(*kernel.parameters, Parameter(SCRATCH, type, Access.OUT))
            )
    buffers = list(program.buffers)
    places: dict[Dim, int] = {}
    steps = []
    for step in program.steps:
        if needs[step.kernel]:
            total = totals[step.kernel]
            size = largest if isinstance(total, int) else total
            if size not in places:
                places[size] = len(buffers)
                name = SCRATCH if len(places) == 1 else f"{SCRATCH}.{len(places)}"
                # The user's line of what needs most of it.
                origins = program.kernels[totals.index(size)].origins
                buffers.append(Buffer(name, TensorType(DType.U8, (size,)), Role.WORKSPACE, origins=origins))
            step = replace(step, arguments=(*step.arguments, places[size]))
        steps.append(step)
    return replace(program, buffers=tuple(buffers), kernels=tuple(kernels), steps=tuple(steps))
