"""Files appear whole or not at all; JSON is JSON; units are right."""

import json
from pathlib import Path

import click
import pytest

from graphc.cli.output import emit_json, format_bytes, format_seconds, result_file


def test_missing_folder_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="cannot write"), result_file(tmp_path / "missing" / "out"):
        pass


def test_full_disk_is_one_message(tmp_path: Path) -> None:
    with (
        pytest.raises(click.ClickException, match=r"cannot write .*No space left"),
        result_file(tmp_path / "out"),
    ):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_json_has_no_bare_nan(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"a": [float("nan"), float("inf")], "b": {1: None}, "c": Path("x")})

    def refuse(text: str) -> None:
        raise AssertionError(text)

    data = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert data == {"schema": 1, "a": ["nan", "inf"], "b": {"1": None}, "c": "x"}


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (1 << 50, "1024.0 TiB")],
)
def test_bytes(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.5, "2.5 s"), (0.0123, "12.3 ms"), (1.2e-4, "120 us"), (5e-8, "50 ns"), (0.0, "0 ns")],
)
def test_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
