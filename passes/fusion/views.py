"""How a template's operands and results lie in memory: views before and after it cost nothing where they are affine.

An operand is followed through transposes, slices, broadcasts and reshapes to a value that is in memory. A result that
one kernel would only copy elsewhere (a transpose, a part of a join) is written there at once; others read it there.
The leading axes of all operands and results are the same; where a reshape cuts one, it is cut for all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from graphc.ir.graph import Graph, Node, Value
from graphc.ir.kernel import Affine, Axis, View
from graphc.passes.fusion import index as ix
from graphc.passes.fusion.space import Access, Space
from graphc.primitives.declare import Kind, primitive
from graphc.types import Dim


@dataclass(frozen=True, slots=True)
class Moved:
    """A value that lies inside another one: element (d0, d1, ...) is that one's element at `index`."""

    value: Value
    index: tuple[Affine, ...]

    def access(self, access: Access) -> Access:
        """Where an element lies."""
        table = {f"d{k}": place for k, place in enumerate(access.index)}
        return Access(tuple(ix.ordered(place.substitute(table)) for place in self.index), access.guards)


@dataclass(slots=True)
class _Place:
    """The value in memory that holds an operand or a result, and where its elements lie."""

    value: Value
    own: tuple[str, ...]
    index: tuple[Affine, ...]


@dataclass(slots=True)
class TemplateViews:
    """The views of one template's operands and results; results are plain until `move` puts them elsewhere."""

    node: Node
    lead: list[str] = field(default_factory=list)
    extents: dict[str, Dim] = field(default_factory=dict)
    cuts: dict[str, Affine] = field(default_factory=dict)
    places: list[_Place] = field(default_factory=list)

    @classmethod
    def of(cls, graph: Graph, node: Node) -> TemplateViews | None:
        """The views of a template's node; None where the template reads and writes whole buffers only."""
        count = primitive(node.primitive).lead
        if count is None:
            return None
        found = cls(node)
        shape = node.outputs[0].type.shape
        found.lead = [f"b{k}" for k in range(count(node))]
        found.extents.update(zip(found.lead, shape, strict=False))
        first = list(found.lead)
        for number, value in enumerate((*node.inputs, *node.outputs)):
            own = tuple(f"v{number}_{k}" for k in range(value.type.rank - len(first)))
            found.extents.update(zip(own, value.type.shape[len(first) :], strict=True))
            index = tuple(found.cut(Affine.axis(name)) for name in (*first, *own))
            found.places.append(_Place(value, own, index))
            if number < len(node.inputs):
                found.follow(graph, found.places[-1])
        return found

    @property
    def operands(self) -> list[Value]:
        """The values in memory that the template reads."""
        return [place.value for place in self.places[: len(self.node.inputs)]]

    @property
    def results(self) -> list[Value]:
        return [place.value for place in self.places[len(self.node.inputs) :]]

    # Leading axes

    def cut(self, expression: Affine) -> Affine:
        """An expression in the leading axes as they are cut by now."""
        while any(name in self.cuts for name in expression.variables):
            expression = expression.substitute(self.cuts)
        return ix.ordered(expression)

    def split(self, axis: str, inner: Dim) -> bool:
        """Cut a leading axis in two; False for another axis, or where the inner extent does not divide it."""
        outer = ix.exact_quotient(self.extents[axis], inner)
        if axis not in self.lead or outer is None:
            return False
        position = self.lead.index(axis)
        high, low = f"{axis}h", f"{axis}l"
        self.lead[position : position + 1] = [high, low]
        self.extents.update({high: outer, low: inner})
        self.cuts[axis] = Affine.make(0, ((high, inner), (low, 1)))
        for place in self.places:
            place.index = tuple(map(self.cut, place.index))
        return True

    # Operands

    def follow(self, graph: Graph, place: _Place) -> None:
        """Read an operand where the views that make it read."""
        while True:
            node = graph.producers.get(place.value.name)
            if node is None:
                return
            source = self.source(node, place.index)
            if source is None:
                return
            place.value, place.index = source

    def source(self, node: Node, index: tuple[Affine, ...]) -> tuple[Value, tuple[Affine, ...]] | None:
        """The element of its operand that a view's element is; None where it is no view, or not affine."""
        declared = primitive(node.primitive)
        if declared.kind is Kind.RESHAPE:
            (operand,) = node.inputs
            while True:
                index = tuple(map(self.cut, index))
                try:
                    shape = node.output.type.shape
                    return operand, ix.reshape_index(index, shape, operand.type.shape, self.extents)
                except ix.SplitNeededError as need:
                    if not self.split(need.axis, need.inner):
                        return None
                except ix.NotAffineError:
                    return None
        if declared.kind is not Kind.VIEW or declared.view is None:
            return None
        sources = declared.view(node, index)
        if len(sources) != 1 or sources[0].guards or not _forward(sources[0].index):
            return None
        return node.inputs[sources[0].operand], sources[0].index

    # Results

    def move(self, result: int, space: Space, alone: bool) -> Moved | None:
        """Write a result where a space that only copies it would put it; None where that is not affine.

        `alone`: nothing else reads the result, so that nobody has to find it in its new place.
        """
        place = self.places[len(self.node.inputs) + result]
        target, found = _copied(space, place.value)
        if target is None:
            return None
        axes: dict[str, Affine] = {}
        for dim, at in enumerate(found):
            if not self.match(place, dim, at, space, axes):
                return None
        (sink,) = space.sinks
        own = {at.terms[0][0]: Affine.axis(f"d{k}") for k, at in enumerate(found) if len(at.terms) == 1}
        if not alone and any(name not in own for at in sink.index for name in at.variables):
            return None
        place.index = tuple(self.cut(at.substitute(axes)) for at in sink.index)
        place.value = target
        return Moved(target, tuple(at.substitute(own) for at in sink.index))

    def match(self, place: _Place, dim: int, at: Affine, space: Space, axes: dict[str, Affine]) -> bool:
        """Give the axes of a space that run over one dimension of a result their values in the template's axes."""
        names = [name for name, _ in sorted(at.terms, key=lambda term: ix._order(term[1]), reverse=True)]
        shape = [space.extents[name] for name in names]
        if ix.ordered(ix.flatten([Affine.axis(name) for name in names], shape)) != ix.ordered(at) and names:
            return False
        while names:
            try:
                axes.update(
                    zip(names, ix.unflatten(self.cut(place.index[dim]), shape, self.extents), strict=True)
                )
                break
            except ix.SplitNeededError as need:
                if not self.split(need.axis, need.inner):
                    return False
            except ix.NotAffineError:
                return False
        return bool(names) or at.offset == 0

    # For the Kernel IR

    def view(self, place: _Place) -> View:
        axes = tuple(Axis(name, self.extents[name]) for name in (*self.lead, *place.own))
        return View(axes, place.index)

    def views(self) -> tuple[View | None, ...]:
        """How operands and results lie in the values in memory; nothing where all are as they are."""
        values = (*self.node.inputs, *self.node.outputs)
        plain = not self.cuts and all(p.value == v for p, v in zip(self.places, values, strict=True))
        return () if plain else tuple(map(self.view, self.places))


def _forward(index: Iterable[Affine]) -> bool:
    """True when no axis runs backwards."""
    strides = (stride for place in index for _, stride in place.terms)
    return all(not isinstance(stride, int) or stride >= 0 for stride in strides)


def _copied(space: Space, value: Value) -> tuple[Value | None, tuple[Affine, ...]]:
    """What a space writes when it only copies a value, each element once, and the element that a point reads."""
    moves = all(primitive(n.primitive).kind in (Kind.VIEW, Kind.RESHAPE) for n in space.members.values())
    made = {v.name for node in space.members.values() for v in node.outputs}
    read = set(space.accesses) - made
    known = space.accesses.get(value.name, [])
    if not moves or read != {value.name} or space.whole or len(space.sinks) != 1 or len(known) != 1:
        return None, ()
    if space.anchor is not None or space.reduction or space.guards or known[0].guards:
        return None, ()
    if space.level(value) != "full" or space.sinks[0].target.type.dtype is not value.type.dtype:
        return None, ()
    if any(len(places) != 1 for places in space.accesses.values()):
        return None, ()
    return space.sinks[0].target, known[0].index
