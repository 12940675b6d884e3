"""Every gradient rule against central differences in float64, and the gradient of every gradient."""

import pytest

from graphc.primitives import Kind, primitive, primitives
from graphc.primitives.verify import verify_graph
from support.differentiate import check_gradient, differentiate, weighted
from support.primitive_cases import CASES, Case

# Markers say what their gradient is; it is not that of their value.
DECLARED = {"with_gradient"}
DIFFERENTIABLE = [
    case
    for case in CASES
    if primitive(case.primitive).gradient
    and case.differentiable()
    and case.primitive not in DECLARED
    # The shape is nothing to an elementwise rule.
    and (primitive(case.primitive).kind is not Kind.ELEMENTWISE or case.operands[0].type.rank != 1)
]


def carried(case: Case) -> list[str]:
    """The inputs that a gradient reaches: floating-point, at the positions that the primitive names."""
    positions = primitive(case.primitive).differentiable_inputs
    names = case.differentiable()
    return names if positions is None else [name for name in names if int(name[1:]) in positions]


def test_every_gradient_is_tried() -> None:
    tried = {case.primitive for case in DIFFERENTIABLE} | DECLARED
    assert tried == {declared.name for declared in primitives() if declared.gradient}


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_first_and_second_order(case: Case) -> None:
    inputs, names = case.inputs(), carried(case)
    graph = weighted(case.graph(), seed=1)
    if not graph.outputs:
        # A cast to integer or bool: nothing passes.
        assert primitive(case.primitive).gradient(None, case.graph().nodes[0], (None,)) == (None,)  # type: ignore[misc,arg-type]
        return
    if any(value.numel() == 0 for value in inputs.values()):
        verify_graph(differentiate(graph, names))
        return
    first = check_gradient(graph, inputs, names)
    verify_graph(first)
    second = check_gradient(weighted(first, seed=2), inputs, names)
    verify_graph(second)
    verify_graph(differentiate(second, names))
