"""The values that a random graph has made so far: their bounds, which of them are exact, and how to pick one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from graphc.ir.graph import InputKind, Value
from graphc.primitives.builder import Builder
from graphc.types import Dim, DType, TensorType, product, same_dim, symbol

LARGEST = 4.0
"""Values with a larger bound are scaled down before they are used again."""

ELEMENTS = 3000
"""No value has more elements (a symbolic dimension counts as 5)."""


class Pool:
    """A builder, and the values in it that productions may use."""

    def __init__(self, seed: int, symbolic: bool | None) -> None:
        self.rng = random.Random(seed)
        self.b = Builder(f"random_{seed}")
        use_symbol = self.rng.random() < 0.4 if symbolic is None else symbolic
        self.batch: Dim = symbol("N") if use_symbol else self.size()
        self.floats: list[Value] = []
        self.others: list[Value] = []  # bool and integer values
        self.bounds: dict[str, float] = {}
        self.exact: set[str] = set()

    def size(self) -> int:
        return self.rng.randint(16, 70) if self.rng.random() < 0.1 else self.rng.randint(1, 9)

    def count(self, shape: Sequence[Dim]) -> int:
        dims = product(shape)
        return dims if isinstance(dims, int) else int(dims.subs(symbol("N"), 5))

    def input(
        self, shape: Sequence[Dim], dtype: DType = DType.F32, kind: InputKind = InputKind.DATA
    ) -> Value:
        if kind is not InputKind.DATA and not all(isinstance(dim, int) for dim in shape):
            kind = InputKind.DATA
        value = self.b.input(f"{kind.value}{len(self.b.inputs)}", TensorType(dtype, tuple(shape)), kind)
        return self.add(value, 2.0, exact=True) if dtype is DType.F32 else self.add_other(value)

    def add(self, value: Value, bound: float, exact: bool = False) -> Value:
        if bound > LARGEST:
            value, exact, bound = self.b.mul(value, 1.0 / bound), False, 1.0
        if self.count(value.type.shape) <= ELEMENTS:
            self.floats.append(value)
        self.bounds[value.name] = max(bound, 1e-3)
        if exact:
            self.exact.add(value.name)
        return value

    def add_other(self, value: Value) -> Value:
        self.others.append(value)
        return value

    def pick(self, accept: Callable[[Value], bool] = lambda value: True) -> Value:
        """A floating-point value, recent ones more often; a new input when none is acceptable."""
        found = [value for value in self.floats if accept(value)]
        if found:
            return self.rng.choices(found, range(1, len(found) + 1))[0]
        value = self.input([self.batch, self.size(), self.size()])
        return value if accept(value) else self.input([self.batch, 2, 5, 6])

    def of_rank(self, *ranks: int) -> Value:
        return self.pick(lambda value: value.type.rank in ranks)

    def exact_value(self) -> Value:
        return self.pick(lambda value: value.name in self.exact)

    def parameter(self, shape: Sequence[Dim]) -> Value:
        return self.input(shape, kind=InputKind.PARAMETER)

    def bound(self, value: Value) -> float:
        return self.bounds[value.name]

    def partner(self, x: Value) -> Value:
        """A value whose shape broadcasts to that of x: an earlier one or a new input."""
        shape = x.type.shape
        fitting = [v for v in self.floats if v.type.rank <= x.type.rank and self.fits(v.type.shape, shape)]
        if fitting and self.rng.random() < 0.6:
            return self.rng.choice(fitting)
        kept = shape[self.rng.randint(0, x.type.rank) :]
        return self.input([1 if self.rng.random() < 0.25 else dim for dim in kept])

    def fits(self, narrow: Sequence[Dim], wide: Sequence[Dim]) -> bool:
        trailing = wide[len(wide) - len(narrow) :]
        return all(a == 1 or same_dim(a, c) for a, c in zip(narrow, trailing, strict=True))
