"""Every primitive on the C++ target: all cases of a kind in one program, against the oracles."""

import math

import pytest
import torch

from graphc.diagnostics import GraphcError
from graphc.driver.compile import compile
from graphc.driver.reference import run_reference
from graphc.ir.graph import Graph
from graphc.primitives import Kind, primitive, primitives
from graphc.primitives.builder import Builder
from graphc.types import DType, TensorType
from support.primitive_cases import CASES, Case, M, N

Group = tuple[str, list[Case]]


def groups() -> list[Group]:
    """Cases by kind; the elementwise ones in several groups, so that no program is large."""
    by_kind: dict[Kind, list[Case]] = {}
    for case in CASES:
        kind = primitive(case.primitive).kind
        if kind is not Kind.IDENTITY:
            by_kind.setdefault(kind, []).append(case)
    return [
        (f"{kind.value}{start or ''}", cases[start : start + 120])
        for kind, cases in by_kind.items()
        for start in range(0, len(cases), 120)
    ]


def program(cases: list[Case]) -> tuple[Graph, dict[str, torch.Tensor]]:
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


@pytest.mark.parametrize("group", groups(), ids=lambda group: group[0])
def test_cases_of_a_kind(group: Group) -> None:
    graph, inputs = program(group[1])
    actual = compile(graph, target="cpu").run(**inputs)
    for name, expected in run_reference(graph, inputs, dtype=None).outputs.items():
        assert actual[name].dtype is expected.dtype, name
        half = expected.dtype in (torch.float16, torch.bfloat16)
        tolerance = {"rtol": 1e-2 if half else 1e-5, "atol": 1e-2 if half else 1e-5}
        torch.testing.assert_close(
            actual[name], expected, **tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


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


def test_special_values_of_elementwise_primitives() -> None:
    """NaN, infinities, zeros, poles, overflow: on the C++ target as by the oracles."""
    builder = Builder("special")
    singles = torch.tensor(SPECIAL)
    pairs = torch.cartesian_prod(singles, singles).T.contiguous()
    whole = torch.cartesian_prod(*[torch.tensor(WHOLE, dtype=torch.int8)] * 2).T.contiguous()
    given = {"x": singles, "a": pairs[0], "b": pairs[1], "k": whole[0], "m": whole[1]}
    values = {n: builder.input(n, TensorType(DType.of(t.dtype), tuple(t.shape))) for n, t in given.items()}
    outputs = {}
    for declared in primitives():
        if declared.kind is not Kind.ELEMENTWISE or declared.attributes:
            continue
        for names in (("x",), ("a", "b"), ("k",), ("k", "m")):
            try:
                operands = [values[name] for name in names]
                outputs[f"{declared.name} {' '.join(names)}"] = builder.emit(declared.name, *operands)
            except GraphcError:
                continue
    graph = builder.finish(outputs)
    actual = compile(graph, target="cpu").run(**given)
    wrong = []
    for name, expected in run_reference(graph, given, dtype=None).outputs.items():
        limit = TAME.get(name.split()[0], math.inf)
        kept = ~(singles.isfinite() & (singles.abs() > limit)) if name.endswith(" x") else slice(None)
        got, wanted = actual[name][kept].double(), expected[kept].double()
        if not torch.allclose(got, wanted, rtol=2e-5, atol=1e-30, equal_nan=True):
            bad = ~torch.isclose(got, wanted, rtol=2e-5, atol=1e-30, equal_nan=True)
            rows = torch.stack([*(given[n][kept].double() for n in name.split()[1:]), got, wanted])[:, bad].T
            wrong.append(f"{name}: (operands, C++, oracle) {rows[:6].tolist()}")
    assert len(outputs) > 55
    assert not wrong, "\n" + "\n".join(wrong)


def test_special_values_of_reductions_and_pools() -> None:
    rows = torch.tensor(
        [
            [1.0, math.nan, 3.0, math.nan],
            [math.inf, 1.0, math.inf, 2.0],
            [-math.inf, -math.inf, -math.inf, -math.inf],
            [2.0, 2.0, -2.0, -2.0],
            [math.inf, -math.inf, 0.0, 1.0],
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
    actual = compile(graph, target="cpu").run(x=rows)
    for name, expected in run_reference(graph, {"x": rows}, dtype=None).outputs.items():
        torch.testing.assert_close(
            actual[name], expected, equal_nan=True, msg=lambda text, name=name: f"{name}: {text}"
        )
