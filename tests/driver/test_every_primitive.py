"""Every primitive on the C++ target: all cases of a kind in one program, and special values, against the oracles."""

from collections.abc import Mapping

import pytest
import torch

from graphc.driver.compile import compile
from graphc.ir.graph import Graph
from graphc.types import DType
from support.primitive_programs import (
    case_groups,
    check_cases,
    check_retyped,
    check_special_elementwise,
    check_special_reductions,
)

GROUPS = case_groups()


def cpu(graph: Graph, inputs: dict[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    result: Mapping[str, torch.Tensor] = compile(graph, target="cpu").run(**inputs)
    return result


@pytest.mark.parametrize("group", GROUPS)
def test_cases_of_a_kind(group: str) -> None:
    check_cases(GROUPS[group], cpu)


@pytest.mark.parametrize("dtype", [DType.F64, DType.F16, DType.BF16])
def test_other_floating_point_types(dtype: DType) -> None:
    check_retyped(dtype, cpu)


def test_special_values_of_elementwise_primitives() -> None:
    check_special_elementwise(cpu)


def test_special_values_of_reductions_and_pools() -> None:
    check_special_reductions(cpu)
