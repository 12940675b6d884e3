"""What every declaration holds, and that view rules say the same as the oracles."""

import itertools
import re
from pathlib import Path

import numpy
import pytest

from graphc.diagnostics import GraphcError
from graphc.driver.reference import run_reference
from graphc.ir.kernel import Affine
from graphc.primitives import Kind, TypeRuleError, primitive, primitives
from graphc.primitives.concrete import concrete_node
from graphc.primitives.declare import AttributeSpec, Primitive, declare
from graphc.types import evaluate
from support.primitive_cases import CASES, SIZES, Case

ALL = primitives()
VIEWS = [case for case in CASES if primitive(case.primitive).kind is Kind.VIEW]


def test_the_cases_cover_all_primitives() -> None:
    assert {case.primitive for case in CASES} == {declared.name for declared in ALL}


def test_the_architecture_page_lists_all_primitives() -> None:
    page = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
    words = set(re.findall(r"\w+", page[page.index("## Primitives") :]))
    assert [declared.name for declared in ALL if declared.name not in words] == []


@pytest.mark.parametrize("declared", ALL, ids=lambda declared: declared.name)
def test_a_declaration_is_complete(declared: Primitive) -> None:
    assert len(declared.doc.split()) >= 1
    assert (declared.gradient is None) == bool(declared.no_gradient)
    assert callable(declared.oracle)
    for spec in declared.attributes:
        assert spec.name.isidentifier() and spec.doc
    if declared.commutative:
        assert declared.kind is Kind.ELEMENTWISE


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_cost_is_a_count(case: Case) -> None:
    node = case.graph().nodes[0]
    operations = evaluate(primitive(case.primitive).flops(node), SIZES)
    assert operations >= 0
    elements = sum(evaluate(value.type.size, SIZES) for value in node.outputs)
    computes = primitive(case.primitive).kind in (
        Kind.ELEMENTWISE,
        Kind.RANDOM,
        Kind.SCATTER,
        Kind.CONTRACTION,
    )
    if computes and elements and all(evaluate(v.type.size, SIZES) for v in node.inputs):
        assert operations > 0


def test_costs_of_contractions() -> None:
    def flops(name: str) -> list[int]:
        nodes = [case.graph().nodes[0] for case in CASES if case.primitive == name]
        return [evaluate(primitive(name).flops(node), SIZES) for node in nodes]

    assert flops("dot")[0] == 2 * 3 * 2 * 5
    # Two operations for each result element, input channel of the group and kernel element, in all three directions.
    terms = 2 * (2 * 6 * 3 * 3) * (2 * 2 * 3)
    assert flops("convolution")[0] == terms
    assert flops("convolution_data_gradient")[0] == terms
    assert flops("convolution_weight_gradient")[0] == terms


@pytest.mark.parametrize("case", VIEWS, ids=str)
def test_a_view_rule_gives_the_oracles_elements(case: Case) -> None:
    graph, inputs = case.graph(), case.inputs()
    expected = run_reference(graph, inputs).outputs["y0"].numpy()
    node = concrete_node(graph.nodes[0], SIZES)
    declared = primitive(case.primitive)
    operands = [inputs[value.name].numpy() for value in node.inputs]
    axes = tuple(Affine.axis(f"i{k}") for k in range(expected.ndim))
    accesses = declared.view(node, axes) if declared.view else ()
    for index in itertools.product(*map(range, expected.shape)):
        point = {f"i{k}": position for k, position in enumerate(index)}
        found = [a for a in accesses if all(g.low <= at(g.expression, point) < g.high for g in a.guards)]
        if found:
            (access,) = found
            value = operands[access.operand][tuple(at(e, point) for e in access.index)]
        else:
            assert declared.fill is not None
            value = declared.fill(node)
        assert numpy.array_equal(value, expected[index])


def at(expression: Affine, point: dict[str, int]) -> int:
    result = expression.offset + sum(stride * point[name] for name, stride in expression.terms)
    assert isinstance(result, int)
    return result


def test_an_unknown_primitive_is_an_error_with_close_names() -> None:
    with pytest.raises(GraphcError, match=r"G301.*'maximun'") as caught:
        primitive("maximun")
    assert "did you mean 'maximum'" in caught.value.diagnostic.help


def test_attributes_are_completed_and_checked() -> None:
    dot = primitive("dot")
    assert dict(dot.complete({"transpose_b": True})) == {"transpose_a": False, "transpose_b": True}
    with pytest.raises(TypeRuleError, match=r"no attribute 'axis'.*transpose_a, transpose_b"):
        dot.complete({"axis": 1})
    with pytest.raises(TypeRuleError, match="needs the attribute 'axes': an order of all axes"):
        primitive("transpose").complete({})
    with pytest.raises(TypeRuleError, match="its attributes are: none"):
        primitive("add").complete({"alpha": 2})


def test_a_wrong_declaration_is_refused() -> None:
    add, broadcast = primitive("add"), primitive("broadcast")
    with pytest.raises(ValueError, match="declared twice"):
        declare(add)
    with pytest.raises(ValueError, match="the reason why it has none"):
        declare(Primitive("nothing", "doc", Kind.ELEMENTWISE, add.infer, add.oracle))
    with pytest.raises(ValueError, match="the reason why it has none"):
        declare(
            Primitive(
                "both", "doc", Kind.ELEMENTWISE, add.infer, add.oracle, add.gradient, no_gradient="none"
            )
        )
    with pytest.raises(ValueError, match="view rule"):
        declare(Primitive("seen", "doc", Kind.VIEW, add.infer, add.oracle, no_gradient="none"))
    with pytest.raises(ValueError, match="view rule"):
        declare(
            Primitive(
                "unseen", "doc", Kind.RESHAPE, add.infer, add.oracle, no_gradient="none", view=broadcast.view
            )
        )
    assert {declared.name for declared in primitives()}.isdisjoint({"nothing", "both", "seen", "unseen"})
    assert AttributeSpec("axis", "an axis").required


def test_only_loss_markers_ignore_their_head() -> None:
    cases = [case.graph().nodes[0] for case in CASES]
    ignoring = {
        (n.primitive, n.attributes["scaled"]) for n in cases if primitive(n.primitive).ignores_head(n)
    }
    assert ignoring == {("with_gradient", False)}


def test_importing_the_primitives_does_not_import_torch() -> None:
    import subprocess
    import sys

    code = "import sys, graphc.primitives; sys.exit('torch' in sys.modules or 'sympy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
