"""Splits reductions to few results, so that all threads share them: partial results by chunk, then their reduction.

    for c: s[c] = sum over n of x[n, c]          few columns, many rows
 becomes
    for chunk, c: partial[chunk, c] = sum over the chunk's n of x[n, c]
    for c: s[c] = sum over chunk of partial[chunk, c]

A nest with several passes (mean, then variance, then the normalised output) becomes such a pair a pass, and a last
nest without reductions that stores what depends on every element. The number of chunks follows from the extents alone,
so the order of the additions, and with it every bit of the result, is the same on any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from graphc.codegen.cpp.nests import Analysis, analyse, lower, rewrite_expressions
from graphc.codegen.cpp.schedule import PARALLEL_COST, Mode, decide, extent_of, guess, item_axes, shape_nest
from graphc.codegen.cpp.target import CpuTarget
from graphc.ir.kernel import (
    Access,
    Affine,
    Axis,
    Compute,
    Constant,
    Definition,
    Guard,
    IndexValue,
    Kernel,
    Literal,
    Load,
    Nest,
    Parameter,
    Random,
    Reduce,
    Reduction,
    Statement,
    Store,
)
from graphc.ir.program import Buffer, Program, Role, Step
from graphc.types import DType, TensorType, product

ITEMS = 64  # pieces of work wanted
CHUNK_POINTS = 8192  # and at least so many points in each
MINIMUM_WORK = 4 * PARALLEL_COST

_IDENTITIES: dict[Reduction, Literal] = {Reduction.SUM: 0, Reduction.PROD: 1, Reduction.ANY: False}


@dataclass(slots=True)
class _Pieces:
    """What one kernel becomes: kernels in order, and the workspace buffers that they share."""

    kernels: list[Kernel] = field(default_factory=list)
    workspaces: dict[str, TensorType] = field(default_factory=dict)


def split_reductions(program: Program, target: CpuTarget) -> Program:
    """The program with every such kernel replaced; the same object when there is none."""
    made = [split_kernel(kernel, target) for kernel in program.kernels]
    if not any(made):
        return program
    buffers = list(program.buffers)
    kernels: list[Kernel] = []
    numbers: dict[int, list[int]] = {}
    for index, (kernel, pieces) in enumerate(zip(program.kernels, made, strict=True)):
        new = pieces.kernels if pieces else [kernel]
        numbers[index] = list(range(len(kernels), len(kernels) + len(new)))
        kernels += new
    steps: list[Step] = []
    for step in program.steps:
        kernel, pieces = program.kernels[step.kernel], made[step.kernel]
        places = dict(zip((p.name for p in kernel.parameters), step.arguments, strict=True))
        for name, type in (pieces.workspaces if pieces else {}).items():
            places[name] = len(buffers)
            buffers.append(Buffer(f"{kernel.name}.{name}", type, Role.WORKSPACE, origins=kernel.origins))
        steps += [
            Step(number, tuple(places[p.name] for p in kernels[number].parameters), step.offsets)
            for number in numbers[step.kernel]
        ]
    return replace(program, buffers=tuple(buffers), kernels=tuple(kernels), steps=tuple(steps))


def split_kernel(kernel: Kernel, target: CpuTarget) -> _Pieces | None:
    """The pieces of a kernel, None when all its nests stay whole."""
    if kernel.anchor is not None:
        return None
    counts = [_chunks(nest, kernel, target) for nest in kernel.nests]
    if not any(counts):
        return None
    whole = tuple(nest for nest, count in zip(kernel.nests, counts, strict=True) if not count)
    pieces = _Pieces()
    if whole:
        pieces.kernels.append(_kernel(kernel, kernel.name, whole, pieces))
    for number, (nest, count) in enumerate(zip(kernel.nests, counts, strict=True)):
        if count:
            _Split(kernel, nest, count, pieces, f"_{number}" if len(kernel.nests) > 1 else "").run()
    return pieces


def _chunks(nest: Nest, kernel: Kernel, target: CpuTarget) -> int:
    """Into how many chunks a nest is to be split; 0 when it shares out well, or cannot be split."""
    reduces = [s for s in nest.body if isinstance(s, Reduce)]
    if not reduces or any(r.operation in (Reduction.ARGMAX, Reduction.ARGMIN) for r in reduces):
        return 0
    if not all(isinstance(axis.extent, int) for axis in nest.axes) or _overwrites(nest):
        return 0
    lowered = shape_nest(lower(nest, kernel), target)
    schedule = decide(lowered, kernel, target)
    if guess(schedule.work) < MINIMUM_WORK or schedule.mode is Mode.MAP:
        return 0
    items = guess(product(axis.extent for axis in item_axes(lowered, schedule)))
    if schedule.mode is Mode.COLUMNS and schedule.vector is not None:
        items *= -(-guess(extent_of(lowered, schedule.vector)) // schedule.block)
    points = guess(product(axis.extent for axis in nest.axes))
    wanted = min(-(-ITEMS // items), points // CHUNK_POINTS)
    return wanted if items < ITEMS // 4 and wanted >= 2 else 0


def _overwrites(nest: Nest) -> bool:
    """True when the last piece would read a buffer that an earlier one has written in place."""
    analysis = analyse(nest)
    reductions = frozenset(axis.name for axis in nest.reductions)
    stores = [s for s in nest.body if isinstance(s, Store)]
    inner = [s for s in stores if analysis.is_inner(s, reductions)]
    early = {s.buffer for s in stores if s not in inner}
    pending = [name for store in inner for name in analysis.reads(store)]
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        statement = analysis.definitions[name]
        if name in seen or isinstance(statement, Reduce):
            continue
        seen.add(name)
        if isinstance(statement, (Load, Random)) and statement.buffer in early:
            return True
        pending += analysis.reads(statement)
    return False


def _kernel(kernel: Kernel, name: str, nests: tuple[Nest, ...], pieces: _Pieces) -> Kernel:
    """A kernel over the buffers that these nests use."""
    written = {s.buffer for nest in nests for s in nest.body if isinstance(s, Store)}
    read = {s.buffer for nest in nests for s in nest.body if isinstance(s, (Load, Random))}
    parameters = []
    for p in [*kernel.parameters, *(Parameter(n, t, Access.IN) for n, t in pieces.workspaces.items())]:
        if p.name in written | read:
            both = p.name in written and p.name in read
            access = Access.INOUT if both else Access.OUT if p.name in written else Access.IN
            parameters.append(replace(p, access=access))
    return Kernel(name, tuple(parameters), nests, None, kernel.origins, kernel.attributes)


class _Split:
    """Splits one nest along one reduction axis."""

    def __init__(self, kernel: Kernel, nest: Nest, chunks: int, pieces: _Pieces, suffix: str) -> None:
        self.kernel, self.nest, self.pieces, self.suffix = kernel, nest, pieces, suffix
        self.analysis: Analysis = analyse(nest)
        self.taken = {axis.name for axis in nest.axes} | set(self.analysis.definitions)
        self.taken |= {p.name for p in kernel.parameters}
        self.axis = self._split_axis(chunks)
        extent = self.axis.extent
        assert isinstance(extent, int)
        self.count, self.size = cut(extent, chunks)
        self.chunk = Axis(self._unique("chunk"), self.count)
        self.part = Axis(self._unique(f"{self.axis.name}_part"), self.size, reduction=True)
        self.ragged = self.count * self.size != extent
        self.results: dict[str, str] = {}

    def _split_axis(self, chunks: int) -> Axis:
        """The outermost reduction axis that is long enough, else the longest."""
        axes = self.nest.reductions
        longest = max(axes, key=lambda axis: guess(axis.extent))
        return next((axis for axis in axes if guess(axis.extent) >= chunks), longest)

    def _unique(self, stem: str) -> str:
        name = stem
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def run(self) -> None:
        reduces = [s for s in self.nest.body if isinstance(s, Reduce)]
        passes = 1 + max(self.analysis.phase[r.name] - 1 for r in reduces)
        for number in range(passes):
            mine = [r for r in reduces if self.analysis.phase[r.name] == number + 1]
            partials = self._partial(number, mine)
            self._combine(number, mine, partials, last=number + 1 == passes)
        inner = [s for s in self.nest.body if isinstance(s, Store) and self._is_inner(s)]
        if inner:
            axes = tuple(replace(axis, reduction=False) for axis in self.nest.axes)
            roots = [name for store in inner for name in self.analysis.reads(store)]
            body = (*self._closure(roots), *inner)
            self._emit("apply", Nest(axes, body))

    def _is_inner(self, store: Store) -> bool:
        return self.analysis.is_inner(store, frozenset(axis.name for axis in self.nest.reductions))

    def _emit(self, what: str, nest: Nest) -> None:
        name = f"{self.kernel.name}{self.suffix}_{what}"
        self.pieces.kernels.append(_kernel(self.kernel, name, (nest,), self.pieces))

    def _workspace(self, stem: str, dtype: DType, axes: Iterable[Axis]) -> str:
        name = self._unique(stem)
        self.pieces.workspaces[name] = TensorType(dtype, tuple(axis.extent for axis in axes))
        return name

    def _parallel_index(self) -> tuple[Affine, ...]:
        return tuple(Affine.axis(axis.name) for axis in self.nest.parallel)

    def _closure(self, roots: Iterable[str], known: Iterable[str] = ()) -> Iterator[Definition]:
        """The scalars behind `roots` in order, less the known ones; an earlier pass's reduce is a load."""
        wanted: set[str] = set()
        pending = list(roots)
        while pending:
            name = pending.pop()
            if name not in wanted:
                wanted.add(name)
                definition = self.analysis.definitions[name]
                if not isinstance(definition, Reduce):
                    pending += self.analysis.reads(definition)
        for statement in self.nest.body:
            if isinstance(statement, Store) or statement.name not in wanted or statement.name in known:
                continue
            if isinstance(statement, Reduce):
                index = self._parallel_index()
                yield Load(
                    statement.name,
                    statement.dtype,
                    self.results[statement.name],
                    index,
                    origins=statement.origins,
                )
            else:
                yield statement

    def _partial(self, number: int, reduces: list[Reduce]) -> list[str]:
        """The pass over each chunk; returns the workspaces of its results."""
        place = {self.axis.name: Affine.make(0, [(self.chunk.name, self.size), (self.part.name, 1)])}
        body: list[Statement] = [
            rewrite_expressions(s, lambda e: e.substitute(place))
            for s in self._closure(r.argument for r in reduces)
        ]
        inside = self._inside(body) if self.ragged else ""
        order = (self.chunk, *self.nest.parallel)
        index = tuple(Affine.axis(axis.name) for axis in order)
        partials = []
        for reduce in reduces:
            argument = reduce.argument
            if inside:
                argument = self._masked(body, reduce, inside)
            result = self._unique(f"{reduce.name}_partial")
            body.append(replace(reduce, name=result, argument=argument))
            partials.append(self._workspace(f"{reduce.name}_parts", reduce.dtype, order))
            body.append(Store(partials[-1], index, result, origins=reduce.origins))
        reductions = tuple(self.part if axis is self.axis else axis for axis in self.nest.reductions)
        self._emit(f"partial{number}", Nest((*order, *reductions), tuple(body)))
        return partials

    def _inside(self, body: list[Statement]) -> str:
        """Guard every load that walks the split axis; returns a scalar that tells the last chunk's overhang."""
        at = Affine.make(0, [(self.chunk.name, self.size), (self.part.name, 1)])
        guard = Guard(at, 0, self.axis.extent)
        for position, statement in enumerate(body):
            if isinstance(statement, Load) and any(e.stride(self.part.name) != 0 for e in statement.index):
                body[position] = replace(statement, guards=(*statement.guards, guard))
        number, end, inside = (self._unique(stem) for stem in ("number", "end", "inside"))
        body.append(IndexValue(number, DType.I64, at))
        assert isinstance(self.axis.extent, int)
        body.append(Constant(end, DType.I64, self.axis.extent))
        body.append(Compute(inside, DType.BOOL, "lt", (number, end)))
        return inside

    def _masked(self, body: list[Statement], reduce: Reduce, inside: str) -> str:
        identity, masked = self._unique("identity"), self._unique(f"{reduce.argument}_inside")
        body.append(Constant(identity, reduce.dtype, _identity(reduce)))
        body.append(Compute(masked, reduce.dtype, "where", (inside, reduce.argument, identity)))
        return masked

    def _combine(self, number: int, reduces: list[Reduce], partials: list[str], last: bool) -> None:
        """The reduction of all chunks' results; the last one also does the stores outside the reduction axes."""
        chunk = replace(self.chunk, reduction=True)
        index = (Affine.axis(chunk.name), *self._parallel_index())
        body: list[Statement] = []
        for reduce, partial in zip(reduces, partials, strict=True):
            part = self._unique(f"{reduce.name}_part")
            body.append(Load(part, reduce.dtype, partial, index, origins=reduce.origins))
            body.append(replace(reduce, argument=part))
        stores = [s for s in self.nest.body if isinstance(s, Store) and not self._is_inner(s)] if last else []
        mine = {reduce.name for reduce in reduces}
        roots = [name for store in stores for name in self.analysis.reads(store)]
        if self._read_later(number):
            for reduce in reduces:
                self.results[reduce.name] = self._workspace(
                    f"{reduce.name}_result", reduce.dtype, self.nest.parallel
                )
        body += self._closure(roots, known=mine)
        body += stores
        if self._read_later(number):
            for reduce in reduces:
                body.append(Store(self.results[reduce.name], self._parallel_index(), reduce.name))
        self._emit(f"combine{number}", Nest((*self.nest.parallel, chunk), tuple(body)))

    def _read_later(self, number: int) -> bool:
        """True when a later piece loads a result of this pass."""
        later = [
            s for s in self.nest.body if isinstance(s, Reduce) and self.analysis.phase[s.name] > number + 1
        ]
        inner = [s for s in self.nest.body if isinstance(s, Store) and self._is_inner(s)]
        return bool(later or inner)


def _identity(reduce: Reduce) -> Literal:
    """The value that changes no result of the reduction."""
    if reduce.operation in _IDENTITIES:
        return _IDENTITIES[reduce.operation]
    lowest = reduce.operation is Reduction.MAX
    if reduce.dtype.is_float:
        return float("-inf") if lowest else float("inf")
    if reduce.dtype is DType.U8:
        return 0 if lowest else 255
    half = 1 << (reduce.dtype.itemsize * 8 - 1)
    return -half if lowest else half - 1


def cut(extent: int, chunks: int) -> tuple[int, int]:
    """(count, size) of chunks that cover an extent: near the wanted count, without a rest where one divides it."""
    chunks = min(chunks, extent)
    for count in range(chunks, 2 * chunks):
        if extent % count == 0 and (extent // count) % 16 == 0:
            return count, extent // count
    for count in range(chunks, 2 * chunks):
        if extent % count == 0:
            return count, extent // count
    size = -(-extent // chunks)
    size = -(-size // 64) * 64 if size > 256 else size
    return -(-extent // size), size
