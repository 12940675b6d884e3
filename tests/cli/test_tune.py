"""`graphc tune` writes a file of choices that run and bench follow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

Command = Callable[..., Any]


def test_tune_writes_choices_that_run_follows(graphc: Command, folder: Path) -> None:
    result = graphc("tune", "net.py", "--budget", "2min", "-o", "net.choices")
    assert result.code == 0 and "net.choices" in result.out
    text = (folder / "net.choices").read_text()
    assert text.startswith("# graphc choices 1\n") and len(text.splitlines()) > 1
    assert graphc("run", "net.py", "--choices", "net.choices", "--check").code == 0


def test_tune_says_what_it_cannot_do(graphc: Command, folder: Path) -> None:
    assert graphc("tune", "net.py", "--target", "reference", "-o", "x.choices").code == 2
    assert graphc("tune", "net.py", "--shape", "data=N,5", "-o", "x.choices").code == 2  # no size of N
    wrong = graphc("tune", "net.py", "--budget", "soon", "-o", "x.choices")
    assert wrong.code == 1 and "G507" in wrong.err
    (folder / "bad.choices").write_text("tiles=3\n")
    assert "G507" in graphc("run", "net.py", "--choices", "bad.choices").err
    assert not (folder / "x.choices").exists()
