"""How a kernel meets the rows of its buffers: which of them run along a leading row axis, which are summed over it.

A kernel is cut by rows when every point of its loops belongs to one row: buffers are read and written at their own row
(`rows`), read whole (a weight), or written once all rows are summed (`sums`: a weight's gradient, a total). The sum
over rows must be the last thing that needs all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphc.ir.kernel import (
    Access,
    Affine,
    AnchorOperation,
    IndexValue,
    Kernel,
    Load,
    Nest,
    Random,
    Reduce,
    Reduction,
    Statement,
    Store,
    expressions,
)
from graphc.passes.fusion.inplace import passes


class RefusalError(Exception):
    """Why a kernel cannot be cut by rows, in words for the user."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A kernel's use of rows.

    axes: of each nest its row axis; None where the anchor sums over rows before the nest sees its result.
    extents: the leading extent of each parameter that runs along rows. sums: parameters written after the sum.
    result: the dimension of the anchor's result that runs along rows.
    """

    axes: tuple[str | None, ...]
    extents: tuple[tuple[str, int], ...]
    sums: frozenset[str]
    result: int | None = None

    @property
    def parameters(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.extents)


def rows_of(kernel: Kernel, known: Iterable[str]) -> Rows:
    """How a kernel uses rows when these parameters run along them; RefusalError says why it cannot be cut."""
    found: dict[str, int] = {}
    sums: set[str] = set()
    whole: set[str] = set()
    along: dict[str, None] = dict.fromkeys(known)
    result: int | None = None
    if kernel.anchor is not None:
        operands, result = _anchor_rows(kernel.anchor, kernel, along)
        whole.update(name for name in kernel.anchor.operands if name not in operands)
        for name in operands:
            _meet(found, kernel, name, None)
    axes = []
    for nest in kernel.nests:
        axis = nest.axes[result].name if result is not None else None
        if kernel.anchor is None:
            axis = _row_axis(nest, along)
        axes.append(axis)
        _check_nest(kernel, nest, axis, found, sums, whole)
    if clash := ((sums | whole) & found.keys()) | (along.keys() - found.keys()):
        raise RefusalError(f"{kernel.name} reads {', '.join(sorted(clash))} across rows")
    return Rows(tuple(axes), tuple(found.items()), frozenset(sums), result)


def _anchor_rows(
    anchor: AnchorOperation, kernel: Kernel, known: Iterable[str]
) -> tuple[list[str], int | None]:
    """The operands that run along rows, and the result's row dimension, None where the product sums over rows."""
    if anchor.primitive != "dot" or len(kernel.nests) != 1 or any(anchor.views):
        raise RefusalError(f"{anchor.primitive} of {kernel.name} is not cut by rows")
    left, right = anchor.operands
    turned_left, turned_right = (bool(anchor.attributes.get(f"transpose_{side}", False)) for side in "ab")
    (nest,) = kernel.nests
    rows = set(known)
    result: int | None
    if anchor.result.rank > 2:
        return [left, right], 0  # a batch of products
    if any(isinstance(s, (Load, Store)) and s.buffer in rows for s in nest.body):
        axis = _row_axis(nest, rows)
        result = next(place for place, a in enumerate(nest.axes) if a.name == axis)
    else:
        result = 0 if left in rows and not turned_left else 1 if right in rows and turned_right else None
    if left == right:
        raise RefusalError(f"the product of {kernel.name} mixes rows")
    if result == 0 and not turned_left:
        return [left], 0
    if result == 1 and turned_right:
        return [right], 1
    if result is None and turned_left and not turned_right:
        return [left, right], None
    raise RefusalError(f"the product of {kernel.name} mixes rows")


def _row_axis(nest: Nest, known: Iterable[str]) -> str:
    """The axis that walks the leading dimension of the known parameters."""
    rows = set(known)
    axes = {
        _leading(nest, statement)
        for statement in nest.body
        if isinstance(statement, (Load, Store)) and statement.buffer in rows
    }
    if len(axes) != 1 or None in axes:
        raise RefusalError(
            "a loop does not walk its tensors row by row"
            if axes
            else "a joint kernel has no rows in one loop"
        )
    (axis,) = axes
    assert axis is not None
    return axis


def _leading(nest: Nest, access: Load | Store) -> str | None:
    """The axis that is the first index of an access, alone and nowhere else in it."""
    if not access.index or len(access.index[0].variables) != 1:
        return None
    (axis,) = access.index[0].variables
    plain = access.index[0] == Affine.axis(axis) and any(a.name == axis for a in nest.axes)
    return axis if plain and not any(axis in e.variables for e in _others(access)) else None


def _others(access: Load | Store) -> list[Affine]:
    return [*access.index[1:], *(guard.expression for guard in access.guards)]


def _check_nest(
    kernel: Kernel, nest: Nest, axis: str | None, found: dict[str, int], sums: set[str], whole: set[str]
) -> None:
    """Sort the parameters of one nest: those along rows (`found`), summed over them, and read whole."""
    summed = axis is None or any(a.name == axis for a in nest.reductions)
    order = passes(nest)
    for statement in nest.body:
        uses = [expression for expression, _ in expressions(statement) if axis in expression.variables]
        if not isinstance(statement, (Load, Store)):
            if uses and isinstance(statement, (IndexValue, Random)):
                raise RefusalError(f"{kernel.name} needs the number of a row")
            if axis is not None and summed and isinstance(statement, Reduce):
                _check_sum(kernel, statement, order[id(statement)])
            continue
        if uses and _leading(nest, statement) == axis:
            if axis is not None and summed and order[id(statement)] > 0:
                raise RefusalError(f"{kernel.name} needs a sum over all rows in each of them")
            extent = next(a.extent for a in nest.axes if a.name == axis)
            _meet(found, kernel, statement.buffer, extent if isinstance(extent, int) else None)
        elif uses:
            raise RefusalError(f"{kernel.name} meets {statement.buffer} in several rows at once")
        elif isinstance(statement, Store):
            if not summed:
                raise RefusalError(f"{kernel.name} writes {statement.buffer} from several rows")
            sums.add(statement.buffer)
        else:
            whole.add(statement.buffer)


def _check_sum(kernel: Kernel, statement: Statement, number: int) -> None:
    assert isinstance(statement, Reduce)
    if statement.operation is not Reduction.SUM or number > 0:
        raise RefusalError(f"{kernel.name} does more over the rows than one sum")


def _meet(found: dict[str, int], kernel: Kernel, name: str, extent: int | None) -> None:
    """Record that a parameter runs along rows."""
    shape = kernel.parameter(name).type.shape
    if not shape or not isinstance(shape[0], int) or (extent is not None and extent != shape[0]):
        raise RefusalError(f"{kernel.name} meets a part of {name}")
    found[name] = shape[0]


def writes(kernel: Kernel) -> frozenset[str]:
    """The parameters that a kernel writes."""
    return frozenset(p.name for p in kernel.parameters if p.access is not Access.IN)
