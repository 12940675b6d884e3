"""Inference of shapes and element types around one operator, in both directions.

    partial shape = None (unknown rank) | tuple of dimensions, 0 where one is unknown

A rule sees a Frame: a cell for each input and each output of the operator, some of them known. It states what it
expects of others; a cell takes in what it did not know, and a contradiction is the user's error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from graphc.operators.parameters import Parameters
from graphc.types import Dim, DType, dim_symbols, format_dim, product, same_dim, symbol

PartialShape: TypeAlias = "tuple[Dim, ...] | None"
Cell = TypeVar("Cell")

_GUESS = "_unknown"


class ContradictionError(Exception):
    """Two cells that should agree do not."""


@dataclass
class BrokenRuleError(Exception):
    """An operator's rule does not hold; `expected` says what should stand at an input, by its name."""

    message: str
    expected: Mapping[str, object] = field(default_factory=dict)
    help: str = ""


def is_known(dim: Dim) -> bool:
    """Whether a dimension of a partial shape is more than the 0 that stands for an unknown one."""
    return not (isinstance(dim, int) and dim == 0)


def is_complete(shape: PartialShape) -> bool:
    """Whether a partial shape leaves nothing open."""
    return shape is not None and all(is_known(dim) for dim in shape)


def format_shape(shape: PartialShape) -> str:
    """For messages: [64,?,3], or ? where even the rank is unknown."""
    if shape is None:
        return "?"
    return f"[{','.join(format_dim(dim) if is_known(dim) else '?' for dim in shape)}]"


def guess(number: int) -> Dim:
    """A symbolic dimension that stands for an unknown one while a composition runs."""
    return symbol(f"{_GUESS}{number}")


def is_guess(dim: Dim) -> bool:
    """Whether a dimension is unknown while a composition runs: it may turn out to be any number, 1 too."""
    return any(name.startswith(_GUESS) for name in dim_symbols((dim,)))


def merge_dims(a: Dim, b: Dim) -> Dim:
    """What is known of a dimension from two sides; ContradictionError when they differ."""
    if a is b or not is_known(b):
        return a
    if not is_known(a):
        return b
    if not same_dim(a, b):
        raise ContradictionError
    return a


def merge_shapes(a: PartialShape, b: PartialShape) -> PartialShape:
    """What is known of a shape from two sides; ContradictionError when they differ."""
    if a is b or b is None:
        return a
    if a is None:
        return b
    if len(a) != len(b):
        raise ContradictionError
    return tuple(merge_dims(x, y) for x, y in zip(a, b, strict=True))


def merge_dtypes(a: DType | None, b: DType | None) -> DType | None:
    """What is known of an element type from two sides; ContradictionError when they differ."""
    if a is not None and b is not None and a is not b:
        raise ContradictionError
    return b if a is None else a


def partial_product(dims: Sequence[Dim]) -> Dim:
    """The product, 0 (unknown) when a factor is unknown."""
    return product(dims) if all(is_known(dim) for dim in dims) else 0


class Frame(Generic[Cell]):
    """The cells around one operator: inputs by argument name (auxiliary states last), outputs by index."""

    __slots__ = ("cells", "changed", "merge", "names", "outputs", "parameters", "positions")

    def __init__(
        self,
        parameters: Parameters,
        names: tuple[str, ...],
        cells: Sequence[Cell | None],
        outputs: Sequence[Cell | None],
        merge: Callable[[Cell | None, Cell | None], Cell | None],
    ) -> None:
        self.parameters = parameters
        self.names = names
        self.positions = {name: position for position, name in enumerate(names)}
        self.cells = list(cells)
        self.outputs = list(outputs)
        self.merge = merge

    def __getitem__(self, name: str) -> Cell | None:
        return self.cells[self.positions[name]]

    def __contains__(self, name: str) -> bool:
        return name in self.positions

    def expect(self, name: str, cell: Cell | None, rule: str, help: str = "") -> None:
        """State what input `name` must be; BrokenRuleError(rule) when it is not. Absent inputs are let be."""
        position = self.positions.get(name)
        if position is None:
            return
        try:
            self.cells[position] = self.merge(self.cells[position], cell)
        except ContradictionError:
            raise BrokenRuleError(rule, {name: cell}, help) from None

    def expect_output(self, cell: Cell | None, index: int = 0) -> None:
        """State what output `index` must be; BrokenRuleError when its readers need something else."""
        try:
            self.outputs[index] = self.merge(self.outputs[index], cell)
        except ContradictionError:
            wanted, found = (_words(item) for item in (self.outputs[index], cell))
            raise BrokenRuleError(f"its output is {found}, and its readers need {wanted}") from None

    def unify(self, names: Sequence[str], rule: str, help: str = "", outputs: bool = True) -> Cell | None:
        """Make these inputs, and all outputs, agree; the common cell."""
        common: Cell | None = None
        for name in names:
            self.expect(name, common, rule, help)
            common = self[name]
        if outputs:
            for index in range(len(self.outputs)):
                self.expect_output(common, index)
                common = self.outputs[index]
        for name in names:
            self.expect(name, common, rule, help)
        return common


def _words(cell: object) -> str:
    return format_shape(cell) if isinstance(cell, tuple) else str(cell)


ShapeFrame: TypeAlias = Frame[tuple[Dim, ...]]
DTypeFrame: TypeAlias = Frame[DType]
ShapeRule: TypeAlias = Callable[[ShapeFrame], None]
DTypeRule: TypeAlias = Callable[[DTypeFrame], None]


# Rules that many operators share


def forward_only(frame: ShapeFrame) -> None:
    """Nothing is known of the inputs; the outputs follow from the composition."""


def same_shape_rule(frame: ShapeFrame) -> None:
    """All inputs and outputs have one shape."""
    frame.unify(frame.names, "operands must have one shape")


def same_dtype_rule(frame: DTypeFrame) -> None:
    """All inputs and outputs have one element type."""
    frame.unify(frame.names, "operands must have one element type", "convert one with Cast")


def same_dtype_but(*free: str) -> DTypeRule:
    """As same_dtype_rule, while the inputs named may have any type."""

    def rule(frame: DTypeFrame) -> None:
        bound = tuple(name for name in frame.names if name not in free)
        frame.unify(bound, "operands must have one element type", "convert one with Cast")

    return rule


def fixed_output_dtype(dtype: DType | str) -> DTypeRule:
    """Outputs have this type, or the one in the parameter of that name; inputs may have any."""

    def rule(frame: DTypeFrame) -> None:
        for index in range(len(frame.outputs)):
            frame.expect_output(frame.parameters[dtype] if isinstance(dtype, str) else dtype, index)

    return rule
