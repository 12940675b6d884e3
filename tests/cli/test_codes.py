"""The table of codes holds every code that is raised, and no other."""

import re
from pathlib import Path

import pytest

from graphc.cli import main as cli
from graphc.cli.codes import CODES, FAMILIES

ROOT = Path(__file__).parents[2]
ROOMS = ("graphc", "passes", "runtime", "templates")


def raised_codes() -> dict[str, str]:
    """Every code in a string of the sources (not of docstrings), with a place where it stands."""
    found: dict[str, str] = {}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            if path.name == "codes.py":
                continue
            for match in re.finditer(r'"(G[1-6]\d\d)"', path.read_text()):
                found.setdefault(match.group(1), str(path.relative_to(ROOT)))
    return found


def test_every_raised_code_is_explained() -> None:
    missing = {code: place for code, place in raised_codes().items() if code not in CODES}
    assert not missing


def test_every_explained_code_is_raised() -> None:
    assert set(CODES) <= set(raised_codes())


@pytest.mark.parametrize("code", CODES)
def test_explanations_are_whole(code: str) -> None:
    entry = CODES[code]
    assert code[:2] in FAMILIES
    assert entry.title and not entry.title.endswith(".")
    assert entry.meaning.endswith(".")
    assert entry.fix


def test_explain_prints_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code_of(["explain", "g203"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("G203: ")
    assert "for example\n    w = mx.sym.Variable" in text
    assert "\nfix: " in text


def test_unknown_code_names_its_family(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code_of(["explain", "G299"]) == 2
    assert "codes of shapes and types: G201, G202" in capsys.readouterr().err
