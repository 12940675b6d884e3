"""All cases of primitives, and special values, as few whole programs: for comparing a target with the oracles."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from graphc.diagnostics import GraphcError
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph
from graphc.primitives import Kind, primitive, primitives
from graphc.primitives.builder import Builder
from graphc.types import DType, TensorType
from support.primitive_cases import CASES, Case, M, N

Inputs = dict[str, torch.Tensor]
Target = Callable[[Graph, Inputs], Mapping[str, torch.Tensor]]

SPECIAL = [
    math.nan,
    math.inf,
    -math.inf,
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -2.5,
    3.0,
    1e30,
    -1e30,
    1e-30,
    100.0,
    -100.0,
]
WHOLE = [0, 1, -1, 2, -3, 127, -128]
# Where a huge angle leaves nothing to agree on, or torch's own f32 overflows on the way.
TAME = {"sin": 100.0, "cos": 100.0, "tan": 100.0, "asinh": 1e18, "acosh": 1e18}


def case_groups(shapes_of_elementwise: bool = True, largest: int = 120) -> dict[str, list[Case]]:
    """Cases by kind, in groups of at most `largest`; without other shapes, elementwise ones are vectors only."""
    by_kind: dict[Kind, list[Case]] = {}
    for case in CASES:
        kind = primitive(case.primitive).kind
        vector = kind is not Kind.ELEMENTWISE or case.operands[0].type.shape == (7,) or case.attributes
        if kind is not Kind.IDENTITY and (shapes_of_elementwise or vector):
            by_kind.setdefault(kind, []).append(case)
    return {
        f"{kind.value}{start or ''}": cases[start : start + largest]
        for kind, cases in by_kind.items()
        for start in range(0, len(cases), largest)
    }


def case_program(cases: list[Case]) -> tuple[Graph, Inputs]:
    """One graph of all cases, its outputs named by them, with the cases' inputs in their declared types."""
    builder = Builder("cases")
    builder.input("sizes", TensorType(DType.BOOL, (N, M)))
    inputs = {"sizes": torch.zeros(3, 2, dtype=torch.bool)}
    outputs = {}
    for number, case in enumerate(cases):
        values = case.inputs()
        operands = []
        for k, operand in enumerate(case.operands):
            operands.append(builder.input(f"case{number}_x{k}", operand.type))
            inputs[operands[-1].name] = values[f"x{k}"].to(operand.type.dtype.torch)
        for k, value in enumerate(builder.emit_all(case.primitive, *operands, **case.attributes)):
            outputs[f"{case} y{k} #{number}"] = value
    return builder.finish(outputs), inputs


# First operands that stay in f32 beside 16-bit floats: what a forward pass kept in the type of its arithmetic.
_STATISTICS = {"attention_gradient": 2}


def retyped(dtype: DType) -> list[Case]:
    """The first case of each primitive that has a floating-point operand, with that element type for it."""
    chosen: dict[str, Case] = {}
    for case in CASES:
        floats = [operand for operand in case.operands if operand.type.dtype is DType.F32]
        if floats and case.primitive != "cast" and primitive(case.primitive).kind is not Kind.IDENTITY:
            statistics = _STATISTICS.get(case.primitive, 0) if dtype.itemsize < 4 else 0
            operands = tuple(
                replace(operand, type=operand.type.with_dtype(dtype))
                if operand in floats and position >= statistics
                else operand
                for position, operand in enumerate(case.operands)
            )
            chosen.setdefault(case.primitive, replace(case, operands=operands))
    return list(chosen.values())


def check_retyped(dtype: DType, target: Target) -> None:
    """Assert that a target is as close to float64 as the element type allows, given rounded operands."""
    graph, inputs = case_program(retyped(dtype))
    assert len(graph.outputs) > 65
    actual = target(graph, inputs)
    limit = {DType.F64: 1e-12, DType.F16: 4e-3, DType.BF16: 3e-2}[dtype]
    types = dict(zip(graph.output_names, (value.type for value in graph.outputs), strict=True))
    for name, expected in run_reference(graph, inputs).outputs.items():
        value = actual[name]
        assert value.dtype is types[name].dtype.torch, name
        torch.testing.assert_close(
            value.to(expected.dtype),
            expected,
            rtol=limit,
            atol=limit,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def check_cases(cases: list[Case], target: Target) -> None:
    """Assert that a target gives the oracles' values and element types."""
    graph, inputs = case_program(cases)
    actual = target(graph, inputs)
    for name, expected in run_reference(graph, inputs, dtype=None).outputs.items():
        assert actual[name].dtype is expected.dtype, name
        limit = 1e-2 if expected.dtype in (torch.float16, torch.bfloat16) else 1e-5
        torch.testing.assert_close(
            actual[name], expected, rtol=limit, atol=limit, msg=lambda text, name=name: f"{name}: {text}"
        )


def special_elementwise() -> tuple[Graph, Inputs]:
    """Every elementwise primitive on all (pairs of) special values, as f32 and as i8."""
    builder = Builder("special")
    singles = torch.tensor(SPECIAL)
    pairs = torch.cartesian_prod(singles, singles).T.contiguous()
    whole = torch.cartesian_prod(*[torch.tensor(WHOLE, dtype=torch.int8)] * 2).T.contiguous()
    inputs = {"x": singles, "a": pairs[0], "b": pairs[1], "k": whole[0], "m": whole[1]}
    values = {n: builder.input(n, TensorType(DType.of(t.dtype), tuple(t.shape))) for n, t in inputs.items()}
    outputs = {}
    for declared in primitives():
        if declared.kind is not Kind.ELEMENTWISE or declared.attributes:
            continue
        for names in (("x",), ("a", "b"), ("k",), ("k", "m")):
            try:
                operands = [values[name] for name in names]
                outputs[f"{declared.name} {' '.join(names)}"] = builder.emit(declared.name, *operands)
            except GraphcError:
                continue  # not for this number of operands or this element type
    return builder.finish(outputs), inputs


def check_special_elementwise(target: Target) -> None:
    """Assert that a target treats NaN, infinities, zeros, poles and overflow as the oracles do."""
    graph, inputs = special_elementwise()
    assert len(graph.outputs) > 55
    actual = target(graph, inputs)
    wrong = []
    for name, expected in run_reference(graph, inputs, dtype=None).outputs.items():
        operation, *operands = name.split()
        given = torch.stack([inputs[operand].double() for operand in operands])
        compared = ~(given.isfinite() & (given.abs() > TAME.get(operation, math.inf))).any(0)
        got, wanted = actual[name].double(), expected.double()
        bad = compared & ~torch.isclose(got, wanted, rtol=2e-5, atol=1e-30, equal_nan=True)
        if bad.any():
            rows = torch.cat([given, got[None], wanted[None]])[:, bad].T
            wrong.append(f"{name}: (operands, target, oracle) {rows[:6].tolist()}")
    assert not wrong, "\n" + "\n".join(wrong)


def check_special_reductions(target: Target) -> None:
    """Assert that a target reduces and pools NaN, infinities and ties as the oracles do."""
    inf, nan = math.inf, math.nan
    rows = torch.tensor(
        [
            [1.0, nan, 3.0, nan],
            [inf, 1.0, inf, 2.0],
            [-inf, -inf, -inf, -inf],
            [2.0, 2.0, -2.0, -2.0],
            [inf, -inf, 0.0, 1.0],
        ]
    )
    builder = Builder("special")
    x = builder.input("x", TensorType(DType.F32, tuple(rows.shape)))
    names = ["reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "argmax", "argmin"]
    outputs = {f"{name} {axis}": builder.emit(name, x, axes=(axis,)) for name in names for axis in (0, 1)}
    geometry = {"kernel": (2,), "stride": (1,), "pad_low": (1,), "pad_high": (2,)}
    outputs["pooled"], outputs["position"] = builder.emit_all("max_pool", x, **geometry)
    outputs["sums"] = builder.emit("window_sum", x, **geometry)
    graph = builder.finish(outputs)
    actual = target(graph, {"x": rows})
    for name, expected in run_reference(graph, {"x": rows}, dtype=None).outputs.items():
        torch.testing.assert_close(
            actual[name], expected, equal_nan=True, msg=lambda text, name=name: f"{name}: {text}"
        )
