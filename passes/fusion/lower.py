"""Lower a space to a loop nest: emit one scalar for each element that the stores need, operands first.

Buffers are named by graph values here (`Source`); bind.py turns them into parameters. 16-bit floats are loaded, cast
to f32 and kept there up to the store or to a cast of the user's; so a chain rounds once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from graphc.ir.graph import Node, Origins, Value
from graphc.ir.kernel import (
    Affine,
    Anchor,
    Axis,
    Compute,
    Constant,
    Guard,
    IndexValue,
    Literal,
    Load,
    Nest,
    Random,
    Reduce,
    Reduction,
    Statement,
    Store,
)
from graphc.passes.fusion import index as ix
from graphc.passes.fusion import windows
from graphc.passes.fusion.names import Scope
from graphc.passes.fusion.space import Access, Space, operand_accesses
from graphc.primitives.declare import Kind, primitive
from graphc.types import DType, dimension

Key = tuple[str, Access]


@dataclass(slots=True)
class Lowered:
    """A nest whose buffers are named by values: `sources` are read, `targets` written."""

    nest: Nest
    sources: dict[str, Value] = field(default_factory=dict)
    targets: dict[str, Value] = field(default_factory=dict)


def lower(space: Space, scope: Scope) -> Lowered:
    """The loop nest of a space; `scope` keeps its names unique. Raises NotAffineError when a reshape fails."""
    if space.results:
        return Lowered(Nest((), ()), targets={value.name: value for value in space.results})
    return _Lowering(space, scope).run()


class _Lowering:
    def __init__(self, space: Space, scope: Scope) -> None:
        self.space = space
        self.scope = scope
        self.body: list[Statement] = []
        self.dtypes: dict[str, DType] = {}
        self.table: dict[Key, str] = {}
        self.loads: dict[tuple[Key, str], str] = {}
        self.casts: dict[str, str] = {}
        self.narrow: dict[str, str] = {}
        self.constants: dict[tuple[DType, str], str] = {}
        self.conditions: dict[tuple[Guard, ...], str] = {}
        self.needs: dict[str, dict[Access, None]] = {}
        self.origins: Origins = ()
        self.result = Lowered(Nest((), ()))

    def run(self) -> Lowered:
        members = list(self.space.members.values())
        self._collect(members)
        for node in members:
            self.origins = node.origins
            self._emit(node)
        for sink in self.space.sinks:
            self._store(sink.target, sink.value, sink.index, sink.access)
        self.result.nest = self._rename(Nest(self._axes(), tuple(self.body)))
        return self.result

    def _axes(self) -> tuple[Axis, ...]:
        space = self.space
        return tuple(
            Axis(name, space.extents[name], name in space.reduction)
            for name in (*space.parallel, *space.reductions)
        )

    def _rename(self, nest: Nest) -> Nest:
        from graphc.passes.fusion.rewrite import rename_axes

        table: dict[str, str] = {}
        for prefix, axes in (("i", nest.parallel), ("r", nest.reductions)):
            table.update((axis.name, f"{prefix}{k}") for k, axis in enumerate(axes))
        return rename_axes(nest, table)

    def _collect(self, members: list[Node]) -> None:
        """Which elements of which member are needed, found from the stores backwards."""
        names = {value.name for node in members for value in node.outputs}
        for sink in self.space.sinks:
            self.needs.setdefault(sink.value.name, {})[sink.access] = None
        for node in reversed(members):
            if node is self.space.anchor:
                continue
            accesses = {a: None for value in node.outputs for a in self.needs.get(value.name, ())}
            for access in accesses:
                for value, source in operand_accesses(self.space, node, access):
                    if value.name in names:
                        self.needs.setdefault(value.name, {})[source] = None

    # Statements

    def _add(self, statement: Statement) -> str:
        self.body.append(statement)
        if isinstance(statement, Store):
            return ""
        self.dtypes[statement.name] = statement.dtype
        return statement.name

    def constant(self, value: Literal, dtype: DType) -> str:
        key = (dtype, repr(value))
        if key not in self.constants:
            name = self.scope.unique("c")
            self.constants[key] = self._add(Constant(name, dtype, value, self.origins))
        return self.constants[key]

    def compute(self, hint: str, dtype: DType, operation: str, *arguments: str) -> str:
        return self._add(Compute(self.scope.unique(hint), dtype, operation, arguments, self.origins))

    def index_value(self, expression: Affine, dtype: DType, hint: str = "index") -> str:
        if not expression.terms and isinstance(expression.offset, int):
            value = float(expression.offset) if dtype.is_float else expression.offset
            return self.constant(value, dtype)
        return self._add(IndexValue(self.scope.unique(hint), dtype, expression, self.origins))

    def widened(self, name: str) -> str:
        """The scalar in the type in which arithmetic on it is done."""
        return self.cast(name, self.dtypes[name].compute)

    def cast(self, name: str, dtype: DType) -> str:
        if self.dtypes[name] is dtype:
            return name
        narrow = self.narrow.get(name)
        if narrow is not None and self.dtypes[narrow] is dtype:
            return narrow
        key = f"{name}:{dtype}"
        if key not in self.casts:
            self.casts[key] = self.compute(name, dtype, "cast", name)
            if dtype is self.dtypes[name].compute:
                # Back to its own type it is what it was: nothing was lost.
                self.narrow[self.casts[key]] = name
        return self.casts[key]

    def load(self, value: Value, access: Access, fill: Literal = 0) -> str:
        """Read an element from memory; `fill` where a guard fails."""
        if value.name in self.space.moved:
            moved = self.space.moved[value.name]
            value, access = moved.value, moved.access(access)
        key = ((value.name, access), repr(fill) if access.guards else "")
        if key not in self.loads:
            fill = fill if access.guards else 0
            if value.type.dtype.is_float:
                fill = float(fill)
            elif value.type.dtype is DType.BOOL:
                fill = bool(fill)
            self.result.sources[value.name] = value
            name = self.scope.unique(value.name)
            statement = Load(
                name, value.type.dtype, value.name, access.index, access.guards, fill, self.origins
            )
            self.loads[key] = self._add(statement)
        return self.loads[key]

    def scalar(self, value: Value, access: Access) -> str:
        """The scalar that holds an element, in its compute type: a member's result, or loaded."""
        found = self.table.get((value.name, access))
        return self.widened(self.load(value, access) if found is None else found)

    def filled(self, value: Value, access: Access, own: tuple[Guard, ...], fill: Literal) -> str:
        """An element where its own guards hold, else `fill`."""
        found = self.table.get((value.name, access))
        if found is None and (own or not access.guards):
            return self.widened(self.load(value, access, fill))
        name = self.scalar(value, access)
        if not own:
            return name
        other = self.constant(fill, self.dtypes[name])
        return self.compute(value.name, self.dtypes[name], "where", self.condition(own), name, other)

    def condition(self, guards: tuple[Guard, ...]) -> str:
        """A bool scalar: all guards hold."""
        if guards not in self.conditions:
            parts = [part for guard in guards for part in self._comparisons(guard)]
            name = parts[0]
            for part in parts[1:]:
                name = self.compute("inside", DType.BOOL, "logical_and", name, part)
            self.conditions[guards] = name
        return self.conditions[guards]

    def _comparisons(self, guard: Guard) -> list[str]:
        at = self.index_value(guard.expression, DType.I64)
        low = self.index_value(Affine(guard.low), DType.I64)
        high = self.index_value(Affine(guard.high), DType.I64)
        return [
            self.compute("inside", DType.BOOL, "ge", at, low),
            self.compute("inside", DType.BOOL, "lt", at, high),
        ]

    def _store(self, target: Value, value: Value, index: tuple[Affine, ...], access: Access) -> None:
        name = self.scalar(value, access)
        name = self.cast(name, target.type.dtype)
        self.result.targets[target.name] = target
        self.origins = ()
        self._add(Store(target.name, index, name, self.space.guards))

    # Nodes

    def _emit(self, node: Node) -> None:
        kind = primitive(node.primitive).kind
        if node is self.space.anchor:
            dtype = node.output.type.dtype.compute
            name = self._add(Anchor(self.scope.unique(node.output.name), dtype, self.origins))
            for access in self.needs.get(node.output.name, ()):
                self.table[node.output.name, access] = name
            return
        if kind is Kind.WINDOW:
            self._window(node)
            return
        for access in self.needs.get(node.outputs[0].name, ()):
            self.table[node.outputs[0].name, access] = self._value(node, kind, access)

    def _value(self, node: Node, kind: Kind, access: Access) -> str:
        output = node.outputs[0]
        match kind:
            case Kind.ELEMENTWISE:
                return self._elementwise(node, access)
            case Kind.IDENTITY:
                return self.scalar(node.inputs[0], access)
            case Kind.RESHAPE:
                ((value, source),) = operand_accesses(self.space, node, access)
                return self.scalar(value, source)
            case Kind.VIEW:
                return self._view(node, access)
            case Kind.CONSTANT:
                return self._constant(node, access)
            case Kind.GATHER:
                return self._gather(node, access)
            case Kind.RANDOM:
                (state,) = node.inputs
                self.result.sources[state.name] = state
                number = ix.flatten(access.index, output.type.shape)
                name, stream = self.scope.unique(output.name), node.attributes["stream"]
                return self._add(Random(name, DType.F32, state.name, stream, number, self.origins))
            case Kind.REDUCTION:
                ((value, source),) = operand_accesses(self.space, node, access)
                operation = Reduction(node.primitive.removeprefix("reduce_"))
                return self._reduce(output, operation, self.scalar(value, source))
        raise AssertionError(f"{node.primitive} has no lowering")

    def _reduce(self, output: Value, operation: Reduction, argument: str) -> str:
        dtype = output.type.dtype.compute
        if operation in (Reduction.ARGMAX, Reduction.ARGMIN):
            dtype = DType.I64
        return self._add(Reduce(self.scope.unique(output.name), dtype, operation, argument, self.origins))

    def _elementwise(self, node: Node, access: Access) -> str:
        output = node.output
        arguments = [self.scalar(value, access) for value in node.inputs]
        if node.primitive == "cast":
            return self.cast(arguments[0], output.type.dtype)
        return self.compute(output.name, output.type.dtype.compute, node.primitive, *arguments)

    def _view(self, node: Node, access: Access) -> str:
        declared = primitive(node.primitive)
        assert declared.view is not None
        sources = declared.view(node, access.index)
        pairs = operand_accesses(self.space, node, access)
        if declared.fill is not None:
            ((value, source),) = pairs
            return self.filled(value, source, sources[0].guards, declared.fill(node))
        value, source = pairs[-1]
        name = self.scalar(value, source)
        for (value, source), found in reversed(list(zip(pairs[:-1], sources[:-1], strict=True))):
            here = self.scalar(value, source)
            name = self.compute(
                node.output.name, self.dtypes[name], "where", self.condition(found.guards), here, name
            )
        return name

    def _constant(self, node: Node, access: Access) -> str:
        dtype = node.output.type.dtype.compute
        if node.primitive == "full":
            return self.constant(node.attributes["value"], dtype)
        if node.primitive == "iota":
            return self.index_value(access.index[node.attributes["axis"]], dtype, node.output.name)
        return self.index_value(Affine(dimension(node.attributes["value"])), dtype, node.output.name)

    def _gather(self, node: Node, access: Access) -> str:
        data, indices = node.inputs
        axis = node.attributes["axis"]
        ((_, source),) = operand_accesses(self.space, node, access)
        at = self.cast(self.scalar(indices, source), DType.I64)
        at = self.compute("at", DType.I64, "maximum", at, self.constant(0, DType.I64))
        last = self.index_value(Affine(dimension(data.type.shape[axis] - 1)), DType.I64)
        at = self.compute("at", DType.I64, "minimum", at, last)
        after = access.index[axis + indices.type.rank :]
        index = (*access.index[:axis], Affine.axis(at), *after)
        return self.widened(self.load(data, Access(index, access.guards)))

    # Windows

    def _window(self, node: Node) -> None:
        needed = {a: None for value in node.outputs for a in self.needs.get(value.name, ())}
        for access in needed:
            if node.primitive == windows.GATHER:
                self.table[node.output.name, access] = self._window_gather(node, access)
            elif node.primitive in windows.TRANSPOSES:
                self.table[node.output.name, access] = self._window_transpose(node, access)
            else:
                self._window_forward(node, access)

    def _window_forward(self, node: Node, access: Access) -> None:
        ((value, source),) = operand_accesses(self.space, node, access)
        position = self.space.bindings[node.outputs[0].name]
        _, own = windows.window_source(node, access.index, position, self.space.extents)
        if len(node.outputs) == 1:
            argument = self.filled(value, source, own, _zero(value.type.dtype))
            self.table[node.output.name, access] = self._reduce(node.output, Reduction.SUM, argument)
            return
        argument = self.filled(value, source, own, _least(value.type.dtype))
        for output, operation in zip(node.outputs, (Reduction.MAX, Reduction.ARGMAX), strict=True):
            if access in self.needs.get(output.name, ()):
                name = self._reduce(output, operation, argument)
                self.table[output.name, access] = self.cast(name, output.type.dtype.compute)

    def _window_gather(self, node: Node, access: Access) -> str:
        value, index = node.inputs
        kernel = node.attributes["kernel"]
        rest = self.cast(self.scalar(index, access), DType.I64)
        position: list[Affine] = []
        for size in reversed(kernel[1:]):
            extent = self.constant(size, DType.I64)
            position.append(Affine.axis(self.compute("k", DType.I64, "mod", rest, extent)))
            rest = self.compute("k", DType.I64, "div", rest, extent)
        position.append(Affine.axis(rest))
        at, guards = windows.window_source(node, access.index, tuple(reversed(position)), self.space.extents)
        return self.widened(self.load(value, Access(at, (*access.guards, *guards))))

    def _window_transpose(self, node: Node, access: Access) -> str:
        pairs = operand_accesses(self.space, node, access)
        own = windows.transpose_guards(self.space, node)
        value, source = pairs[0]
        argument = self.filled(value, source, own, _zero(value.type.dtype))
        if len(pairs) == 2:
            chosen = self.cast(self.scalar(*pairs[1]), DType.I64)
            here = self.index_value(windows.position_number(self.space, node), DType.I64)
            match = self.compute("chosen", DType.BOOL, "eq", chosen, here)
            zero = self.constant(_zero(value.type.dtype), self.dtypes[argument])
            argument = self.compute(value.name, self.dtypes[argument], "where", match, argument, zero)
        return self._reduce(node.output, Reduction.SUM, argument) if windows.reduces(node) else argument


def _zero(dtype: DType) -> Literal:
    return 0.0 if dtype.is_float else 0


def _least(dtype: DType) -> Literal:
    if dtype.is_float:
        return float("-inf")
    return 0 if dtype is DType.U8 else -(2 ** (8 * dtype.itemsize - 1))
