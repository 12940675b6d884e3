"""Several launches where one would leave most of the device idle: few results, each over many elements.

A nest of few rows and long reductions becomes, a pass, a kernel that reduces parts of each row into a workspace and
one that combines the parts; a last kernel writes what is stored along the reduction axes. Parts and their order are
fixed, so every run gives the same bits; no atomics.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from graphc.codegen.triton.attention import template_stages
from graphc.codegen.triton.collapse import substitute
from graphc.codegen.triton.scalars import identity_text
from graphc.codegen.triton.schedule import GpuTarget, size_guess
from graphc.codegen.triton.split_sum import split_sum
from graphc.codegen.triton.stages import names_read
from graphc.codegen.triton.stages import stages_of as passes_of
from graphc.ir.kernel import (
    Access,
    Affine,
    Axis,
    Compute,
    Constant,
    Guard,
    IndexValue,
    Kernel,
    Load,
    Nest,
    Parameter,
    Random,
    Reduce,
    Reduction,
    Statement,
    Store,
    levels,
)
from graphc.types import Dim, DType, TensorType, product

PART = "part"
LEAST_LENGTH = 8192
LEAST_PART = 1024
MOST_NESTS = 64
"""Nests a launch, so that its pointers fit into 4 KB of parameters and it compiles in seconds."""

Workspaces = tuple[tuple[str, TensorType], ...]


def stages_of(kernel: Kernel, target: GpuTarget) -> tuple[tuple[Kernel, ...], Workspaces]:
    """The kernels to launch in place of this one, in order, and the workspaces that they share."""
    if kernel.anchor is not None and kernel.anchor.results:
        return template_stages(kernel), ()
    if kernel.anchor is not None:
        return split_sum(kernel, target)
    if len(kernel.nests) > MOST_NESTS:
        return _batches(kernel), ()
    parts = _parts(kernel, target)
    if parts is None:
        return (kernel,), ()
    return _Splitter(kernel, *parts).split()


def _is_outer(store: Store, nest: Nest) -> bool:
    """Whether a store happens once a row."""
    return id(store) in passes_of(nest).outer


def _batches(kernel: Kernel) -> tuple[Kernel, ...]:
    """A kernel of very many independent nests as several, each with its own parameters."""
    batches = []
    for first in range(0, len(kernel.nests), MOST_NESTS):
        nests = kernel.nests[first : first + MOST_NESTS]
        used = {s.buffer for nest in nests for s in nest.body if isinstance(s, (Load, Store, Random))}
        parameters = tuple(p for p in kernel.parameters if p.name in used)
        batches.append(replace(kernel, parameters=parameters, nests=nests))
    return tuple(batches)


def _parts(kernel: Kernel, target: GpuTarget) -> tuple[Axis, int] | None:
    """(the reduction axis to take apart, number of parts), None where one launch does."""
    if len(kernel.nests) != 1:
        return None
    (nest,) = kernel.nests
    reduces = [s for s in nest.body if isinstance(s, Reduce)]
    if not reduces or any(s.operation in (Reduction.ARGMAX, Reduction.ARGMIN) for s in reduces):
        return None
    rows = product(axis.extent for axis in nest.parallel)
    length = size_guess(product(axis.extent for axis in nest.reductions))
    once = passes_of(nest).count == 1 and all(
        not isinstance(s, Store) or _is_outer(s, nest) for s in nest.body
    )
    # Every further pass is two more launches.
    few = 2 * target.multiprocessors if once else target.multiprocessors // 2
    if not isinstance(rows, int) or rows == 0 or rows >= few or length < LEAST_LENGTH:
        return None
    axis = max(nest.reductions, key=lambda a: a.extent if isinstance(a.extent, int) else 0)
    if not isinstance(axis.extent, int):
        return None
    wanted = min(4 * target.multiprocessors // rows, length // LEAST_PART, axis.extent, 512)
    if wanted < 2:
        return None
    even = [n for n in range(wanted // 2 + 1, wanted + 1) if axis.extent % n == 0]
    return axis, even[-1] if even else wanted


@dataclass
class _Splitter:
    """Builds the kernels; `axis` is walked in `count` parts."""

    kernel: Kernel
    axis: Axis
    count: int

    def __post_init__(self) -> None:
        (self.nest,) = self.kernel.nests
        self.types = {p.name: p.type for p in self.kernel.parameters}
        self.dtypes = {s.name: s.dtype for s in self.nest.body if not isinstance(s, Store)}
        self.inner = levels(self.nest)
        self.passes = passes_of(self.nest)
        self.workspaces: dict[str, TensorType] = {}
        self.row_index = tuple(Affine.axis(axis.name) for axis in self.nest.parallel)
        self.row_shape: tuple[Dim, ...] = tuple(axis.extent for axis in self.nest.parallel)

    def split(self) -> tuple[tuple[Kernel, ...], Workspaces]:
        stores = [s for s in self.nest.body if isinstance(s, Store)]
        outer = [s for s in stores if id(s) in self.passes.outer]
        inner = [s for s in stores if id(s) not in self.passes.outer]
        written = self._needed(inner)
        overwritten = {s.buffer for s in outer} & {s.buffer for s in written if isinstance(s, Load)}
        reduced = [s for s in self.nest.body if isinstance(s, Reduce)]
        count = max(self.passes.passes[id(s)] for s in reduced) + 1
        kernels: list[Kernel] = []
        for number in range(count):
            reduces = [s for s in reduced if self.passes.passes[id(s)] == number]
            kernels.append(self._partial(reduces, number))
            # What is stored once a row comes with the last results, unless the elements still need its old content.
            along = outer if number == count - 1 and not overwritten else []
            kernels.append(self._combine(reduces, along, number))
        if inner:
            body = self._resolved(written)
            axes = tuple(replace(axis, reduction=False) for axis in self.nest.axes)
            kernels.append(self._make("elements", axes, body))
        if outer and overwritten:
            kernels.append(self._make("rows", self.nest.parallel, self._resolved(self._needed(outer))))
        return tuple(kernels), tuple(self.workspaces.items())

    def _partial(self, reduces: Sequence[Reduce], number: int) -> Kernel:
        """Every reduce of a pass over one part of its row."""
        chunk = -(-int(self.axis.extent) // self.count)
        place = Affine.make(0, [(PART, chunk), (self.axis.name, 1)])
        body = [substitute(s, {self.axis.name: place}) for s in self._resolved(self._needed(reduces))]
        if chunk * self.count != self.axis.extent:
            body = self._guarded(body, place)
        for reduce in reduces:
            index = (Affine.axis(PART), *self.row_index)
            self._workspace(reduce, "parts", (self.count, *self.row_shape))
            body.append(Store(self._name(reduce, "parts"), index, reduce.name, (), reduce.origins))
        axes = [*self.nest.parallel, Axis(PART, self.count)]
        axes += [Axis(a.name, chunk, True) if a is self.axis else a for a in self.nest.reductions]
        return self._make(f"parts{number or ''}", axes, body)

    def _guarded(self, body: Sequence[Statement], place: Affine) -> list[Statement]:
        """Give the reduces a neutral operand behind the end of the axis, which the last part overruns."""
        assert isinstance(self.axis.extent, int)
        result: list[Statement] = [
            IndexValue("place", DType.I64, place),
            Constant("end", DType.I64, self.axis.extent),
            Compute("inside", DType.BOOL, "lt", ("place", "end")),
        ]
        for statement in body:
            if isinstance(statement, Reduce):
                dtype, neutral = self.dtypes[statement.argument], f"{statement.name}.neutral"
                result.append(Constant(neutral, dtype, _identity(statement.operation, dtype)))
                operand = f"{statement.argument}.inside"
                result.append(Compute(operand, dtype, "where", ("inside", statement.argument, neutral)))
                statement = replace(statement, argument=operand)
            elif isinstance(statement, Load):
                statement = replace(
                    statement, guards=(*statement.guards, _end_guard(place, self.axis.extent))
                )
            result.append(statement)
        return result

    def _combine(self, reduces: Sequence[Reduce], stores: Sequence[Store], number: int) -> Kernel:
        """The parts of each row together, and what is stored once a row."""
        body: list[Statement] = []
        for reduce in reduces:
            index = (Affine.axis(PART), *self.row_index)
            part = f"{reduce.name}.part"
            body.append(Load(part, reduce.dtype, self._name(reduce, "parts"), index, origins=reduce.origins))
            body.append(replace(reduce, argument=part))
        fresh = {reduce.name for reduce in reduces}
        body += [s for s in self._resolved(self._needed(stores), fresh) if s not in body]
        for reduce in reduces:
            if self._is_read_later(reduce, stores):
                self._workspace(reduce, "row", self.row_shape)
                body.append(Store(self._name(reduce, "row"), self.row_index, reduce.name, (), reduce.origins))
        return self._make(f"combine{number or ''}", [*self.nest.parallel, Axis(PART, self.count, True)], body)

    def _is_read_later(self, reduce: Reduce, stores: Sequence[Store]) -> bool:
        here = {id(s) for s in self._needed(stores)}
        readers = [s for s in self.nest.body if reduce.name in names_read(s)]
        inner_stores = any(isinstance(s, Store) and id(s) in self.passes.passes for s in self.nest.body)
        return inner_stores or any(id(s) not in here for s in readers)

    # Pieces

    def _needed(self, roots: Sequence[Statement]) -> list[Statement]:
        """The roots and all that they need, up to the results of other reduces."""
        table = {s.name: s for s in self.nest.body if not isinstance(s, Store)}
        wanted: set[int] = set()
        work = list(roots)
        while work:
            statement = work.pop()
            if id(statement) not in wanted:
                wanted.add(id(statement))
                if not isinstance(statement, Reduce) or statement in roots:
                    work += [table[name] for name in names_read(statement) if name in table]
        return [s for s in self.nest.body if id(s) in wanted]

    def _resolved(
        self, statements: Iterable[Statement], fresh: Iterable[str] | None = None
    ) -> list[Statement]:
        """The statements with results of earlier launches loaded; `fresh` ones are at hand already."""
        fresh = set() if fresh is None else set(fresh)
        result: list[Statement] = []
        for statement in statements:
            if isinstance(statement, Reduce) and statement.name in fresh:
                continue
            if isinstance(statement, Reduce) and self._name(statement, "row") in self.workspaces:
                name = self._name(statement, "row")
                result.append(
                    Load(statement.name, statement.dtype, name, self.row_index, origins=statement.origins)
                )
            else:
                result.append(statement)
        return result

    def _name(self, reduce: Reduce, what: str) -> str:
        return f"{self.kernel.name}_{reduce.name}_{what}"

    def _workspace(self, reduce: Reduce, what: str, shape: tuple[Dim, ...]) -> None:
        self.workspaces[self._name(reduce, what)] = TensorType(reduce.dtype, shape)

    def _make(self, suffix: str, axes: Sequence[Axis], body: Sequence[Statement]) -> Kernel:
        """A kernel of one nest, with the parameters that its body names."""
        read = {s.buffer for s in body if isinstance(s, (Load, Random))}
        stored = {s.buffer for s in body if isinstance(s, Store)}
        known = {**self.types, **self.workspaces}
        parameters = tuple(
            Parameter(name, type, _access(name in read, name in stored))
            for name, type in known.items()
            if name in read or name in stored
        )
        return replace(
            self.kernel,
            name=f"{self.kernel.name}_{suffix}",
            parameters=parameters,
            nests=(Nest(tuple(axes), tuple(body)),),
        )


def _access(read: bool, stored: bool) -> Access:
    return Access.INOUT if read and stored else Access.IN if read else Access.OUT


def _end_guard(place: Affine, end: int) -> Guard:
    return Guard(place, 0, end)


def _identity(operation: Reduction, dtype: DType) -> float | int | bool:
    """The neutral element of a reduction, as a literal of the IR."""
    text = identity_text(operation, dtype)
    if dtype is DType.BOOL:
        return text == "True"
    return float(text.removeprefix('float("').removesuffix('")')) if dtype.is_float else int(text)
