"""Files appear whole or not at all; JSON is JSON; units are right."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from graphc.cli.output import emit_json, format_bytes, format_seconds, written_aside


def test_file_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with written_aside(path) as file:
        file.write(b"data")
        assert not path.exists()
    assert path.read_bytes() == b"data"
    assert [item.name for item in tmp_path.iterdir()] == ["out.txt"]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_after_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out.txt"
    path.write_text("before")
    with pytest.raises(error), written_aside(path) as file:
        file.write(b"half")
        raise error
    assert path.read_text() == "before"
    assert [item.name for item in tmp_path.iterdir()] == ["out.txt"]


def test_full_disk_is_one_message(tmp_path: Path) -> None:
    with (
        pytest.raises(click.ClickException, match=r"cannot write .*No space left"),
        written_aside(tmp_path / "out"),
    ):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_interrupted_command_leaves_no_file(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from graphc.cli.output import written_aside\n"
        "with written_aside(Path('out.txt')) as file:\n"
        "    file.write(b'half')\n"
        "    file.flush()\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    assert [item.name.startswith(".out.txt.") for item in tmp_path.iterdir()] == [True]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode != 0
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
