"""`import graphc` costs nothing until a name is read, and every name it offers is there."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import graphc

HEAVY = {"torch", "triton", "numpy", "sympy", "networkx", "jinja2", "rich", "safetensors", "filelock"}


@pytest.mark.parametrize("name", sorted(graphc._LAZY))
def test_name_is_there(name: str) -> None:
    module, _, attribute = graphc._LAZY[name].partition(":")
    expected = importlib.import_module(module)
    assert getattr(graphc, name) is (getattr(expected, attribute) if attribute else expected)


def test_types_and_table_offer_the_same_names() -> None:
    tree = ast.parse(Path(graphc.__file__).read_text(encoding="utf-8"))
    (block,) = (
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    typed = {
        alias.asname or alias.name
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == set(graphc._LAZY)
    assert set(graphc.__all__) == {*graphc._LAZY, "__version__"}
    assert set(graphc.__all__) <= set(dir(graphc))


def test_wrong_name_suggests_the_right_one() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Varable'; did you mean 'Variable'"):
        graphc.Varable  # noqa: B018 - reading it is the test


def test_unlike_name_suggests_nothing() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'qqqq'$"):
        graphc.qqqq  # noqa: B018 - reading it is the test


def test_import_loads_no_heavy_library() -> None:
    program = "import sys, graphc; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    assert not HEAVY & set(loaded.split())
