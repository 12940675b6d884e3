"""Every primitive as generated Triton, interpreted: cases of a kind in one program, and special values."""

import pytest
import torch

from graphc.codegen.triton import has_template
from graphc.ir.graph import Graph
from graphc.passes.expand import Expand
from graphc.passes.fusion import fuse
from graphc.runtime.gpu.interpreter import Interpreter
from graphc.types import DType
from support.primitive_cases import SIZES
from support.primitive_programs import (
    Target,
    case_groups,
    check_cases,
    check_retyped,
    check_special_elementwise,
    check_special_reductions,
)
from support.triton_programs import run_graphs

GROUPS = case_groups(shapes_of_elementwise=False)


@pytest.fixture
def triton(interpreter: Interpreter) -> Target:
    def run(graph: Graph, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        program = fuse(Expand(has_template)(graph))
        (results,) = run_graphs([program], [inputs], SIZES, interpreter.run)
        shapes = {name: value.type for name, value in zip(graph.output_names, graph.outputs, strict=True)}
        return {name: results[name].reshape(type.concrete_shape(SIZES)) for name, type in shapes.items()}

    return run


@pytest.mark.parametrize("group", GROUPS)
def test_cases_of_a_kind(group: str, triton: Target) -> None:
    check_cases(GROUPS[group], triton)


@pytest.mark.parametrize("dtype", [DType.F64, DType.F16, DType.BF16])
def test_other_floating_point_types(dtype: DType, triton: Target) -> None:
    check_retyped(dtype, triton)


def test_special_values_of_elementwise_primitives(triton: Target) -> None:
    check_special_elementwise(triton)


def test_special_values_of_reductions_and_pools(triton: Target) -> None:
    check_special_reductions(triton)
