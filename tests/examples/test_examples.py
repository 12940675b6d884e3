"""The examples and the README's code run as a reader would run them, each in a process of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=600
    )


def test_the_digits_are_trained_and_tested_by_compiled_programs():
    # Two of the forty epochs reach 90%: what fails here is the program, not the learning.
    finished = run(str(ROOT / "examples" / "train_digits.py"), "--epochs", "2")
    accuracies = re.findall(r"(\w+): ([\d.]+)% of 360 held-out digits right", finished.stdout)
    assert [name for name, _ in accuracies] == ["MLP", "LeNet"], finished.stdout + finished.stderr
    assert all(float(accuracy) > 80 for _, accuracy in accuracies), finished.stdout
    assert finished.returncode == (0 if all(float(accuracy) > 97 for _, accuracy in accuracies) else 1)


def test_the_readme_runs_from_top_to_bottom(tmp_path: Path):
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.S | re.M)
    assert len(blocks) >= 2
    (tmp_path / "readme.py").write_text("\n".join(blocks))
    finished = run("readme.py", folder=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("(32, 10)")


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "zoo").glob("*.py")), ids=lambda path: path.stem)
def test_a_model_of_the_zoo_can_be_dumped_by_its_address(path: Path):
    finished = run("-m", "graphc", "dump", f"{path}:network", "--stage", "symbol")
    assert finished.returncode == 0, finished.stderr
    assert "softmax" in finished.stdout
