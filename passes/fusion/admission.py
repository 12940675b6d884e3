"""May a node join a space? Limits, legality and profit, each refusal with its reason in plain words."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from graphc.ir.graph import Graph, Node, Value
from graphc.ir.kernel import Affine
from graphc.passes.fusion import cost, windows
from graphc.passes.fusion import index as ix
from graphc.passes.fusion.space import (
    Access,
    NotFittingError,
    Space,
    bind_reduction,
    operand_accesses,
    reduction_axes,
)
from graphc.passes.limits import FusionOptions
from graphc.primitives.declare import Kind, primitive

_MOST_ACCESSES = 4
_MOST_REPEATS = 64


class RefusedError(Exception):
    """A node may not join a space; the message is the reason in plain words."""


class Admission:
    """What is known of a graph's values before fusion, and the rules that decide from it."""

    def __init__(self, graph: Graph, options: FusionOptions) -> None:
        self.graph = graph
        self.options = options
        self.epilogues = cost.epilogue_values(graph)
        self.reduced = cost.reduced_values(graph)
        self.leaves = cost.cheap_leaves(graph, frozenset(self.epilogues))
        self.rows = self.short_rows()

    def short_rows(self) -> dict[str, tuple[int, ...]]:
        """The rows of values (see cost.row_dims) that are short enough to fuse with their reduction."""
        shapes = {value.name: value.type.shape for value in self.graph.values()}
        return {
            name: dims
            for name, dims in cost.row_dims(self.graph).items()
            if self.options.elements(shapes[name][d] for d in dims) <= self.options.max_row_elements
        }

    # Profit

    def leave_to_epilogue(self, node: Node, space: Space, left: Collection[str]) -> bool:
        """True when the only reader cannot have a node's contraction as its anchor, so the node stays with it.

        A reader of several contractions takes the one that comes last: the others are `left` by then.
        """
        root = self.epilogues.get(node.outputs[0].name)
        if root is None or primitive(node.primitive).kind in (Kind.VIEW, Kind.CONTRACTION):
            return False
        if space.reduction or space.anchor is not None:
            return True
        return any(
            self.epilogues.get(name, root) != root
            and name not in left
            and len(self.graph.readers[name]) == 1
            and name not in self.graph.results
            and self.graph.producers[name].outputs[0].name not in space.members
            for name in space.accesses
        )

    def may_recompute(
        self, node: Node, *, stored: bool = False, at_hand: frozenset[str] = frozenset()
    ) -> bool:
        """True when readers had better compute a node again than read its result.

        It is cheap, and nothing larger than its result must be kept for it; operands `at_hand` are kept anyway. Where
        the result is `stored` in any case, reading it must cost more than reading the operands.
        """
        if not cost.is_cheap(node):
            return False
        made = sum(cost.nbytes(value, self.options) for value in node.outputs)
        operands = dict.fromkeys(node.inputs)
        if stored:
            return sum(map(self.bytes_read_for, operands)) < made
        kept = sum(self.bytes_kept_for(value) for value in operands if value.name not in at_hand)
        if kept and primitive(node.primitive).kind is Kind.ELEMENTWISE and self.in_epilogue(node):
            return False
        return kept <= made + made // 8

    def in_epilogue(self, node: Node) -> bool:
        """True when a contraction's epilogue can compute a node."""
        return any(value.name in self.epilogues for value in node.outputs)

    def keeps_more(self, space: Space, node: Node) -> bool:
        """True when joining keeps larger values alive up to the space's kernel, which does not read them anyway."""
        made = sum(cost.nbytes(value, self.options) for value in node.outputs)
        fresh = [value for value in dict.fromkeys(node.inputs) if value.name not in space.accesses]
        return sum(map(self.bytes_kept_for, fresh)) > made + made // 8

    def bytes_kept_for(self, value: Value) -> int:
        """Bytes of the arena that must stay alive so that a value can be read: none for inputs and constants."""
        return self.bytes_read_for(value) if value.name in self.graph.producers else 0

    def bytes_read_for(self, value: Value) -> int:
        """Bytes from which a value comes: its own, those of what it repeats, none for a constant."""
        producer = self.graph.producers.get(value.name)
        size = cost.nbytes(value, self.options)
        if producer is None:
            return size
        kind = primitive(producer.primitive).kind
        if kind is Kind.CONSTANT:
            return 0
        if kind is Kind.VIEW and len(producer.inputs) == 1:
            return min(size, self.bytes_read_for(producer.inputs[0]))
        return size

    def is_free(self, value: Value) -> bool:
        """True for a few elements that are repeated often, such as a learning rate: reading them once saves nothing."""
        return _MOST_REPEATS * self.bytes_read_for(value) <= cost.nbytes(value, self.options)

    # Limits and legality

    def check(self, space: Space, node: Node, value: Value, stored: bool) -> None:
        """Limits that do not depend on how the node is laid out."""
        kind = primitive(node.primitive).kind
        if self.options.conservative and space.members and self.keeps_more(space, node):
            raise RefusedError("its operands are larger than its result and would have to be kept for longer")
        if len(space.members) >= self.options.max_nodes:
            raise RefusedError(f"the kernel already has {self.options.max_nodes} nodes")
        if kind in (Kind.CONTRACTION, Kind.SCATTER):
            self.check_anchor(space, node, value, kind)
            return
        accesses = space.accesses[value.name]
        if kind in (Kind.RESHAPE, Kind.CONSTANT):
            return
        if len(accesses) > 1 and (len(accesses) > _MOST_ACCESSES or not cost.is_cheap(node)):
            raise RefusedError(f"it is read at {len(accesses)} positions and would be computed that often")
        if kind is Kind.VIEW:
            self.check_view(space, node)
            return
        if kind is Kind.REDUCTION or kind is Kind.WINDOW:
            if len(accesses) > 1:
                raise RefusedError("it is read at several positions")
            if kind is Kind.WINDOW and space.reduction:
                raise RefusedError("every pass of the reduction would look its windows up again")
            if kind is Kind.WINDOW and windows.reduces(node) and not space.level(value):
                raise RefusedError("its windows would be computed again for every element it is broadcast to")
            return
        if value.name in self.rows and not self.along_rows(space, value, stored):
            raise RefusedError("it belongs to the rows of a reduction along other axes")
        if not cost.is_cheap(node) and self.repeats(space, value):
            raise RefusedError("it would be computed again for every element it is broadcast to")
        if not space.level(value) and self.overlaps(space, value) and not self.may_recompute(node):
            raise RefusedError("its operands would be read again in every window")

    def check_view(self, space: Space, node: Node) -> None:
        if len(node.inputs) > 2 and self.options.enabled:
            raise RefusedError("a join of many parts is cheaper to write once than to choose at each element")

    def check_anchor(self, space: Space, node: Node, value: Value, kind: Kind) -> None:
        if space.members and kind is Kind.SCATTER:
            raise RefusedError("a scatter writes its result before anything can read it")
        if space.anchor is not None:
            raise RefusedError(f"the kernel already has the contraction {label(space.anchor)}")
        if space.reduction:
            raise RefusedError("the kernel reduces over the contraction's result")
        if space.guards or space.level(value) != "full":
            raise RefusedError("the kernel does not run over each element of the contraction's result once")
        if {v.name for v in node.inputs} & space.members.keys():
            raise RefusedError("the contraction's operand is computed in this kernel")
        self.check_anchor_order(space, space.accesses[value.name][0])

    def check_anchor_order(self, space: Space, access: Access) -> None:
        order = [name for position in access.index for name in _outer_first(position)]
        space.axes = order + [name for name in space.axes if name not in order]

    def repeats(self, space: Space, value: Value) -> bool:
        """True when a value would be computed more often than it has elements."""
        if space.level(value) or cost.elements(value, self.options) == 1:
            return False
        reduction = self.reduced.get(value.name)
        if reduction is None or len(space.accesses[value.name]) != 1:
            return True
        access = space.accesses[value.name][0]
        try:
            names = reduction_axes(space, reduction, access)
        except ix.NotAffineError:
            return True
        if names is None:
            return False
        return not self.row_fits(space, names)

    def commit_rows(self, space: Space, value: Value) -> None:
        """Turn axes into reduction axes for a value that comes from a reduction over them, before that one joins.

        The value may then be stored once a row, for other readers.
        """
        reduction = self.reduced.get(value.name)
        accesses = space.accesses[value.name]
        if reduction is None or space.reduction or space.anchor or len(accesses) != 1 or space.level(value):
            return
        try:
            names = reduction_axes(space, reduction, accesses[0])
        except NotFittingError:
            return
        if not names or not self.row_fits(space, names):
            return
        rest = [name for name in space.parallel if name not in names]
        aligned = all(
            {name for place in row for name in place.variables} == set(names) for row in space.rows.values()
        )
        if aligned and ix.covers(accesses[0].index, value.type.shape, rest, space.extents):
            space.make_reduction(names)

    def along_rows(self, space: Space, value: Value, stored: bool) -> bool:
        """True when a space runs along the rows a value belongs to, or makes it from what lies in memory anyway."""
        return space.runs_along(self.row(space, value)) or (not stored and value.name in self.leaves)

    def note_row(self, space: Space, value: Value) -> None:
        """Keep the rows of a new member in mind, so that the space can reduce along them later."""
        if value.name in self.rows and space.runs_along(self.row(space, value)):
            space.rows[value.name] = self.row(space, value)

    def row(self, space: Space, value: Value) -> tuple[Affine, ...]:
        """The index of a value along the rows it belongs to."""
        index = space.accesses[value.name][0].index
        return tuple(index[d] for d in self.rows[value.name])

    def overlaps(self, space: Space, value: Value) -> bool:
        """True when a window node of the space reads a value of about the space's size."""
        points = self.options.elements(space.extents[name] for name in space.parallel)
        return (
            bool(space.reduction)
            and any(
                primitive(node.primitive).kind is Kind.WINDOW
                and windows.reduces(node)
                and windows.overlapping(node)
                for node in space.members.values()
            )
            and 4 * cost.elements(value, self.options) > points
        )

    def row_fits(self, space: Space, names: Sequence[str]) -> bool:
        """True when a kernel whose rows are these axes has short rows, and enough of them to share out."""
        row = self.options.elements(space.extents[name] for name in names)
        rows = self.options.elements(space.extents[name] for name in space.parallel if name not in names)
        if rows < self.options.min_parallel and row * rows > self.options.max_serial_elements:
            return False
        return row <= self.options.max_row_elements

    def bind(self, space: Space, node: Node, value: Value) -> None:
        """Lay a reduction or window over the space."""
        kind = primitive(node.primitive).kind
        if kind not in (Kind.REDUCTION, Kind.WINDOW):
            return
        if space.anchor is not None and (kind is Kind.REDUCTION or windows.reduces(node)):
            raise RefusedError("the epilogue of a contraction holds no reduction")
        while True:
            access = space.accesses[value.name][0]
            try:
                if kind is Kind.WINDOW:
                    windows.bind(space, node, access)
                else:
                    self.check_row(space, node, access)
                    bind_reduction(space, node, access)
                return
            except ix.SplitNeededError as need:
                if space.anchor is not None:
                    raise RefusedError("a window would cut the axes of a contraction's result") from None
                space.split(need.axis, need.inner)
            except (NotFittingError, ix.NotAffineError) as problem:
                raise RefusedError(str(problem)) from None

    def check_row(self, space: Space, node: Node, access: Access) -> None:
        names = reduction_axes(space, node, access)
        if names is not None and not space.reduction and not self.row_fits(space, names):
            raise RefusedError(
                "the row is too long, or there are too few rows, to compute it and its readers in one pass"
            )

    def operand_requests(self, space: Space, node: Node) -> list[tuple[Value, Access]]:
        """What the node needs of its operands, after splitting axes where a reshape asks for it."""
        while True:
            accesses = {
                access: None for value in node.outputs for access in space.accesses.get(value.name, ())
            }
            try:
                return [pair for access in accesses for pair in operand_accesses(space, node, access)]
            except ix.SplitNeededError as need:
                if space.anchor is not None:
                    raise RefusedError("a reshape would cut the axes of a contraction's result") from None
                space.split(need.axis, need.inner)
            except ix.NotAffineError as problem:
                raise RefusedError(str(problem)) from None


def label(node: Node) -> str:
    """What to call a node in a report: the user's operator, and the primitive."""
    return (
        f"{node.origins[0].name} ({node.primitive})"
        if node.origins
        else f"{node.outputs[0].name} ({node.primitive})"
    )


def _outer_first(position: Affine) -> list[str]:
    return [name for name, _ in sorted(position.terms, key=lambda t: ix._order(t[1]), reverse=True)]
