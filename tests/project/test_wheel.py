"""The wheel holds one package, with everything that the rooms need at run time."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {
    "graphc": "graphc",
    "passes": "graphc/passes",
    "runtime": "graphc/runtime",
    "templates": "graphc/templates",
}
DATA_SUFFIXES = {".j2", ".h", ".cpp"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds from a copy, so that a stale build folder cannot lend files and none is left behind."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
    ]
    subprocess.run([*command, "--wheel-dir", source / "dist", source], check=True, timeout=300)
    (built,) = (source / "dist").glob("graphc-*.whl")
    return built


def test_wheel_holds_exactly_the_tree_under_one_package(wheel: Path) -> None:
    expected = {
        f"{package}/{path.relative_to(ROOT / room).as_posix()}"
        for room, package in ROOMS.items()
        for path in (ROOT / room).rglob("*")
        if path.suffix in {".py", *DATA_SUFFIXES} or path.name == "py.typed"
    }
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert "graphc/py.typed" in files
    assert files == expected


def test_every_file_of_the_rooms_is_code_or_known_data() -> None:
    """A new kind of data file must be named in pyproject.toml's package-data, and here."""
    unknown = [
        path.relative_to(ROOT)
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.suffix not in {".py", ".md", *DATA_SUFFIXES}
        and path.name != "py.typed"
    ]
    assert unknown == []


def test_unpacked_wheel_imports_and_loads_its_templates(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = """
import graphc, graphc.passes, graphc.runtime, graphc.templates as templates
for module in (graphc, graphc.passes, graphc.runtime, templates):
    print(module.__file__)
environment = templates.environment()
for name in environment.list_templates(extensions=["j2"]):
    environment.get_template(name)
    print("template", name)
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    lines = result.stdout.splitlines()
    assert all(line.startswith(str(tmp_path)) for line in lines[:4]), lines[:4]
    templates = {
        path.relative_to(ROOT / "templates").as_posix() for path in (ROOT / "templates").rglob("*.j2")
    }
    assert set(lines[4:]) == {f"template {name}" for name in templates}
