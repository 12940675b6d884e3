"""An interrupt ends the compilers, and a unit that fails ends the others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from graphc.runtime.compilers import Compilers

FAKE = """#!/bin/sh
case "$*" in
  *unit_2*) echo $$ > {folder}/pid; sleep 300 & echo $! > {folder}/child; wait;;
  *unit_1*) while [ ! -s {folder}/child ]; do sleep 0.05; done; exit {code};;
esac
"""
PROGRAM = """
import os, signal, sys, threading, time
from pathlib import Path
from dataclasses import dataclass
from graphc.diagnostics import ToolchainError
from graphc.runtime.cpu import load

folder = Path(sys.argv[1])

@dataclass
class Sources:
    files = (("unit_1.cpp", "int a;"), ("unit_2.cpp", "int b;"))
    name, flags, labels = "two", (), ()

def interrupt():
    while not (folder / "child").exists():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

if sys.argv[2] == "interrupt":
    threading.Thread(target=interrupt).start()
try:
    load(Sources())
except (KeyboardInterrupt, ToolchainError) as error:
    print(type(error).__name__)
print(sorted(path.name for path in (folder / "cache").iterdir() if path.name.startswith((".building", "cpp"))))
"""


def alive(pid: int) -> bool:
    """Whether a process runs: one that has ended may wait for its parent to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
@pytest.mark.parametrize(
    ("how", "code", "raised"), [("interrupt", 0, "KeyboardInterrupt"), ("fail", 1, "ToolchainError")]
)
def test_nothing_goes_on_compiling(tmp_path: Path, how: str, code: int, raised: str) -> None:
    fake = tmp_path / "c++"
    fake.write_text(FAKE.format(folder=tmp_path, code=code))
    fake.chmod(0o755)
    environment = {**os.environ, "CXX": str(fake), "GRAPHC_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), how],
        env=environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    said = done.stdout.splitlines()
    assert said[0] == raised and ".building" not in said[1]
    assert not [name for name in ("pid", "child") if alive(int((tmp_path / name).read_text()))]


def test_errors_and_codes_come_back(tmp_path: Path) -> None:
    compilers = Compilers()
    assert compilers.run(["sh", "-c", "echo no >&2; exit 3"], tmp_path, os.environ, 60) == (3, "no\n")
    with pytest.raises(subprocess.TimeoutExpired):
        compilers.run(["sleep", "300"], tmp_path, os.environ, 0.1)
    with pytest.raises(ZeroDivisionError), compilers.all_or_none():
        raise ZeroDivisionError
    assert compilers.run(["true"], tmp_path, os.environ, 60)[0] != 0, "nothing starts any more"
    # What was ended fails too, and that is not what went wrong; an interrupt stays one.
    with pytest.raises(ZeroDivisionError), compilers.all_or_none():
        raise ValueError("exit code -15")
    with pytest.raises(KeyboardInterrupt), compilers.all_or_none():
        raise KeyboardInterrupt
