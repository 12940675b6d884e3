"""Run a region of a program part by part, so that its widest tensors are never stored whole.

The head of a language model is such a region: logits of (rows, vocabulary), their softmax and loss, the gradient of the
logits, and the products with it. Every row is independent but for sums over rows (the weight's and the bias' gradient,
the total loss), so the rows are cut into parts (Wijmans et al., Cut Your Losses in Large-Vocabulary Language Models,
2024, arXiv:2411.09009, do so inside one kernel). Parts of equal size run the same kernels, each on its rows of the
buffers: nothing is copied to cut or to join. What lives inside the region only needs room for one part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from graphc.ir.kernel import Kernel
from graphc.ir.program import Buffer, Decision, Program, Role, Step
from graphc.passes.chunk.parts import Position, part_of, running_sums
from graphc.passes.chunk.regions import Region, large_buffers, region_around
from graphc.passes.chunk.rows import RefusalError
from graphc.passes.limits import CHUNK_BYTES
from graphc.passes.plan import buffer_lifetimes
from graphc.types import TensorType

FEWEST_ROWS = 128
"""Fewer rows than that leave a matrix product too little to reuse."""
_ROW_MULTIPLE = 64
"""Parts begin at multiples of so many rows, which keeps them on the alignment of the arena."""


def chunk(program: Program, nbytes: int = CHUNK_BYTES) -> Program:
    """The program with its regions of tensors over twice `nbytes` cut into parts of at most `nbytes`; 0: never.

    A region is cut where it is legal and lowers the peak; why or why not is a Decision. Symbolic sizes are left alone.
    """
    if nbytes <= 0:
        return program
    refused: list[Decision] = []
    tried: set[str] = set()
    while True:
        for seeds in large_buffers(program, 2 * nbytes):
            name = program.buffers[seeds[0]].name
            if name in tried:
                continue
            tried.add(name)
            try:
                made = _cut(program, seeds, nbytes)
                # Sums over rows that wait between parts are no rows.
                tried |= {buffer.name for buffer in made.buffers[len(program.buffers) :]}
                program = made
                break
            except RefusalError as refusal:
                refused.append(Decision(name, "the whole of it", False, f"not cut into parts: {refusal}"))
        else:
            break
    return replace(program, decisions=(*program.decisions, *refused)) if refused else program


def _cut(program: Program, seeds: Sequence[int], nbytes: int) -> Program:
    region = region_around(program, seeds)
    widest = max(_static_bytes(program.buffers[index].type) for index in seeds)
    bounds = _bounds(region, widest, nbytes)
    made = _Parts(program, region, bounds).run()
    saved = _peak(program) - _peak(made)
    if 2 * saved < nbytes:
        raise RefusalError(f"it would save {max(saved, 0):,} bytes at the peak")
    rows = bounds[1] // region.row
    decision = Decision(
        ", ".join(program.buffers[index].name for index in seeds),
        ", ".join(program.kernels[program.steps[number].kernel].name for number in region.steps),
        True,
        f"run in {len(bounds) - 1} parts of {rows:,} rows: {widest * bounds[1] // region.count:,} bytes of the widest "
        f"tensor at once instead of {widest:,}",
        saved,
    )
    return replace(made, decisions=(*made.decisions, decision))


def _bounds(region: Region, widest: int, nbytes: int) -> tuple[int, ...]:
    """Where parts begin and end: even ones where a divisor of the rows is near the wanted size."""
    count, step = region.count, math.lcm(region.group, region.row * _ROW_MULTIPLE)
    most = max(nbytes * count // widest, FEWEST_ROWS * region.row) // step * step or step
    if 2 * most > count:
        fewest = max(FEWEST_ROWS, step // region.row)
        raise RefusalError(f"its {count // region.row:,} rows make no two parts of {fewest:,}")
    even = next((rows for rows in range(most, most // 2, -step) if count % rows == 0), 0)
    if not even:
        parts = -(-count // most)
        even = -(-count // (parts * step)) * step
    return (*range(0, count, even), count)


def _static_bytes(type: TensorType) -> int:
    size = type.nbytes
    assert isinstance(size, int)
    return size


def _peak(program: Program) -> int:
    """The most bytes of static buffers of the arena that are live at one step."""
    change = [0] * (len(program.steps) + 1)
    for index, lifetime in buffer_lifetimes(program).items():
        size = program.buffers[index].type.nbytes
        if isinstance(size, int):
            change[lifetime.first] += size
            change[lifetime.last + 1] -= size
    return max(accumulate(change))


@dataclass(slots=True)
class _Parts:
    """Rewrites a program: `bounds` are the rows at which parts begin, and their number at the end."""

    program: Program
    region: Region
    bounds: tuple[int, ...]
    buffers: list[Buffer] = field(default_factory=list)
    kernels: list[Kernel] = field(default_factory=list)
    known: dict[tuple[int, int, Position], int] = field(default_factory=dict)
    waiting: dict[tuple[int, str], int] = field(default_factory=dict)
    """Buffers of running sums, by step and parameter."""

    def run(self) -> Program:
        program, region = self.program, self.region
        self.buffers = [
            self._shortened(buffer) if index in self._inner() else buffer
            for index, buffer in enumerate(program.buffers)
        ]
        self.kernels = list(program.kernels)
        steps = [program.steps[number] for number in region.before]
        for start, stop in zip(self.bounds, self.bounds[1:], strict=False):
            for place in range(len(region.steps)):
                steps.append(self._step(place, start, stop))
        steps += [program.steps[number] for number in region.after]
        used = sorted({step.kernel for step in steps})
        return replace(
            program,
            buffers=tuple(self.buffers),
            kernels=tuple(self.kernels[number] for number in used),
            steps=tuple(replace(step, kernel=used.index(step.kernel)) for step in steps),
        )

    def _inner(self) -> frozenset[int]:
        """Intermediates along rows that nothing outside the region touches: they need room for one part."""
        outside = {
            index
            for number in (*self.region.before, *self.region.after)
            for index in self.program.steps[number].arguments
        }
        roles = self.program.buffers
        return frozenset(i for i in self.region.along - outside if roles[i].role is Role.INTERMEDIATE)

    def _shortened(self, buffer: Buffer) -> Buffer:
        rows, count = self.bounds[1], self.region.count
        first, *rest = buffer.type.shape
        if isinstance(first, int) and first * rows % count == 0:
            return replace(buffer, type=replace(buffer.type, shape=(first * rows // count, *rest)))
        size = buffer.type.size
        assert isinstance(size, int)
        return replace(buffer, type=replace(buffer.type, shape=(size * rows // count,)))

    def _step(self, place: int, start: int, stop: int) -> Step:
        number, rows = self.region.steps[place], self.region.rows[place]
        step = self.program.steps[number]
        kernel = self.program.kernels[step.kernel]
        sums = running_sums(kernel, rows)
        position = Position.BETWEEN
        if not sums or start == 0:
            position = Position.FIRST
        elif stop == self.region.count:
            position = Position.LAST
        key = (number, stop - start, position)
        if key not in self.known:
            self.known[key] = len(self.kernels)
            self.kernels.append(part_of(kernel, rows, sums, stop - start, self.region.count, position))
        part = self.kernels[self.known[key]]
        places = dict(zip((p.name for p in kernel.parameters), step.arguments, strict=True))
        for total in sums:
            if total.own:
                if (number, total.parameter) not in self.waiting:
                    self.waiting[number, total.parameter] = len(self.buffers)
                    name = f"{kernel.name}.{total.parameter}"
                    finished = (self.program.buffers[places[name]] for name in sorted(rows.sums))
                    values = tuple(dict.fromkeys(v for buffer in finished for v in buffer.values))
                    self.buffers.append(Buffer(name, total.type, Role.INTERMEDIATE, values, kernel.origins))
                places[total.parameter] = self.waiting[number, total.parameter]
        arguments = tuple(places[p.name] for p in part.parameters)
        return Step(self.known[key], arguments, self._offsets(places, rows.parameters, arguments, start))

    def _offsets(
        self, places: Mapping[str, int], along: frozenset[str], arguments: Sequence[int], start: int
    ) -> tuple[tuple[int, int], ...]:
        """Where this part's rows begin in the buffers that hold all rows."""
        inner = self._inner()
        found: dict[int, int] = {}
        for name in sorted(along):
            index = places[name]
            size = self.program.buffers[index].type.size
            assert isinstance(size, int)
            if start and index in arguments and index not in inner:
                found[index] = size * start // self.region.count
        return tuple(sorted(found.items()))
