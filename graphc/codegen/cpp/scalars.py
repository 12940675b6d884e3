"""Scalar statements as C++: what is known where, printed where its loops are open and something needs it.

Scalars stand in three tiers, each outside the next: once an item (a point of the shared-out parallel axes), once a
row (a point of the other reduction axes) and once a lane (a point of the vector axis).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from graphc.codegen.cpp.expressions import (
    TYPES,
    Names,
    affine_text,
    cast_text,
    guard_text,
    literal,
    operation_text,
)
from graphc.codegen.cpp.nests import Analysis, analyse, guard_axes
from graphc.codegen.cpp.schedule import Mode, Schedule
from graphc.codegen.cpp.writer import Writer
from graphc.ir.graph import Origins
from graphc.ir.kernel import (
    Affine,
    Anchor,
    Axis,
    Compute,
    Constant,
    Definition,
    Guard,
    IndexValue,
    Load,
    Nest,
    Random,
    Reduce,
    Store,
)
from graphc.types import DType

ANCHOR = "anchor result"  # the key of the anchor's result among the known scalars


class ScalarPrinter:
    """Prints scalars of one nest; `env` maps what is known at this place to its C++ text."""

    def __init__(
        self,
        writer: Writer,
        nest: Nest,
        schedule: Schedule,
        buffers: Mapping[str, str],
        names: Names,
        in_region: bool = False,
    ) -> None:
        self.out, self.nest, self.schedule, self.buffers, self.names = writer, nest, schedule, buffers, names
        self.in_region = in_region
        self.analysis: Analysis = analyse(nest)
        self.env: dict[str, str] = {}
        self.commented: set[str] = set()
        self.unravelled: tuple[Axis, ...] = ()
        self.bounds: dict[str, tuple[str, str]] = {}
        """From where to where an item axis runs, where that is not its extent."""
        self.turned_elements: dict[str, tuple[str, str]] = {}
        """The tile and the lane of what lies turned in cache: loads by name, stores as "to" their buffer."""
        self.lane_level = self.lane_levels()
        self.stores = [s for s in nest.body if isinstance(s, Store)]

    def lane_levels(self) -> dict[str, bool]:
        """For every scalar, whether it is computed lane by lane."""
        columns = self.schedule.mode is Mode.COLUMNS
        level: dict[str, bool] = {}
        for statement in self.nest.body:
            if isinstance(statement, Reduce):
                level[statement.name] = columns
            elif not isinstance(statement, Store):
                level[statement.name] = self.walks_lanes(self.analysis.axes[statement.name]) or any(
                    level[name] for name in self.analysis.reads(statement)
                )
        return level

    def walks_lanes(self, axes: Iterable[str]) -> bool:
        lanes = {self.schedule.vector, *(axis.name for axis in self.unravelled)}
        return any(axis in lanes for axis in axes)

    def is_inner(self, store: Store) -> bool:
        return self.analysis.is_inner(store, frozenset(axis.name for axis in self.nest.reductions))

    def is_lane_store(self, statement: Store) -> bool:
        return self.walks_lanes(self.analysis.axes_of(statement)) or any(
            self.lane_level[name] for name in self.analysis.reads(statement)
        )

    def needed(self, roots: Iterable[str]) -> set[str]:
        """Scalars that must be computed to know `roots`, given what is known already."""
        found: set[str] = set()
        pending = [name for name in roots if name not in self.env]
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                pending += [
                    n for n in self.analysis.reads(self.analysis.definitions[name]) if n not in self.env
                ]
        return found

    def define(self, chosen: Iterable[str]) -> None:
        """Print the chosen scalars in the order of the body."""
        wanted = set(chosen) - self.env.keys()
        for statement in self.nest.body:
            if isinstance(statement, Store) or statement.name not in wanted:
                continue
            if isinstance(statement, Constant):
                text = literal(statement.value, statement.dtype)
                self.env[statement.name] = f"({text})" if text.startswith("-") else text
                continue
            self.comment(statement.origins)
            expression = self.expression(statement)
            if self.is_inlined(statement):
                self.env[statement.name] = expression
                continue
            name = self.names.new(statement.name)
            self.out.line(f"const {TYPES[statement.dtype]} {name} = {expression};")
            self.env[statement.name] = name

    def is_inlined(self, statement: Definition) -> bool:
        """True for 16-bit floats on their way from or to memory: loops with scalars of that type do not vectorise."""
        if statement.dtype not in (DType.F16, DType.BF16) or not isinstance(statement, (Load, Compute)):
            return False
        readers = [s for s in self.nest.body if statement.name in self.analysis.reads(s)]
        return all(
            isinstance(s, Store) or (isinstance(s, Compute) and s.operation == "cast") for s in readers
        )

    def comment(self, origins: Origins) -> None:
        """Name each of the user's operators once a nest, where its first scalar stands."""
        for text in map(str, origins):
            if text not in self.commented:
                self.commented.add(text)
                self.out.line(f"// {text}")

    def expression(self, statement: Definition) -> str:
        match statement:
            case Load():
                access = self.element(statement)
                if not statement.guards:
                    return access
                other = literal(statement.other, statement.dtype)
                if (kept := self.env.get(_kept_key(statement))) is not None:
                    return f"gc_keep({kept} + {self.env[str(self.schedule.vector)]}], {other})"
                steady = self.env.get(_steady_key(statement), access)
                return f"{self.condition(statement.guards)} ? {steady} : {other}"
            case IndexValue():
                text = affine_text(statement.expression, self.env)
                return f"({TYPES[statement.dtype]})({text})"
            case Compute(operation="cast"):
                source = self.analysis.definitions[statement.arguments[0]]
                if isinstance(source, Load) and source.guards and self.is_inlined(source):
                    wide = cast_text(source.dtype, statement.dtype, self.element(source))
                    other = literal(source.other, statement.dtype)
                    return f"{self.condition(source.guards)} ? {wide} : {other}"
                return cast_text(source.dtype, statement.dtype, self.env[source.name])
            case Compute(operation="where", dtype=DType.BOOL):
                # A choice between bools keeps a loop from vectorising; the same in bit operations does not.
                condition, x, y = (self.env[name] for name in statement.arguments)
                return f"({condition} & {x}) | (!{condition} & {y})"
            case Compute():
                arguments = [self.env[name] for name in statement.arguments]
                last = self.analysis.definitions[statement.arguments[-1]]
                operand = last.dtype
                if statement.operation == "pow" and isinstance(last, Constant) and is_short_power(last):
                    return f"gc_pow_quarters<{round(4 * float(last.value))}>({arguments[0]})"
                text = operation_text(statement.operation, operand, arguments)
                narrow = statement.dtype.is_integer and statement.dtype.itemsize < 4
                return f"({TYPES[statement.dtype]})({text})" if narrow else text
            case Random():
                state = self.buffers[statement.buffer]
                index = affine_text(statement.index, self.env)
                return f"gc_philox_uniform({state}[0], {state}[1], {statement.stream}u, {index})"
            case Anchor():
                return self.env[ANCHOR]
            case _:
                raise AssertionError(f"{type(statement).__name__} is printed where its value is made")

    def element(self, load: Load) -> str:
        """What lies in memory, as a value of the scalar's type."""
        access = f"{self.buffers[load.buffer]}[{affine_text(load.index[0], self.env)}]"
        return f"({access} != 0)" if load.dtype is DType.BOOL else access

    def condition(self, guards: Sequence[Guard]) -> str:
        """All guards in one branch-free condition; those that do not change along the lanes are hoisted."""
        return "(" + " & ".join(self.env.get(guard_key(g)) or guard_text(g, self.env) for g in guards) + ")"

    def hoist_guards(self, statements: Iterable[Definition | Store]) -> None:
        """Print the guards of lane loops that hold for a whole loop as named conditions."""
        for statement in statements:
            if not isinstance(statement, (Load, Store)):
                continue
            for guard in statement.guards:
                key = guard_key(guard)
                varies = self.walks_lanes(guard_axes(guard, self.analysis))
                known = all(v in self.env for v in guard.expression.variables)
                if not varies and known and key not in self.env:
                    name = self.names.new("inside")
                    self.out.line(f"const bool {name} = {guard_text(guard, self.env)};")
                    self.env[key] = name
            if isinstance(statement, Load) and self._is_kept_or_not(statement):
                self._hoist_kept(statement)
            elif isinstance(statement, Load) and self._is_steady(statement):
                self._hoist_steady(statement)

    def _is_steady(self, load: Load) -> bool:
        """True where all lanes whose guards hold read one element, whose place these guards say nothing of.

        GCC vectorises a choice between two values, but hardly one between a value and reading memory. Each guard must
        hold somewhere, as the element is then read wherever the lanes are.
        """
        (index,) = load.index
        varying = [guard for guard in load.guards if guard_key(guard) not in self.env]
        if not varying or self.unravelled or load.dtype in (DType.F16, DType.BF16):
            return False
        place = set(index.variables)
        return (
            all(variable in self.env for variable in place)
            and not any(self.walks_lanes(self.analysis.axes.get(v, (v,))) for v in place)
            and all(not place & set(guard.expression.variables) for guard in varying)
            and all(isinstance(g.low, int) and isinstance(g.high, int) and g.low < g.high for g in varying)
        )

    def _hoist_steady(self, load: Load) -> None:
        """Print the element that all lanes read."""
        if _steady_key(load) in self.env:
            return
        known = [guard for guard in load.guards if guard_key(guard) in self.env]
        element, name = self.element(load), self.names.new(load.name)
        if known:
            element = f"{self.condition(known)} ? {element} : {literal(load.other, load.dtype)}"
        self.out.line(f"const {TYPES[load.dtype]} {name} = {element};")
        self.env[_steady_key(load)] = name

    def _is_kept_or_not(self, load: Load) -> bool:
        """True where a lane loop reads a run of floats, or none of it: GCC vectorises no choice by one bool.

        What is guarded must hold something, as the loop then reads the buffer's first elements.
        """
        vector = self.schedule.vector
        if not load.guards or load.dtype not in (DType.F32, DType.F64) or vector is None or self.unravelled:
            return False
        return (
            load.index[0].stride(vector) == 1
            and all(v == vector or v in self.env for v in load.index[0].variables)
            and all(guard_key(guard) in self.env for guard in load.guards)
            and all(
                isinstance(g.low, int) and isinstance(g.high, int) and g.low < g.high for g in load.guards
            )
        )

    def _hoist_kept(self, load: Load) -> None:
        """Print where a run begins and a mask of its lanes: bits that keep what is read, or nothing of it."""
        vector, condition = self.schedule.vector, self.condition(load.guards)
        if vector is None or _kept_key(load) in self.env:
            return
        bits = f"int{8 * load.dtype.itemsize}_t"
        mask = self.env.get(f"mask {bits} {condition}")
        if mask is None:
            mask = self.env[f"mask {bits} {condition}"] = self.names.new("kept")
            self.out.line(f"const {bits} {mask} = {condition} ? -1 : 0;")
        start = self.names.new(f"{load.name}_start")
        first = affine_text(load.index[0].substitute({vector: Affine()}), self.env)
        self.out.line(f"const int64_t {start} = {condition} ? {first} : 0;")
        self.env[_kept_key(load)] = f"{mask}, {self.buffers[load.buffer]}[{start}"

    def store(self, store: Store) -> None:
        self.define(self.needed(self.analysis.reads(store)))
        self.comment(store.origins)
        prefix = f"if ({self.condition(store.guards)}) " if store.guards else ""
        self.out.line(f"{prefix}{self.place(store)} = {self.env[store.value]};")

    def place(self, store: Store) -> str:
        """Where a store's value goes."""
        return f"{self.buffers[store.buffer]}[{affine_text(store.index[0], self.env)}]"

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is defined inside is forgotten after."""
        saved = dict(self.env)
        yield
        self.env = saved

    @contextmanager
    def block(self, header: str, end: str = "}") -> Iterator[None]:
        """A C++ block; identifiers declared inside are free again after it."""
        with self.out.block(header, end), self.names.scope():
            yield


def is_short_power(exponent: Constant) -> bool:
    """True for exponents that roots and a few products make of their base: 3/4 and the like, but whole numbers."""
    quarters = 4 * float(exponent.value)
    return exponent.dtype.is_float and abs(quarters) < 16 and quarters.is_integer() and quarters % 4 != 0


def _kept_key(load: Load) -> str:
    return f"kept {load.name}"


def _steady_key(load: Load) -> str:
    return f"steady {load.name}"


def guard_key(guard: Guard) -> str:
    """The key of a guard's condition among the known scalars."""
    return f"guard {guard!r}"
