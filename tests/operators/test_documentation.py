"""The operator that docs/operators.md adds works as the page says."""

import re
from pathlib import Path

import pytest
import torch

import graphc as mx
from graphc.driver.reference import run_reference
from graphc.operators import declare as registry
from graphc.symbol.trace import trace

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"


def test_added_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(registry, "_NAMES", dict(registry._NAMES))
    block = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    scope: dict[str, mx.Symbol] = {}
    try:
        exec(compile(block.group(1), str(PAGE), "exec"), scope)
    finally:
        vars(mx.sym).pop("my_swish", None)
    net = scope["net"]
    assert net.attr("beta") == "2"
    assert net.infer_shape(x=(2, 3))[1] == [(2, 3)]
    x = torch.randn(2, 3, dtype=torch.float64)
    found = run_reference(trace(net, {"x": ("N", 3)}), {"x": x}).outputs["act_output"]
    torch.testing.assert_close(found, x * torch.sigmoid(2 * x))


def test_names_are_declared_once() -> None:
    taken = registry.operator("Activation")
    with pytest.raises(ValueError, match="the name Activation is taken"):
        registry.declare(taken)
    with pytest.raises(ValueError, match="has no docstring"):
        registry.declare(registry.Operator("silent", " ", taken.compose))
