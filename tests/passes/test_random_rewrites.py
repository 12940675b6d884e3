"""Random graphs full of what rules look for: constants, views of views, repeated operands, sums of broadcasts.

Strict simplification keeps every bit, on NaN, infinities, both zeros and subnormal numbers too; the rest agrees in
float64.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
import torch

from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph, Value
from graphc.passes.rewrite import Rewriter
from graphc.passes.simplify import RULES, Simplify
from graphc.primitives.builder import Builder
from graphc.primitives.verify import verify_graph
from graphc.types import DType, TensorType
from support.graph_checks import assert_same_results

NUMBERS = (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, -4.0, 3.0)
SPECIAL = (0.0, -0.0, 1.0, -2.5, 0.1, 1e-42, 1e38, -1e38, math.inf, -math.inf, math.nan)
SEEDS = [range(k, 300, 10) for k in range(10)]


class Soup:
    """Makes one graph; all tensors have four elements, or a few that a reduction left."""

    def __init__(self, seed: int, dtype: DType = DType.F32) -> None:
        self.dtype = dtype
        self.rng = random.Random(seed)
        self.b = Builder(f"soup_{seed}")
        self.values = [self.b.input(name, TensorType(dtype, (2, 2))) for name in "xy"]

    def make(self, size: int) -> Graph:
        steps: list[Callable[[], Value | None]] = [
            self.binary, self.binary, self.with_constant, self.with_constant, self.unary, self.view, self.view,
            self.window, self.join, self.choose, self.convert, self.broadcast, self.reduce, self.divide,
        ]  # fmt: skip
        while len(self.values) < size:
            made = self.rng.choice(steps)()
            if made is not None:
                self.values.append(made)
        picked = self.rng.sample(self.values[2:], 3)
        return self.b.finish({f"out{k}": value for k, value in enumerate(picked)})

    def pick(self) -> Value:
        return self.rng.choice(self.values[-6:])

    def square(self) -> Value:
        """A value of shape [2,2]."""
        value = self.pick()
        if value.type.size == 4:
            return self.b.reshape(value, (2, 2))
        flat = (
            self.b.reshape(value, (value.type.size,)) if value.type.size != 1 else self.b.reshape(value, ())
        )
        if value.type.size == 2:
            return self.b.broadcast(flat, (2, 2), (self.rng.randrange(2),))
        return self.b.broadcast(flat, (2, 2), ()) if value.type.size == 1 else self.values[0]

    def binary(self) -> Value:
        name = self.rng.choice(("add", "sub", "mul", "maximum", "minimum"))
        x = self.square()
        return self.b.emit(name, x, x if self.rng.random() < 0.3 else self.square())

    def with_constant(self) -> Value:
        name = self.rng.choice(("add", "sub", "mul", "div", "maximum", "minimum", "pow"))
        x = self.square()
        constant = self.b.full(self.rng.choice(NUMBERS), x.type)
        operands = (x, constant) if name in ("pow", "div") or self.rng.random() < 0.7 else (constant, x)
        return self.b.emit(name, *operands)

    def divide(self) -> Value:
        return self.b.div(self.square(), self.rng.choice((2.0, 8.0, 0.25, -1.0, 3.0)))

    def unary(self) -> Value:
        name = self.rng.choice(("neg", "neg", "abs", "floor", "sign", "sqrt"))
        return self.b.emit(name, self.square())

    def view(self) -> Value:
        x = self.square()
        return self.rng.choice(
            (
                lambda: self.b.transpose(x, (1, 0)),
                lambda: self.b.reshape(x, self.rng.choice(((4,), (4, 1), (1, 4), (2, 1, 2)))),
                lambda: self.b.emit("reverse", x, axes=self.rng.choice(((0,), (1,), (0, 1)))),
                lambda: self.b.transpose(self.b.reshape(x, (1, 4)), (1, 0)),
            )
        )()

    def window(self) -> Value:
        x, value = self.square(), self.rng.choice((0.0, -0.0, 1.0))
        padded = self.b.emit("pad", x, low=(1, 0), high=(0, 1), value=value)
        if self.rng.random() < 0.5:
            padded = self.b.emit("pad", padded, low=(0, 1), high=(1, 0), value=value)
        start = tuple(self.rng.randint(0, size - 2) for size in padded.type.shape)
        return self.b.slice(padded, start, tuple(k + 2 for k in start))

    def join(self) -> Value:
        axis = self.rng.randrange(2)
        x = self.square()
        if self.rng.random() < 0.4:
            parts = [self.b.slice_axis(x, axis, 0, 1), self.b.slice_axis(x, axis, 1, 2)]
            return self.b.emit("concat", *parts, axis=axis)
        joined = self.b.emit("concat", x, self.square(), self.square(), axis=axis)
        start = self.rng.randint(0, 4)
        return self.b.slice_axis(joined, axis, start, start + 2)

    def choose(self) -> Value:
        x, y = self.square(), self.square()
        condition = self.b.emit(self.rng.choice(("gt", "lt", "eq", "ge")), x, y)
        if self.rng.random() < 0.3:
            condition = self.b.logical_not(condition)
        if self.rng.random() < 0.3:
            condition = self.b.logical_and(condition, self.b.full(self.rng.random() < 0.5, condition.type))
        return self.b.where(condition, x, x if self.rng.random() < 0.2 else self.square())

    def convert(self) -> Value:
        x = self.square()
        return self.b.cast(self.b.cast(x, self.rng.choice((DType.F64, DType.BOOL, self.dtype))), self.dtype)

    def broadcast(self) -> Value:
        x = self.b.slice_axis(self.square(), 0, 0, 1)
        return self.b.add(
            self.b.broadcast(x, (2, 2), (0, 1)), self.b.broadcast(self.b.neg(x), (2, 2), (0, 1))
        )

    def reduce(self) -> Value:
        wide = self.b.broadcast(self.square(), (2, 2, 3), self.rng.choice(((0, 1),)))
        axes = self.rng.choice(((2,), (0, 2), (0, 1, 2), (1,)))
        reduced = self.b.reduce(self.rng.choice(("reduce_max", "reduce_min", "reduce_sum")), wide, axes)
        return (
            reduced
            if reduced.type.size in (1, 2, 4)
            else self.b.reduce("reduce_max", reduced, (reduced.type.rank - 1,))
        )


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((((a == b) & (a.signbit() == b.signbit())) | (a.isnan() & b.isnan())).all())


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_strict_simplification_keeps_every_bit(seeds: range) -> None:
    for seed in seeds:
        graph = Soup(seed).make(14)
        after = Simplify(strict=True)(graph)
        verify_graph(after)
        assert Simplify(strict=True)(after) is after
        rng = random.Random(seed)
        for _ in range(3):
            inputs = {
                name: torch.tensor([rng.choice(SPECIAL) for _ in range(4)]).reshape(2, 2) for name in "xy"
            }
            expected = run_reference(graph, inputs, dtype=None).outputs
            got = run_reference(after, inputs, dtype=None).outputs
            for name, value in expected.items():
                assert same_bits(value, got[name]), (
                    f"{seed} {name}\n{inputs}\n{graph}{after}\n{value}\n{got[name]}"
                )


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_simplification_agrees_in_float64(seeds: range) -> None:
    for seed in seeds:
        graph = Soup(seed, DType.F64).make(20)
        after = Simplify()(graph)
        verify_graph(after)
        assert Simplify()(after) is after
        generator = torch.Generator().manual_seed(seed)
        inputs = {name: torch.randn(2, 2, generator=generator, dtype=torch.float64) + 1.5 for name in "xy"}
        assert_same_results(graph, after, inputs)


def test_most_structural_rules_fire() -> None:
    fired: set[str] = set()
    for seed in range(300):
        rewriter = Rewriter(Soup(seed).make(20), RULES, share=True)
        rewriter.run()
        fired |= set(rewriter.fired)
    assert len(fired) > 45, sorted(fired)
