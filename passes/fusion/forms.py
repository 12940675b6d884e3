"""Spaces that differ in names only have one form: what follows from the form alone is found once.

A network repeats its layers, so most of its spaces are of few forms. The key of a form numbers the values and axes of
a space in the order in which they occur; each value's node adds its primitive, attributes and types.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from graphc.ir.graph import Node, Value
from graphc.ir.kernel import Affine, Guard, Nest
from graphc.passes.fusion.anchors import epilogue_fits
from graphc.passes.fusion.inplace import Timeline
from graphc.passes.fusion.lower import Lowered, lower
from graphc.passes.fusion.names import Scope
from graphc.passes.fusion.space import Sink, Space


@dataclass(slots=True, eq=False)
class Form:
    """The nest of the first space of a form, its values' names by number, and what has been asked about it."""

    lowered: Lowered
    names: tuple[str, ...]
    sources: tuple[int, ...]
    """Numbers of the values that the nest reads."""
    fits: bool | None = None
    timeline: Timeline | None = None
    overwrites: dict[tuple[int, int], bool] = field(default_factory=dict)


class Loops:
    """The loop nest of one space: `sources` are the values that it reads, `targets` those that it writes, by name."""

    __slots__ = ("_nest", "_numbers", "_space", "form", "sources", "targets")

    def __init__(self, space: Space, form: Form, numbered: Numbered, nest: Nest | None) -> None:
        values = numbered.values
        self.form = form
        self.sources = {values[number].name: values[number] for number in form.sources}
        self.targets = {sink.target.name: sink.target for sink in space.sinks} or {
            value.name: value for value in space.results
        }
        self._space = space
        self._numbers = numbered.numbers
        self._nest = nest

    @property
    def nest(self) -> Nest:
        """The nest, buffers named by values; made when somebody asks for it."""
        if self._nest is None:
            self._nest = lower(self._space, Scope()).nest
        return self._nest

    def fits(self) -> bool:
        """True when the nest can be the epilogue of its space's anchor."""
        if self.form.fits is None:
            assert self._space.anchor is not None
            self.form.fits = epilogue_fits(self.form.lowered, self._space.anchor)
        return self.form.fits

    def may_overwrite(self, source: str, target: str) -> bool:
        """True when what the nest writes to `target` may lie in the memory of `source`."""
        if target not in self.targets:
            return False
        key = (self._numbers[source], self._numbers[target])
        found = self.form.overwrites.get(key)
        if found is None:
            timeline = self.form.timeline = self.form.timeline or Timeline(self.form.lowered.nest)
            found = self.form.overwrites[key] = timeline.reads_only_where_it_writes(
                self.form.names[key[0]],
                self.form.names[key[1]],
                self.sources[source].type.shape,
                self.targets[target].type.shape,
            )
        return found


class Numbered:
    """Values in the order in which they occur in a space."""

    __slots__ = ("axes", "numbers", "values")

    def __init__(self, space: Space) -> None:
        self.axes = {name: number for number, name in enumerate(space.axes)}
        self.numbers: dict[str, int] = {}
        self.values: list[Value] = []

    def value(self, value: Value) -> int:
        found = self.numbers.get(value.name)
        if found is None:
            found = self.numbers[value.name] = len(self.values)
            self.values.append(value)
        return found

    def affine(self, expression: Affine) -> Hashable:
        return expression.offset, *((self.axes[name], stride) for name, stride in expression.terms)

    def index(self, index: tuple[Affine, ...]) -> Hashable:
        return tuple(map(self.affine, index))

    def guards(self, guards: tuple[Guard, ...]) -> Hashable:
        return tuple((self.affine(guard.expression), guard.low, guard.high) for guard in guards)

    def sink(self, sink: Sink) -> Hashable:
        target, value, access = self.value(sink.target), self.value(sink.value), sink.access
        types = (sink.target.type, sink.value.type)
        return (
            target,
            value,
            types,
            self.index(sink.index),
            self.index(access.index),
            self.guards(access.guards),
        )


class Forms:
    """The forms of a graph's spaces."""

    def __init__(self) -> None:
        self._forms: dict[Hashable, Form] = {}
        self._kinds: dict[Hashable, int] = {}
        self._kind_of: dict[str, int] = {}

    def loops(self, space: Space) -> Loops:
        """The nest of a space. Raises NotAffineError when a reshape in it fails."""
        numbered = Numbered(space)
        key = self._key(space, numbered)
        form = self._forms.get(key)
        if form is not None:
            return Loops(space, form, numbered, None)
        lowered = lower(space, Scope())
        sources = tuple(numbered.numbers[name] for name in lowered.sources)
        names = tuple(value.name for value in numbered.values)
        form = self._forms[key] = Form(lowered, names, sources)
        return Loops(space, form, numbered, lowered.nest)

    def _kind(self, node: Node) -> int:
        """A number that nodes of the same primitive, attributes and types share."""
        name = node.outputs[0].name
        found = self._kind_of.get(name)
        if found is None:
            types = tuple(value.type for value in (*node.inputs, *node.outputs))
            key = (node.primitive, node.attributes, types)
            found = self._kind_of[name] = self._kinds.setdefault(key, len(self._kinds))
        return found

    def _key(self, space: Space, numbered: Numbered) -> Hashable:
        number = numbered.value
        members = tuple(
            (
                self._kind(node),
                *map(number, node.inputs),
                *map(number, node.outputs),
                numbered.index(space.bindings.get(node.outputs[0].name, ())),
            )
            for node in space.members.values()
        )
        sinks = tuple(map(numbered.sink, space.sinks))
        moved = tuple(
            (numbered.numbers[name], number(found.value), found.value.type, found.index)
            for name, found in space.moved.items()
            if name in numbered.numbers
        )
        axes = tuple((space.extents[name], name in space.reduction) for name in space.axes)
        anchor = None if space.anchor is None else number(space.anchor.outputs[0])
        return members, sinks, moved, axes, anchor, numbered.guards(space.guards), space.results
