"""A nest without an anchor: its schedule and statements as the context of the template `nest.py.j2`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphc.codegen.triton import scalars
from graphc.codegen.triton.expressions import TRITON_TYPES, Names, as_operand, dim_text, without_parentheses
from graphc.codegen.triton.printer import Scope
from graphc.codegen.triton.schedule import Group, Mode, NestSchedule
from graphc.codegen.triton.stages import Stages, softmax_sums, stages_of
from graphc.ir.kernel import Load, Nest, Reduce, Reduction, Statement, Store, levels
from graphc.types import Dim, DType


@dataclass
class Loop:
    """One pass over the reduction axes: lines before it, its accumulators, its body, lines after it."""

    before: list[str]
    accumulators: list[str]
    header: list[str]
    body: list[str]
    after: list[str]

    @property
    def lines(self) -> list[str]:
        return [*self.before, *self.accumulators, *self.body, *self.after]


@dataclass
class NestText:
    """The text of a nest, for its template."""

    comment: str
    preamble: list[str]
    loops: list[Loop]
    body: list[str]
    blocks: tuple[tuple[str, int], ...]
    helpers: set[str] = field(default_factory=set)


class NestPrinter:
    """Prints one nest of a kernel under a schedule; `program` is the text of the program's number in the nest."""

    def __init__(
        self,
        nest: Nest,
        schedule: NestSchedule,
        names: Names,
        pointers: Mapping[str, str],
        dtypes: Mapping[str, DType],
        program: str,
        index_type: str = "tl.int32",
    ) -> None:
        self.nest, self.schedule, self.program, self.index_type = nest, schedule, program, index_type
        self.blocks = {group.name: names.new(f"BLOCK_{group.name.upper()}") for group in schedule.tile}
        self.indices = {group.name: names.new(group.name) for group in self._groups}
        self.axis_names: set[str] = set()
        self.beside: dict[int, Reduce] = {}
        self.inner = levels(nest)
        self.scope = Scope(
            names=names,
            pointers=pointers,
            dtypes=dtypes,
            extents={axis.name: axis.extent for axis in nest.axes},
            variables={},
            varies={},
            masks={g.name: names.new(f"{g.name}_inside") for g in schedule.tile if not g.exact},
            tile=schedule.tile,
            block_names=self.blocks,
        )
        self.scope.eviction = self._eviction()

    @property
    def _groups(self) -> tuple[Group, ...]:
        extra = (self.schedule.reduction,) if self.schedule.reduction is not None else ()
        return (*self.schedule.grid, *extra)

    def _eviction(self) -> dict[str, str]:
        """Operands that every program reads again, such as a bias, stay in the cache."""
        outermost = {axis.name for group in self.schedule.grid[:1] for axis in group.axes[:1]}
        policy = {}
        for statement in self.nest.body:
            if isinstance(statement, Load) and outermost and self.schedule.mode is not Mode.LOOPED:
                variables = set(statement.index[0].variables)
                known = {axis.name for axis in self.nest.axes}
                if variables and variables <= known and not variables & outermost:
                    policy[statement.buffer] = "evict_last"
        return policy

    def text(self) -> NestText:
        preamble = self._grid_lines()
        loops: list[Loop] = []
        body: list[str] = []
        match self.schedule.mode:
            case Mode.POINTWISE:
                body = self.scope.lines(self.nest.body)
            case Mode.PERSISTENT:
                assert self.schedule.reduction is not None
                preamble += self._index_lines(self.schedule.reduction, start="")
                body = self._persistent()
            case Mode.LOOPED | Mode.UNROLLED:
                loops, body = self._passes()
        used = " ".join([*preamble, *body, *(line for loop in loops for line in loop.lines)])
        preamble = [line for line in preamble if _is_used(line, self.axis_names, used)]
        for loop in loops:
            loop.body = [line for line in loop.body if _is_used(line, self.axis_names, used)]
        axes = ", ".join(
            f"{axis.name} < {without_parentheses(dim_text(axis.extent))}{' (reduced)' if axis.reduction else ''}"
            for axis in self.nest.axes
        )
        blocks = tuple((self.blocks[group.name], group.block) for group in self.schedule.tile)
        return NestText(axes or "one element", preamble, loops, body, blocks, self.scope.helpers)

    # Indices

    def _grid_lines(self) -> list[str]:
        """The program's number taken apart into one index a group, the last group fastest."""
        lines: list[str] = []
        grid = self.schedule.grid
        for position, group in enumerate(grid):
            inner = grid[position + 1 :]
            number = self.program
            if inner:
                number = f"{number} // {self._count(inner)}"
            if position > 0:
                number = (
                    f"{as_operand(number)} % {self._count((group,))}"
                    if inner
                    else f"{number} % {self._count((group,))}"
                )
            lines += self._index_lines(group, start=number)
        return lines

    def _count(self, groups: Sequence[Group]) -> str:
        parts = [
            f"tl.cdiv({dim_text(g.extent)}, {self.blocks[g.name]})" if g.block > 1 else dim_text(g.extent)
            for g in groups
        ]
        return parts[0] if len(parts) == 1 else f"({' * '.join(parts)})"

    def _index_lines(self, group: Group, start: str) -> list[str]:
        """Define the group's index, its mask and its axes; `start` numbers the group's block, "" for the only one."""
        index = self.indices[group.name]
        lines = []
        if group.block > 1:
            span = f"tl.arange(0, {self.blocks[group.name]}){self._subscript(group)}"
            span = self._wide(span) if not start else span
            origin = f"{start} * {self.blocks[group.name]} + " if start else ""
            lines.append(f"{index} = {origin}{span}")
        else:
            lines.append(f"{index} = {start}")
        return lines + self._axis_lines(group)

    def _axis_lines(self, group: Group) -> list[str]:
        index, lines = self.indices[group.name], []
        if group.name in self.scope.masks:
            lines.append(
                f"{self.scope.masks[group.name]} = {index} < {without_parentheses(dim_text(group.extent))}"
            )
        if len(group.axes) == 1:
            self._bind(group.axes[0].name, index, group)
            return lines
        inner: Dim = 1
        for position in range(len(group.axes) - 1, -1, -1):
            axis = group.axes[position]
            text = index if inner == 1 else f"{index} // {dim_text(inner)}"
            if position > 0:
                text = f"{text} % {dim_text(axis.extent)}"
            variable = self.scope.names.of("axis", axis.name)
            lines.append(f"{variable} = {text}")
            self.axis_names.add(variable)
            self._bind(axis.name, variable, group)
            inner = inner * axis.extent
        self.scope.linear[index] = group
        return lines

    def _bind(self, axis: str, text: str, group: Group) -> None:
        self.scope.variables[axis] = text
        self.scope.varies[axis] = frozenset((group.name,))

    def _wide(self, span: str) -> str:
        """The span in the type of the program's number, from which the other indices have theirs."""
        return span if self.index_type == "tl.int32" else f"{span}.to({self.index_type})"

    def _subscript(self, group: Group) -> str:
        tile = self.schedule.tile
        if len(tile) == 1:
            return ""
        return f"[{', '.join(':' if other is group else 'None' for other in tile)}]"

    # Reductions

    def _persistent(self) -> list[str]:
        lines: list[str] = []
        run: list[Statement] = []
        for statement in self.nest.body:
            if isinstance(statement, Reduce):
                lines += self.scope.lines(run)
                run = []
                lines += self.scope.comment(statement) + self._whole(statement, self._padded(statement))
            else:
                run.append(statement)
        return lines + self.scope.lines(run)

    def _padded(self, statement: Reduce) -> str:
        """The reduction's operand over the whole tile, neutral outside the reduction axes."""
        scope, reduction = self.scope, self.schedule.reduction
        assert reduction is not None
        dtype = scope.scalar_dtypes[statement.argument]
        value = scope.text[statement.argument]
        tile = {group.name for group in self.schedule.tile}
        if not tile <= scope.varies[statement.argument]:
            value = f"tl.broadcast_to({scope.typed(statement.argument)}, {scope.shape(tile)})"
        if reduction.name not in scope.masks:
            return value
        neutral = scalars.identity_text(statement.operation, dtype)
        return f"tl.where({scope.masks[reduction.name]}, {value}, {neutral})"

    def _row_groups(self) -> frozenset[str]:
        return frozenset(group.name for group in self.schedule.grid)

    def _whole(self, statement: Reduce, value: str, position: str | None = None) -> list[str]:
        """Reduce a block along the tile's last dimension."""
        scope, tile = self.scope, self.schedule.tile
        dtype = scope.scalar_dtypes[statement.argument]
        axis = len(tile) - 1
        subscript = "[:, None]" if len(tile) == 2 else ""
        if statement.operation in (Reduction.ARGMAX, Reduction.ARGMIN):
            helper = _position_helper(statement.operation)
            scope.helpers.add(helper)
            assert self.schedule.reduction is not None
            index = self.indices[self.schedule.reduction.name]
            position = position or f"tl.broadcast_to({index}, {scope.shape({g.name for g in tile})})"
            variable = scope.declare(statement.name, statement.dtype, self._row_groups())
            best = scope.names.new(f"{variable}_value")
            lines = [f"{best}, {variable} = tl.reduce(({value}, {position}), {axis}, {helper})"]
            return [*lines, f"{variable} = {variable}{subscript}.to(tl.int64)"]
        text, called = scalars.reduce_text(statement.operation, dtype, as_operand(value), axis)
        scope.helpers.update({called} if called else set())
        if subscript:
            text = f"{as_operand(text) if ' != ' in text else text}{subscript}"
        return scope.define(statement.name, statement.dtype, text, self._row_groups())

    # Passes over the reduction axes

    def _passes(self) -> tuple[list[Loop], list[str]]:
        self.beside = softmax_sums(self.nest) if self.schedule.mode is Mode.LOOPED else {}
        stages = stages_of(self.nest, self.beside)
        loops = []
        done = 0
        for number in range(stages.count):
            before = self.scope.lines(self._outer(stages, number))
            loops.append(self._pass(stages, number, before))
            done = number + 1
        rest = [
            statement for level in range(done, stages.count + 2) for statement in self._outer(stages, level)
        ]
        return loops, self.scope.lines(rest)

    def _outer(self, stages: Stages, level: int) -> list[Statement]:
        """Outer statements that can run once `level` passes are done."""
        return [s for s in self.nest.body if not isinstance(s, Reduce) and stages.outer.get(id(s)) == level]

    def _pass(self, stages: Stages, number: int, before: list[str]) -> Loop:
        reduction = self.schedule.reduction
        assert reduction is not None
        index, extent = self.indices[reduction.name], dim_text(reduction.extent)
        if self.schedule.mode is Mode.UNROLLED:
            header = [f"for {index} in tl.static_range({extent}):"]
            indices = self._axis_lines(reduction)
        else:
            start = self.scope.names.of("start", f"{reduction.name}_start")
            block = self.blocks[reduction.name]
            header = [f"for {start} in range(0, {extent}, {block}):"]
            indices = [
                f"{index} = {start} + {self._wide(f'tl.arange(0, {block}){self._subscript(reduction)}')}"
            ]
            indices += self._axis_lines(reduction)
        reduces = [s for s in self.nest.body if isinstance(s, Reduce) and stages.passes[id(s)] == number]
        accumulators = [line for reduce in reduces for line in self._accumulator(reduce)]
        self.scope.eviction = self._loop_eviction(stages, number)
        body = self._loop_body(stages.statements(self.nest, number, self.inner))
        self.scope.eviction = {}
        after = [line for reduce in reduces for line in self._finish(reduce)]
        return Loop(before, accumulators, [*header], indices + body, after)

    def _loop_eviction(self, stages: Stages, number: int) -> dict[str, str]:
        """Rows that a later pass reads again stay in the cache; the last reader lets them go."""
        if self.schedule.mode is not Mode.LOOPED or stages.count == 1:
            return {}
        read = [
            {s.buffer for s in stages.statements(self.nest, n, self.inner) if isinstance(s, Load)}
            for n in range(stages.count)
        ]
        later = set().union(*read[number + 1 :])
        earlier = set().union(*read[:number])
        return {
            buffer: "evict_last" if buffer in later else "evict_first"
            for buffer in sorted(read[number])
            if buffer in later or buffer in earlier
        }

    def _loop_body(self, statements: Sequence[Statement]) -> list[str]:
        lines: list[str] = []
        self.scope.last = ()
        run: list[Statement] = []
        for statement in statements:
            if isinstance(statement, Reduce):
                lines += self.scope.lines(run)
                run = []
                lines += self.scope.comment(statement) + self._accumulate(statement)
            else:
                run.append(statement)
        return lines + self.scope.lines(run)

    def _accumulator_names(self, statement: Reduce) -> tuple[str, str]:
        names = self.scope.names
        base = f"{statement.name}_partial"
        return names.of("accumulator", base), names.of("accumulator", f"{statement.name}_position")

    def _accumulator(self, statement: Reduce) -> list[str]:
        dtype = self.scope.scalar_dtypes.get(statement.argument) or _argument_dtype(self.nest, statement)
        value, position = self._accumulator_names(statement)
        shape = self.scope.shape(group.name for group in self.schedule.tile)
        neutral = scalars.identity_text(statement.operation, dtype)
        lines = [f"{value} = tl.full({shape}, {neutral}, {TRITON_TYPES[dtype]})"]
        if statement.operation in (Reduction.ARGMAX, Reduction.ARGMIN):
            lines.append(f"{position} = tl.full({shape}, {scalars.NO_POSITION}, {self.index_type})")
        return lines

    def _accumulate(self, statement: Reduce) -> list[str]:
        scope, reduction = self.scope, self.schedule.reduction
        assert reduction is not None
        value, position = self._accumulator_names(statement)
        dtype = scope.scalar_dtypes[statement.argument]
        operand = (
            self._padded(statement) if self.schedule.mode is Mode.LOOPED else scope.typed(statement.argument)
        )
        if statement.operation in (Reduction.ARGMAX, Reduction.ARGMIN):
            helper = _position_helper(statement.operation)
            scope.helpers.add(helper)
            here = self.indices[reduction.name]
            return [f"{value}, {position} = {helper}({value}, {position}, {operand}, {here})"]
        if id(statement) in self.beside:
            return self._accumulate_softmax(self.beside[id(statement)], value, operand)
        text = scalars.combine_text(statement.operation, dtype, value, as_operand(operand))
        return [f"{value} = {text}"]

    def _accumulate_softmax(self, total: Reduce, maximum: str, operand: str) -> list[str]:
        """A maximum and the sum of exp(x - maximum), rescaled where the maximum grows."""
        names = self.scope.names
        value, greatest, shift = (
            names.of("softmax", f"{maximum}_{what}") for what in ("value", "new", "shift")
        )
        partial, _ = self._accumulator_names(total)
        return [
            f"{value} = {operand}",
            f"{greatest} = {scalars.combine_text(Reduction.MAX, total.dtype, maximum, value)}",
            "# Where all is -inf so far, nothing is to be shifted.",
            f'{shift} = tl.where({greatest} == float("-inf"), 0.0, {greatest})',
            f"{partial} = {partial} * tl.exp({maximum} - {shift})",
            f"{partial} = {partial} + tl.exp({value} - {shift})",
            f"{maximum} = {greatest}",
        ]

    def _finish_softmax(self, maximum: Reduce, total: Reduce) -> list[str]:
        """The sums of all lanes, each rescaled from the maximum of its lane to that of the row."""
        lane, _ = self._accumulator_names(maximum)
        partial, _ = self._accumulator_names(total)
        scaled = f"{partial} * tl.exp({lane} - {self.scope.text[maximum.name]})"
        self.scope.scalar_dtypes.setdefault(total.argument, total.dtype)
        return self._whole(total, scaled)

    def _finish(self, statement: Reduce) -> list[str]:
        value, position = self._accumulator_names(statement)
        maximum = next((s for s in self.nest.body if self.beside.get(id(s)) is statement), None)
        if isinstance(maximum, Reduce):
            return self._finish_softmax(maximum, statement)
        if self.schedule.mode is Mode.LOOPED:
            return self._whole(statement, value, position)
        if statement.operation in (Reduction.ARGMAX, Reduction.ARGMIN):
            value = f"{position}.to(tl.int64)"
        return self.scope.define(statement.name, statement.dtype, value, self._row_groups())


def _is_used(line: str, axes: set[str], text: str) -> bool:
    """False for the definition of an axis that nothing else in the text reads."""
    variable = line.split(" = ", 1)[0]
    if variable not in axes:
        return True
    mentions = len(re.findall(rf"\b{variable}\b", text))
    return mentions > len(re.findall(rf"\b{variable} = ", text))


def _position_helper(operation: Reduction) -> str:
    return "first_greatest" if operation is Reduction.ARGMAX else "first_least"


def _argument_dtype(nest: Nest, statement: Reduce) -> DType:
    return next(s.dtype for s in nest.body if not isinstance(s, Store) and s.name == statement.argument)
