"""The iteration space of one loop nest while fusion grows it from its stores back to its loads.

    axes      parallel or reduction, split where a reshape needs a finer factorisation
    sinks     what is stored: a value, and the element of the target that each point of the space writes
    accesses  for each value that the nest computes or loads, the elements that a point needs
    bindings  how a reduction or a window node is laid over the reduction axes

A node joins a space when all its readers there are known, and passes the accesses on to its operands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from graphc.ir.graph import Node, Value
from graphc.ir.kernel import Affine, Guard
from graphc.passes.fusion import index as ix
from graphc.primitives.declare import Kind, primitive
from graphc.types import Dim, dimension, product, same_dim

if TYPE_CHECKING:
    from graphc.passes.fusion.views import Moved, TemplateViews


@dataclass(frozen=True, slots=True)
class Access:
    """One element of a value as a function of the axes, valid where the guards hold."""

    index: tuple[Affine, ...]
    guards: tuple[Guard, ...] = ()

    @property
    def variables(self) -> set[str]:
        names = {name for position in self.index for name in position.variables}
        return names | {name for guard in self.guards for name in guard.expression.variables}


@dataclass(frozen=True, slots=True)
class Sink:
    """A store: element `index` of `target` receives `value` at `access` (target and value differ in a concat)."""

    target: Value
    value: Value
    index: tuple[Affine, ...]
    access: Access


@dataclass(slots=True, eq=False)
class Space:
    """A growing loop nest; `number` is its group in the reachability graph."""

    number: int
    axes: list[str] = field(default_factory=list)
    extents: dict[str, Dim] = field(default_factory=dict)
    reduction: set[str] = field(default_factory=set)
    guards: tuple[Guard, ...] = ()
    sinks: list[Sink] = field(default_factory=list)
    members: dict[str, Node] = field(default_factory=dict)
    accesses: dict[str, list[Access]] = field(default_factory=dict)
    bindings: dict[str, tuple[Affine, ...]] = field(default_factory=dict)
    rows: dict[str, tuple[Affine, ...]] = field(default_factory=dict)
    """For members that belong to the rows of a reduction still to come, their index along these rows."""
    whole: dict[str, Value] = field(default_factory=dict)
    """Values read other than at affine positions: by an anchor, through an indirect index."""
    anchor: Node | None = None
    results: tuple[Value, ...] = ()
    """The results that others read of an anchor that writes them whole; such a space has no axes and no sinks."""
    views: TemplateViews | None = None
    """How such an anchor's operands and results lie in memory."""
    moved: dict[str, Moved] = field(default_factory=dict)
    """For values that the space reads and that lie inside other ones, where."""
    next_axis: int = 0

    @property
    def parallel(self) -> list[str]:
        return [name for name in self.axes if name not in self.reduction]

    @property
    def reductions(self) -> list[str]:
        return [name for name in self.axes if name in self.reduction]

    def new_axis(self, extent: Dim, *, reduction: bool = False, position: int | None = None) -> str:
        """Add an axis, at the end unless a position is given; return its name, unique among all spaces."""
        name = f"a{self.number}_{self.next_axis}"
        self.next_axis += 1
        self.axes.insert(len(self.axes) if position is None else position, name)
        self.extents[name] = extent
        if reduction:
            self.reduction.add(name)
        return name

    def request(self, value: Value, access: Access) -> None:
        """Note that a point of the space needs this element."""
        known = self.accesses.setdefault(value.name, [])
        if access not in known:
            known.append(access)

    def level(self, value: Value) -> str:
        """How the accesses of a value run over the space.

        "full": each element once over all axes; "outer": once over the parallel axes, of a space with reductions;
        "": neither, or at several positions.
        """
        accesses = self.accesses.get(value.name, ())
        if len(accesses) != 1 or set(accesses[0].guards) != set(self.guards):
            return ""
        index, shape = accesses[0].index, value.type.shape
        guarded = frozenset(guard.expression for guard in self.guards)
        if ix.covers(index, shape, self.axes, self.extents, guarded):
            return "full"
        if self.reduction and ix.covers(index, shape, self.parallel, self.extents, guarded):
            return "outer"
        return ""

    def runs_along(self, row: tuple[Affine, ...]) -> bool:
        """True when the space can still reduce, or does reduce, over exactly the axes of a row."""
        if self.anchor is not None:
            return False
        axes = {name for place in row for name in place.variables if self.extents.get(name) != 1}
        return not self.reduction or axes == {name for name in self.reduction if self.extents[name] != 1}

    def store(self, value: Value) -> None:
        """Also store a value whose access covers it."""
        (access,) = self.accesses[value.name]
        self.sinks.append(Sink(value, value, access.index, access))

    # Changes of the axes

    def split(self, axis: str, inner: Dim) -> None:
        """Replace an axis by an outer and an inner one; a guard keeps a remainder out."""
        extent = self.extents[axis]
        outer = ix.exact_quotient(extent, inner)
        even = outer is not None
        if outer is None:
            outer = dimension((extent + inner - 1) // inner)
        position = self.axes.index(axis)
        reduced = axis in self.reduction
        high = self.new_axis(outer, reduction=reduced, position=position)
        low = self.new_axis(inner, reduction=reduced, position=position + 1)
        number = ix.ordered(Affine.make(0, ((high, inner), (low, 1))))
        self.axes.remove(axis)
        self.reduction.discard(axis)
        del self.extents[axis]
        self.substitute({axis: number})
        if not even:
            self._add_guard(Guard(number, 0, extent))

    def _add_guard(self, guard: Guard) -> None:
        self.guards = (*self.guards, guard)

        def guarded(access: Access) -> Access:
            return Access(access.index, (guard, *access.guards))

        self.accesses = {name: [guarded(a) for a in known] for name, known in self.accesses.items()}
        self.sinks = [replace(sink, access=guarded(sink.access)) for sink in self.sinks]

    def substitute(self, table: Mapping[str, Affine]) -> None:
        """Replace axes by expressions in all that is known."""
        rewrite = Substitution(table)
        self.accesses = {name: [rewrite.access(a) for a in known] for name, known in self.accesses.items()}
        self.bindings = {name: rewrite.index(found) for name, found in self.bindings.items()}
        self.rows = {name: rewrite.index(found) for name, found in self.rows.items()}
        self.sinks = [rewrite.sink(sink) for sink in self.sinks]
        self.guards = tuple(map(rewrite.guard, self.guards))

    def make_reduction(self, names: Sequence[str]) -> None:
        """Turn parallel axes into reduction axes, in this order behind the others."""
        self.axes = [name for name in self.axes if name not in names] + list(names)
        self.reduction.update(names)


class Substitution:
    """Replaces axes in indices, each distinct index once."""

    def __init__(self, table: Mapping[str, Affine]) -> None:
        self.table = table
        self._known: dict[tuple[Affine, ...], tuple[Affine, ...]] = {}

    def affine(self, expression: Affine) -> Affine:
        if not any(name in self.table for name in expression.variables):
            return expression
        return ix.ordered(expression.substitute(self.table))

    def index(self, index: tuple[Affine, ...]) -> tuple[Affine, ...]:
        found = self._known.get(index)
        if found is None:
            found = self._known[index] = tuple(map(self.affine, index))
        return found

    def guard(self, guard: Guard) -> Guard:
        return Guard(self.affine(guard.expression), guard.low, guard.high)

    def access(self, access: Access) -> Access:
        return Access(self.index(access.index), tuple(map(self.guard, access.guards)))

    def sink(self, sink: Sink) -> Sink:
        return Sink(sink.target, sink.value, self.index(sink.index), self.access(sink.access))


def operand_accesses(space: Space, node: Node, access: Access) -> list[tuple[Value, Access]]:
    """The elements of the operands that one element of a node's result needs, by affine position.

    Operands that are read whole (by an anchor, through an indirect index) are not among them. Raises NotAffineError or
    SplitNeededError for a reshape.
    """
    declared = primitive(node.primitive)
    index, guards = access.index, access.guards
    match declared.kind:
        case Kind.ELEMENTWISE:
            return [(value, access) for value in dict.fromkeys(node.inputs)]
        case Kind.IDENTITY:
            return [(node.inputs[0], access)]
        case Kind.VIEW:
            assert declared.view is not None
            return [
                (node.inputs[source.operand], Access(source.index, merge_guards(guards, source.guards)))
                for source in declared.view(node, index)
            ]
        case Kind.RESHAPE:
            (value,) = node.inputs
            shape = node.output.type.shape
            return [(value, Access(ix.reshape_index(index, shape, value.type.shape, space.extents), guards))]
        case Kind.GATHER:
            axis, indices = node.attributes["axis"], node.inputs[1]
            return [(indices, Access(index[axis : axis + indices.type.rank], guards))]
        case Kind.REDUCTION:
            (value,) = node.inputs
            kept, reduced = iter(index), iter(space.bindings[node.output.name])
            axes = node.attributes["axes"]
            source = tuple(next(reduced) if axis in axes else next(kept) for axis in range(value.type.rank))
            return [(value, Access(source, guards))]
        case Kind.WINDOW:
            from graphc.passes.fusion import windows

            return windows.operand_accesses(space, node, access)
        case _:
            return []


def whole_operands(node: Node) -> tuple[Value, ...]:
    """The operands that a node reads other than at affine positions."""
    match primitive(node.primitive).kind:
        case Kind.GATHER:
            return node.inputs[:1]
        case Kind.RANDOM | Kind.CONTRACTION | Kind.SCATTER | Kind.TEMPLATE:
            return tuple(dict.fromkeys(node.inputs))
        case Kind.WINDOW:
            from graphc.passes.fusion import windows

            return windows.whole_operands(node)
        case _:
            return ()


def merge_guards(a: tuple[Guard, ...], b: tuple[Guard, ...]) -> tuple[Guard, ...]:
    """All guards of two sets, without repeats."""
    return (*a, *(guard for guard in b if guard not in a)) if b else a


def bind_reduction(space: Space, node: Node, access: Access) -> None:
    """Lay a reduction over the space's reduction axes: those it has, parallel ones it turns into them, or new ones.

    Raises NotAffineError when it does not fit, SplitNeededError when an axis must be split first.
    """
    (operand,) = node.inputs
    axes = node.attributes["axes"]
    dims = [operand.type.shape[axis] for axis in axes]
    names = reduction_axes(space, node, access)
    if names is None:
        fresh = tuple(Affine.axis(space.new_axis(dim, reduction=True)) for dim in dims)
        space.bindings[node.output.name] = fresh
        return
    known = _known_layout(space, operand, axes, access, names)
    if known is None:
        shape = [space.extents[name] for name in names]
        number = ix.flatten([Affine.axis(name) for name in names], shape) if names else ix.ZERO
        known = ix.unflatten(number, dims, space.extents)
    if node.primitive in ("argmax", "argmin") and not _counts(space, known[0], names):
        raise NotFittingError("its positions would be counted in another order")
    if not space.reduction:
        order = [name for position in known for name in _by_stride(position)]
        space.make_reduction([*order, *(name for name in names if name not in order)])
    space.bindings[node.output.name] = known


def reduction_axes(space: Space, node: Node, access: Access) -> list[str] | None:
    """The axes that a reduction would run over, None for new ones; NotAffineError says why it does not fit."""
    used = access.variables
    if used & space.reduction:
        raise NotFittingError("its result would be needed inside another reduction's loop")
    free = [name for name in space.parallel if name not in used and space.extents[name] != 1]
    dims = [node.inputs[0].type.shape[axis] for axis in node.attributes["axes"]]
    if space.reduction:
        if free:
            raise NotFittingError("another reduction already runs over different axes")
        names = space.reductions
    elif free:
        names = free
    else:
        return None
    if not same_dim(product(dims), product(space.extents[name] for name in names)):
        raise NotFittingError("it reduces over a different number of elements")
    return names


def _counts(space: Space, position: Affine, names: Sequence[str]) -> bool:
    """True when a position is the row-major number of the reduction axes."""
    order = space.reductions or _by_stride(position)
    number = ix.flatten([Affine.axis(name) for name in order], [space.extents[name] for name in order])
    return len(order) == len(names) and ix.ordered(position) == number


class NotFittingError(ix.NotAffineError):
    """A reduction does not fit into a space; the message is the reason in plain words."""


def _known_layout(
    space: Space, operand: Value, axes: Sequence[int], access: Access, names: Sequence[str]
) -> tuple[Affine, ...] | None:
    """The layout at which another member already reads the reduction's operand."""
    rank = operand.type.rank
    for other in space.accesses.get(operand.name, ()):
        kept = tuple(other.index[k] for k in range(rank) if k not in axes)
        reduced = tuple(other.index[k] for k in axes)
        dims = [operand.type.shape[k] for k in axes]
        if kept == access.index and ix.covers(reduced, dims, names, space.extents):
            return reduced
    return None


def _by_stride(position: Affine) -> list[str]:
    return [name for name, _ in sorted(position.terms, key=lambda t: ix._order(t[1]), reverse=True)]
