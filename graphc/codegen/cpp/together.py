"""Two passes over the same rows, run chunk by chunk as one kernel: the second one finds the rows in cache.

    for i: dx[i, :] = f(x[i, :], dy[i, :])                      row by row
    for chunk: parts[chunk, :] = sum over its i of x[i, :] * dy[i, :]
 becomes
    for chunk: { for its i: dx[i, :] = ...;  parts[chunk, :] = ... }

The backward pass of a normalisation is such a pair, and a bias gradient beside what computes its operand. Each nest
adds up what it did before, in the same order. Attribute `together` of the joint kernel names the
axis that all its nests begin with and that is walked once for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from graphc.codegen.cpp.nests import lower, rename_statement, rewrite_expressions
from graphc.codegen.cpp.schedule import shape_nests
from graphc.codegen.cpp.target import CpuTarget
from graphc.ir.graph import Attributes
from graphc.ir.kernel import Access, Affine, Axis, Kernel, Load, Nest, Random, Store
from graphc.ir.program import Program, Step
from graphc.types import product

TOGETHER = "together"


@dataclass(frozen=True, slots=True)
class _Chunks:
    """A nest whose first axis is `chunk`: rows `size * chunk + part`, `part` an axis of it."""

    chunk: Axis
    part: Axis

    @property
    def rows(self) -> Affine:
        return Affine.make(0, [(self.chunk.name, self.part.extent), (self.part.name, 1)])


def run_together(program: Program, target: CpuTarget) -> Program:
    """The program with every such pair of launches joined; the same object when there is none."""
    steps, kernels = list(program.steps), list(program.kernels)
    position = 0
    while position < len(steps):
        second = _partner(program, steps, kernels, position, target)
        if second is None:
            position += 1
            continue
        joined = _join(steps[position], steps[second], kernels)
        if joined is None or lowered_together(joined[0], target) is None:
            position += 1
            continue
        kernel, arguments, offsets = joined
        steps[position] = Step(len(kernels), arguments, offsets)
        kernels.append(kernel)
        del steps[second]
    if len(steps) == len(program.steps):
        return program
    used = sorted({step.kernel for step in steps})
    return replace(
        program,
        kernels=tuple(kernels[number] for number in used),
        steps=tuple(replace(step, kernel=used.index(step.kernel)) for step in steps),
    )


def _partner(
    program: Program, steps: list[Step], kernels: list[Kernel], first: int, target: CpuTarget
) -> int | None:
    """A later launch that reads large rows of the first one by chunks, and can run right after it."""
    kernel = kernels[steps[first].kernel]
    if _rows_of(kernel) is None:
        return None
    rows = _by_rows(steps[first], kernel)
    written: set[int] = set()
    touched: set[int] = set()
    for position in range(first + 1, len(steps)):
        step, other = steps[position], kernels[steps[position].kernel]
        chunks = _chunks_of(other)
        if chunks is not None and not set(step.arguments) & written and not _writes(step, other) & touched:
            shared = rows & _by_rows(step, other)
            nbytes = [program.buffers[index].type.nbytes for index in shared]
            large = sum(size for size in nbytes if isinstance(size, int)) > target.llc // 2
            if large and _enough(chunks) and _aligned(steps[first], kernel, step, other):
                return position
        if position - first > _FARTHEST:
            return None
        written |= _writes(step, other)
        touched |= set(step.arguments)
    return None


_FARTHEST = 8  # launches between the two
_FEWEST = 16  # chunks that threads share out
_MOST_ROWS = 16  # of a chunk in turn; whole groups of rows that one loop over lanes adds up


def _enough(chunks: _Chunks) -> bool:
    return int(chunks.chunk.extent) >= _FEWEST


def _writes(step: Step, kernel: Kernel) -> set[int]:
    return {
        index
        for index, parameter in zip(step.arguments, kernel.parameters, strict=True)
        if parameter.access is not Access.IN
    }


def _single_nest(kernel: Kernel) -> Nest | None:
    static = all(isinstance(axis.extent, int) for nest in kernel.nests for axis in nest.axes)
    return kernel.nests[0] if len(kernel.nests) == 1 and kernel.anchor is None and static else None


def _rows_of(kernel: Kernel) -> Axis | None:
    """The first axis of a kernel that handles row by row."""
    nest = _single_nest(kernel)
    if nest is None or len(nest.axes) < 2 or nest.axes[0].reduction or TOGETHER in kernel.attributes:
        return None
    return nest.axes[0]


def _chunks_of(kernel: Kernel) -> _Chunks | None:
    """The chunks of a partial reduction over whole rows (codegen/cpp/split.py), without a ragged end."""
    nest = _single_nest(kernel)
    if nest is None or len(nest.reductions) != 1 or nest.axes[0].reduction:
        return None
    chunks = _Chunks(nest.axes[0], nest.reductions[0])
    walking = [s for s in nest.body if isinstance(s, Load) and _varies(s, chunks)]
    plain = all(not s.guards and s.index and s.index[0] == chunks.rows for s in walking)
    return chunks if walking and plain and not any(isinstance(s, Random) for s in nest.body) else None


def _varies(load: Load, chunks: _Chunks) -> bool:
    return any(e.stride(chunks.part.name) != 0 or e.stride(chunks.chunk.name) != 0 for e in load.index)


def _row_index(kernel: Kernel) -> Affine | None:
    chunks, axis = _chunks_of(kernel), _rows_of(kernel)
    return chunks.rows if chunks is not None else Affine.axis(axis.name) if axis is not None else None


def _by_rows(step: Step, kernel: Kernel) -> set[int]:
    """The buffers that a launch goes through row by row."""
    row = _row_index(kernel)
    places = dict(zip((p.name for p in kernel.parameters), step.arguments, strict=True))
    nest = kernel.nests[0]
    return {
        places[s.buffer]
        for s in nest.body
        if isinstance(s, (Load, Store))
        and s.index
        and s.index[0] == row
        and not step.offset(places[s.buffer])
    }


def _aligned(first: Step, rows: Kernel, second: Step, chunks: Kernel) -> bool:
    """True when chunk by chunk nothing is read before it is written, or after it is overwritten."""
    if _rows_of(rows) is None or (found := _chunks_of(chunks)) is None:
        return False
    axis = rows.nests[0].axes[0]
    if axis.extent != int(found.chunk.extent) * int(found.part.extent):
        return False
    if _writes(second, chunks) & set(first.arguments):
        return False
    # What the first one writes, the second one may read where both mean the same row.
    through = _writes(first, rows) & set(second.arguments)
    return all(
        _only_rows(first, rows, index, Affine.axis(axis.name))
        and _only_rows(second, chunks, index, found.rows)
        for index in through
    )


def _only_rows(step: Step, kernel: Kernel, buffer: int, row: Affine) -> bool:
    """True when a launch touches a buffer in its present row only."""
    names = {p.name for p, index in zip(kernel.parameters, step.arguments, strict=True) if index == buffer}
    return all(
        bool(s.index) and s.index[0] == row
        for s in kernel.nests[0].body
        if isinstance(s, (Load, Store)) and s.buffer in names
    )


def _join(
    first: Step, second: Step, kernels: list[Kernel]
) -> tuple[Kernel, tuple[int, ...], tuple[tuple[int, int], ...]] | None:
    """The joint kernel, its arguments and their offsets; None where both see one buffer from different offsets."""
    rows, chunks = kernels[first.kernel], kernels[second.kernel]
    found = _chunks_of(chunks)
    assert found is not None
    offsets = {**dict(first.offsets), **dict(second.offsets)}
    if any(
        step.offset(index) != offsets.get(index, 0) for step in (first, second) for index in step.arguments
    ):
        return None
    taken = _names(rows)
    renamed = {name: _free(name, taken) for name in sorted(_names(chunks))}
    parameters = dict(zip(first.arguments, rows.parameters, strict=True))
    places: dict[str, str] = {}
    for parameter, index in zip(chunks.parameters, second.arguments, strict=True):
        if index in parameters:
            known = parameters[index]
            access = known.access if known.access is parameter.access else Access.INOUT
            parameters[index] = replace(known, access=access)
            places[parameter.name] = known.name
        else:
            places[parameter.name] = renamed[parameter.name]
            parameters[index] = replace(parameter, name=renamed[parameter.name])
    nest = _renamed(chunks.nests[0], renamed, places)
    chunk = nest.axes[0]
    axis = rows.nests[0].axes[0]
    part = Axis(axis.name, found.part.extent)
    place = {axis.name: Affine.make(0, [(chunk.name, found.part.extent), (part.name, 1)])}
    body = tuple(rewrite_expressions(s, lambda e: e.substitute(place)) for s in rows.nests[0].body)
    kernel = Kernel(
        f"{rows.name}_and_{chunks.name}",
        tuple(parameters.values()),
        (Nest((chunk, part, *rows.nests[0].axes[1:]), body), nest),
        None,
        (*rows.origins, *(origin for origin in chunks.origins if origin not in rows.origins)),
        Attributes({**rows.attributes, TOGETHER: chunk.name}),
    )
    return kernel, tuple(parameters), tuple(offsets.items())


def _names(kernel: Kernel) -> set[str]:
    found = {parameter.name for parameter in kernel.parameters}
    for nest in kernel.nests:
        found |= {axis.name for axis in nest.axes}
        found |= {s.name for s in nest.body if not isinstance(s, Store)}
    return found


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _renamed(nest: Nest, names: Mapping[str, str], places: Mapping[str, str]) -> Nest:
    axes = tuple(replace(axis, name=names[axis.name]) for axis in nest.axes)
    return Nest(axes, tuple(rename_statement(s, names, places) for s in nest.body))


def lowered_together(kernel: Kernel, target: CpuTarget) -> tuple[Nest, ...] | None:
    """The nests of a joint kernel ready to print, their first axis kept; None where one would be cut or unrolled."""
    common = str(kernel.attributes[TOGETHER])
    nests = [lower(nest, kernel, keep=common) for nest in kernel.nests]
    shaped = [shape_nests(nest, target) for nest in nests]
    if any(len(parts) != 1 or parts[0].axes != nest.axes for parts, nest in zip(shaped, nests, strict=True)):
        return None
    return tuple(parts[0] for parts in shaped)


def rows_at_once(rows: Nest, columns: Nest, target: CpuTarget) -> int:
    """How many rows both lowered nests of a pair take in turn: what the second one reads stays in cache; 0 for all."""
    part = columns.reductions[0]
    walking = [s for s in columns.body if isinstance(s, Load) and s.index[0].stride(part.name) != 0]
    points = product(axis.extent for axis in columns.axes[1:] if axis is not part)
    row = sum(s.dtype.itemsize for s in walking) * int(points)
    several = [
        count for count in (_MOST_ROWS, _MOST_ROWS // 2, _MOST_ROWS // 4) if int(part.extent) % count == 0
    ]
    plain = len(columns.reductions) == 1 and len(rows.axes) > 1 and not rows.axes[1].reduction
    fits = [count for count in several if count * row <= target.l2 // 8]
    return fits[0] if plain and fits and rows.axes[1].extent == part.extent else 0
