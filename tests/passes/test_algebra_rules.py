"""Every rule of the algebra table does what its text says, and is as exact as it claims, on special values too."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from graphc.diagnostics import GraphcError
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph, Value
from graphc.passes.rewrite import Rule, rewrite
from graphc.passes.rules import algebra, folding
from graphc.passes.rules.pattern import Apply, Name, Number, Pattern, algebraic, parse
from graphc.passes.simplify import Simplify
from graphc.primitives.builder import Builder
from graphc.types import DType, TensorType

SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 1e-42, 1e30, -1e30, 100.0, math.inf, -math.inf, math.nan)
ORDINARY = (0.25, -0.75, 1.0, -1.5, 2.0, 3.5, -4.0, 6.0)
WHOLE = (0, 1, -1, 2, 7, -8, 100, -128)
DTYPES = (DType.F32, DType.F64, DType.I32, DType.I8, DType.BOOL)

TABLE = (*algebra.TABLE, *(rule for rule in folding.RULES if rule.name.startswith("where(")))


def names_in(pattern: Pattern) -> tuple[str, ...]:
    match pattern:
        case Name(text):
            return (text,)
        case Number():
            return ()
        case Apply(_, operands):
            return tuple(dict.fromkeys(itertools.chain.from_iterable(map(names_in, operands))))


def graph_of(text: str, dtype: DType, count: int) -> Graph:
    """The graph of a pattern whose names are inputs of `count` elements; c is a bool."""
    pattern, builder = parse(text), Builder("rule")
    inputs = {
        name: builder.input(name, TensorType(DType.BOOL if name == "c" else dtype, (count,)))
        for name in names_in(pattern)
    }

    def build(part: Pattern) -> Value:
        match part:
            case Name(name):
                return inputs[name]
            case Number(value):
                return builder.full(value, TensorType(dtype, (count,)))
            case Apply(primitive, operands):
                return getattr(builder, primitive)(*map(build, operands))

    return builder.finish({"result": build(pattern)})


def values_for(graph: Graph, exact: bool) -> dict[str, torch.Tensor]:
    """All combinations of values of the inputs' types."""
    choices = []
    for item in graph.inputs:
        dtype = item.value.type.dtype
        choices.append(
            (False, True)
            if dtype is DType.BOOL
            else WHOLE
            if dtype.is_integer
            else SPECIAL
            if exact
            else ORDINARY
        )
    columns = zip(*itertools.product(*choices), strict=True)
    return {
        item.name: torch.tensor(column, dtype=item.value.type.dtype.torch)
        for item, column in zip(graph.inputs, columns, strict=True)
    }


def combinations(text: str, dtype: DType, exact: bool) -> int:
    graph = graph_of(text, dtype, 1)
    return len(next(iter(values_for(graph, exact).values())))


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal, zeros of one sign, any NaN equal to any other."""
    if not a.is_floating_point():
        return bool(torch.equal(a, b))
    equal = (a == b) & (a.signbit() == b.signbit()) | a.isnan() & b.isnan()
    return bool(equal.all())


def applications(rule: Rule) -> list[tuple[Graph, Graph]]:
    """For each element type on which the rule fires, its pattern before and after."""
    text = rule.name.split(" -> ")[0]
    found = []
    for dtype in DTYPES:
        try:
            graph = graph_of(text, dtype, combinations(text, dtype, rule.exact))
        except GraphcError:
            continue  # the primitives are not defined on this type
        after = rewrite(graph, [rule])
        if after is not graph:
            found.append((graph, after))
    return found


@pytest.mark.parametrize("rule", TABLE, ids=lambda rule: f"{rule.name} {'exact' if rule.exact else 'close'}")
def test_rule(rule: Rule) -> None:
    pairs = applications(rule)
    assert pairs, "the rule fires on no element type"
    for before, after in pairs:
        inputs = values_for(before, rule.exact)
        expected = run_reference(before, inputs, dtype=None).outputs["result"]
        got = run_reference(after, inputs, dtype=None).outputs["result"]
        assert got.dtype == expected.dtype
        if rule.exact:
            assert same_bits(expected, got), f"{before}{after}\n{inputs}\n{expected}\n{got}"
        else:
            torch.testing.assert_close(got, expected, rtol=2e-6, atol=1e-6, equal_nan=True)
        assert rewrite(after, [rule]) is after or "pow" in rule.name


@pytest.mark.parametrize("rule", [rule for rule in TABLE if rule.exact], ids=lambda rule: rule.name)
def test_strict_simplification_keeps_every_bit(rule: Rule) -> None:
    for before, _ in applications(rule):
        inputs = values_for(before, exact=True)
        after = Simplify(strict=True)(before)
        expected = run_reference(before, inputs, dtype=None).outputs["result"]
        assert same_bits(expected, run_reference(after, inputs, dtype=None).outputs["result"])


def test_no_float_rule_loses_a_nan() -> None:
    for text in ("sub(x, x)", "mul(x, 0.0)", "eq(x, x)", "div(x, x)"):
        graph = graph_of(text, DType.F32, 4)
        after = Simplify()(graph)
        nan = torch.full((4,), math.nan)
        expected = run_reference(graph, {"x": nan}, dtype=None).outputs["result"]
        assert same_bits(run_reference(after, {"x": nan}, dtype=None).outputs["result"], expected), text


def test_every_rule_says_why_it_is_sound() -> None:
    assert all(len(rule.sound) > 5 for rule in TABLE)


def test_patterns_that_are_none_are_refused() -> None:
    for text in ("x +", "add(x, y=1)", "'word'", "add(*x)"):
        with pytest.raises((ValueError, SyntaxError)):
            parse(text)
    with pytest.raises(ValueError, match="must apply a primitive"):
        algebraic("x", "x", "nothing")


def test_commutative_operands_match_in_both_orders() -> None:
    b = Builder("g")
    x = b.input("x", TensorType.parse("f32[3]"))
    graph = b.finish({"a": b.mul(1.0, x), "b": b.sub(b.neg(x), x), "c": b.add(b.neg(x), x)})
    after = Simplify()(graph)
    assert after.outputs[0].name == "x"
    assert [node.primitive for node in after.nodes] == ["neg", "sub", "sub"]
