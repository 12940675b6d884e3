"""A file appears whole or not at all."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from graphc.files import write_text, written_aside


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


def test_interrupted_command_leaves_no_file(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from graphc.files import written_aside\n"
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


def test_text_is_utf8_and_a_missing_folder_an_error(tmp_path: Path) -> None:
    write_text(tmp_path / "out.txt", "σ\n")
    assert (tmp_path / "out.txt").read_bytes() == b"\xcf\x83\n"
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "missing" / "out.txt", "")
