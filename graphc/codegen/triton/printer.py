"""Statements of one nest as lines of Triton.

Every scalar of the nest becomes a block whose shape has a 1 wherever the value does not vary, so that blocks of
different levels meet by broadcasting. A scalar that varies along no dimension of the tile stays a scalar.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from graphc.codegen.triton import scalars
from graphc.codegen.triton.expressions import (
    TRITON_TYPES,
    Names,
    affine_text,
    as_operand,
    dim_text,
    literal_text,
)
from graphc.codegen.triton.schedule import Group
from graphc.ir.graph import Origins
from graphc.ir.kernel import (
    Affine,
    Anchor,
    Compute,
    Constant,
    Guard,
    IndexValue,
    Load,
    Random,
    Reduce,
    Statement,
    Store,
)
from graphc.types import Dim, DType, dimension, same_dim

NOWHERE: frozenset[str] = frozenset()


@dataclass
class Scope:
    """What the statements of a nest may refer to.

    `variables` gives the text of each axis, `varies` the groups along which an axis (and later each scalar) varies,
    `masks` the names of the in-bounds conditions of the groups that need one, `tile` the groups that are dimensions.
    """

    names: Names
    pointers: Mapping[str, str]
    dtypes: Mapping[str, DType]
    extents: Mapping[str, Dim]
    variables: dict[str, str]
    varies: dict[str, frozenset[str]]
    masks: Mapping[str, str]
    tile: tuple[Group, ...]
    block_names: Mapping[str, str]
    helpers: set[str] = field(default_factory=set)
    text: dict[str, str] = field(default_factory=dict)
    scalar_dtypes: dict[str, DType] = field(default_factory=dict)
    literals: dict[str, str] = field(default_factory=dict)
    eviction: dict[str, str] = field(default_factory=dict)
    """Buffer to eviction policy of its loads."""
    linear: dict[str, Group] = field(default_factory=dict)
    """The index of a group of several axes, by its variable."""
    last: Origins = ()
    """The origin of the last comment."""

    @classmethod
    def of_extents(cls, extents: Mapping[str, Dim], variables: dict[str, str]) -> Scope:
        """A scope of axes alone, for conditions outside a nest."""
        varies = dict.fromkeys(variables, NOWHERE)
        return cls(Names(), {}, {}, extents, variables, varies, {}, (), {})

    def shape(self, groups: Iterable[str]) -> str:
        """The shape of a block that varies along these groups, as text."""
        wanted = set(groups)
        dims = [self.block_names[group.name] if group.name in wanted else "1" for group in self.tile]
        return f"[{', '.join(dims)}]"

    def expression(self, affine: Affine) -> tuple[str, frozenset[str]]:
        varies = frozenset().union(*(self.varies[name] for name in affine.variables))
        return linear_text(affine, {**self.variables, **self.text}, self.linear), varies

    # Statements

    def lines(self, statements: Iterable[Statement]) -> list[str]:
        """The statements, each run of one origin under one comment."""
        result: list[str] = []
        for statement in statements:
            lines = self.statement(statement)
            result += self.comment(statement) + lines if lines else []
        return result

    def comment(self, statement: Statement) -> list[str]:
        """The operators that the statement comes from, unless the comment above says so already."""
        if not statement.origins or statement.origins == self.last:
            return []
        self.last = statement.origins
        return [f"# {'; '.join(map(str, statement.origins))}"]

    def statement(self, statement: Statement) -> list[str]:
        match statement:
            case Constant():
                return self._constant(statement)
            case Load():
                return self._load(statement)
            case Store():
                return self._store(statement)
            case IndexValue():
                text, varies = self.expression(statement.expression)
                return self.define(
                    statement.name, statement.dtype, self._index_cast(text, varies, statement.dtype), varies
                )
            case Compute():
                return self._compute(statement)
            case Random():
                return self._random(statement)
            case Reduce():
                return self.trivial_reduce(statement)
            case Anchor():
                raise AssertionError("an anchor's result is named by its template")

    def define(self, name: str, dtype: DType, text: str, varies: frozenset[str]) -> list[str]:
        variable = self.declare(name, dtype, varies)
        return [f"{variable} = {text}"]

    def declare(self, name: str, dtype: DType, varies: frozenset[str]) -> str:
        """The variable of a scalar, which varies along those groups; a literal of that name is forgotten."""
        variable = self.names.of("scalar", name)
        self.text[name] = variable
        self.varies[name] = varies
        self.scalar_dtypes[name] = dtype
        self.literals.pop(name, None)
        return variable

    def _constant(self, statement: Constant) -> list[str]:
        text = literal_text(statement.value, statement.dtype)
        self.text[statement.name] = self.literals[statement.name] = text
        self.varies[statement.name] = NOWHERE
        self.scalar_dtypes[statement.name] = statement.dtype
        return []

    def _index_cast(self, text: str, varies: frozenset[str], dtype: DType) -> str:
        target = TRITON_TYPES[dtype]
        return f"tl.cast({text}, {target})"

    def typed(self, name: str) -> str:
        """The scalar as something that has a dtype of its own even if it is a literal."""
        if name not in self.literals:
            return self.text[name]
        return f"tl.full([], {self.literals[name]}, {TRITON_TYPES[self.scalar_dtypes[name]]})"

    def _compute(self, statement: Compute) -> list[str]:
        arguments = statement.arguments
        varies = frozenset().union(*(self.varies[name] for name in arguments))
        source = self.scalar_dtypes[arguments[-1]]
        # A literal takes its type from the operand beside it; a helper function reads the type of its operand.
        values = arguments[1:] if statement.operation == "where" else arguments
        calls = scalars.helpers_of(statement.operation, source)
        bare = not calls and any(name not in self.literals for name in values) and len(values) > 1
        bare = bare and (source is not DType.F64 or statement.operation in scalars.EXACT_WITH_LITERALS)
        operands = [
            as_operand(self.text[name]) if bare and name in values else as_operand(self.typed(name))
            for name in arguments
        ]
        self.helpers.update(calls)
        if statement.operation == "cast":
            text = self._cast(operands[0], source, statement.dtype)
        else:
            text = scalars.FORMS[statement.operation](operands, source)
        return self.define(statement.name, statement.dtype, text, varies)

    def _cast(self, operand: str, source: DType, target: DType) -> str:
        if source is target:
            return operand
        if target is DType.BOOL:
            return f"{operand} != 0"
        if target is DType.BF16 and source is not DType.F32:
            # The interpreter holds bf16 as integers, and converts to it from f32 alone.
            operand = f"{operand}.to(tl.float32)"
        return f"{operand}.to({TRITON_TYPES[target]})"

    def _random(self, statement: Random) -> list[str]:
        text, varies = self.expression(statement.index)
        if not varies:
            text = f"tl.full([1], {text}, tl.int32)"
        self.helpers.add("uniform")
        call = f"uniform({self.pointers[statement.buffer]}, {statement.stream}, {text})"
        if not varies:
            call = f"tl.sum({call}, axis=0)"
        return self.define(statement.name, statement.dtype, call, varies)

    def trivial_reduce(self, statement: Reduce) -> list[str]:
        """A reduction over no axes: the value itself, at position 0."""
        if statement.operation.value.startswith("arg"):
            return self.define(statement.name, statement.dtype, "tl.full([], 0, tl.int64)", NOWHERE)
        return self.define(
            statement.name, statement.dtype, self.typed(statement.argument), self.varies[statement.argument]
        )

    # Memory

    def _load(self, statement: Load) -> list[str]:
        pointer, varies, condition = self._access(statement.buffer, statement.index[0], statement.guards)
        options = [pointer]
        if condition:
            options.append(f"mask={condition}")
        if statement.guards:
            options.append(f"other={literal_text(statement.other, statement.dtype)}")
        if statement.buffer in self.eviction:
            options.append(f'eviction_policy="{self.eviction[statement.buffer]}"')
        variable = self.declare(statement.name, statement.dtype, varies)
        return call_lines(f"{variable} = tl.load", options)

    def _store(self, statement: Store) -> list[str]:
        value_varies = self.varies[statement.value]
        pointer, _, condition = self._access(
            statement.buffer, statement.index[0], statement.guards, value_varies
        )
        options = [pointer, self.text[statement.value]] + ([f"mask={condition}"] if condition else [])
        return call_lines("tl.store", options)

    def _access(
        self, buffer: str, address: Affine, guards: Sequence[Guard], beside: frozenset[str] = NOWHERE
    ) -> tuple[str, frozenset[str], str]:
        """(pointer, the groups along which it varies, the condition under which it may be followed).

        The pointer is a block along the groups of `beside` too.
        """
        text, varies = self.expression(address)
        conditions, wide = [], varies | beside
        for guard in guards:
            guard_text, guard_varies = self.guard(guard)
            conditions += guard_text
            wide |= guard_varies if guard_text else NOWHERE
        conditions = [
            self.masks[group.name] for group in self.tile if group.name in wide and group.name in self.masks
        ] + conditions
        tile_names = {group.name for group in self.tile}
        if wide & tile_names != varies & tile_names:
            # A mask may not have more elements than its pointers.
            text = f"{as_operand(text)} + tl.full({self.shape(wide)}, 0, tl.int32)"
        pointer = self.pointers[buffer] if text == "0" else f"{self.pointers[buffer]} + {text}"
        return pointer, wide, " & ".join(conditions)

    def guard(self, guard: Guard) -> tuple[list[str], frozenset[str]]:
        """The conditions of a guard that can fail, and where it varies."""
        text, varies = self.expression(guard.expression)
        least, greatest = self.bounds(guard.expression)
        return within(text, least, greatest, guard.low, guard.high), varies

    def bounds(self, expression: Affine) -> tuple[int | None, int | None]:
        """The least and greatest value that the expression takes in bounds, None where that is not known."""
        least: Dim | None = expression.offset
        greatest: Dim | None = expression.offset
        for name, stride in expression.terms:
            if name not in self.extents or not isinstance(stride, int):
                return None, None
            span = stride * (self.extents[name] - 1)
            if stride > 0:
                greatest = greatest + span if greatest is not None else None
            else:
                least = least + span if least is not None else None
        return (
            least if isinstance(least, int) else None,
            greatest if isinstance(greatest, int) else None,
        )


def within(text: str, least: int | None, greatest: int | None, low: Dim, high: Dim) -> list[str]:
    """The conditions of low <= value < high that can fail, for a value whose bounds may be known."""
    conditions = []
    if least is None or not isinstance(low, int) or least < low:
        conditions.append(f"({text} >= {dim_text(low)})")
    if greatest is None or not isinstance(high, int) or greatest >= high:
        conditions.append(f"({text} < {dim_text(high)})")
    return conditions


def call_lines(head: str, arguments: Sequence[str]) -> list[str]:
    """A call on one line, or with one argument a line where that would be too long."""
    line = f"{head}({', '.join(arguments)})"
    if len(line) <= 100:
        return [line]
    return [f"{head}(", *(f"    {argument}," for argument in arguments), ")"]


def linear_text(affine: Affine, variables: Mapping[str, str], linear: Mapping[str, Group]) -> str:
    """The expression, with the axes of a group that it walks in row-major order as the index of the group."""
    for index, group in linear.items():
        factor = affine.stride(group.axes[-1].name)
        stride: Dim = factor
        for axis in reversed(group.axes):
            if factor == 0 or not same_dim(affine.stride(axis.name), stride):
                break
            stride = dimension(stride * axis.extent)
        else:
            names = {axis.name for axis in group.axes}
            rest = tuple(term for term in affine.terms if term[0] not in names)
            # Behind a space, since no scalar's name has one.
            affine = Affine(affine.offset, ((f" {index}", factor), *rest))
    return affine_text(affine, {**variables, **{f" {index}": index for index in linear}})
