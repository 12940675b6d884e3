"""The command line as a function, in a folder that holds model files."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from graphc.cli import main as cli
from support.models import write_models


@dataclass(frozen=True)
class Result:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.out)
        assert data["schema"] == 1
        return data


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with net.py and double.graph."""
    write_models(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.fixture
def graphc(folder: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """`graphc("dump", "net.py")` runs the command there; no end may show a traceback."""

    def run(*arguments: str) -> Result:
        code = cli.exit_code_of(arguments)
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return Result(code, captured.out, captured.err)

    return run
