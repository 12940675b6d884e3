"""Modules of benchmarks/, imported as its scripts see them."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
ROOMS = {path.stem for path in FOLDER.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`benchmark("fused.rows")` imports a module of benchmarks/; other folders have modules of these names too."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def ours() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] in ROOMS]

    saved = {name: sys.modules.pop(name) for name in ours()}
    yield importlib.import_module
    for name in ours():
        del sys.modules[name]
    sys.modules.update(saved)
