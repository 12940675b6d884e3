"""Imports point down the street: types < ir < primitives < ... < cli."""

import pytest

from support.street import LEVEL, ROOT, STRANGERS, TOP_LEVEL_ROOMS, imports_of, project_modules, room_of


def complaints(module: str, source: str, *, is_package: bool = False) -> list[str]:
    found = imports_of(module, source, "room.py", is_package=is_package)
    return [item.complaint for item in found if item.complaint]


def test_no_import_points_up_the_street() -> None:
    wrong = [
        item.complaint
        for module, path in project_modules()
        for item in imports_of(
            module,
            path.read_text(encoding="utf-8"),
            str(path.relative_to(ROOT)),
            is_package=path.name == "__init__.py",
        )
        if item.complaint
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_every_room_has_a_place() -> None:
    rooms = {room_of(module) for module, _ in project_modules()}
    assert rooms >= {"graphc", *TOP_LEVEL_ROOMS}
    assert rooms <= set(LEVEL), f"rooms without a place in the street: {sorted(rooms - set(LEVEL))}"


def test_strangers_are_rooms() -> None:
    assert {room for pair in STRANGERS.items() for room in (pair[0], *pair[1])} <= set(LEVEL)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("graphc.ir.graph", "from graphc.passes import fuse"),
        ("graphc.ir.graph", "import graphc.driver.compile as c"),
        ("graphc.ir.graph", "from graphc import symbol"),
        ("graphc.passes.fuse", "from ..codegen import cpp"),
        ("graphc.passes.fuse", "from .. import runtime"),
        ("graphc.symbol.symbol", "from graphc import nd"),  # a lazy name of the driver
        ("graphc.ir.graph", "import graphc"),
        ("graphc.ir.graph", "def f():\n    from graphc.cli import main\n"),
        ("graphc.ir.graph", "if TYPE_CHECKING:\n    pass\nelse:\n    import graphc.passes\n"),
        ("graphc.runtime.launch", "from graphc.passes import fuse"),
        ("graphc.ir.graph", "import graphc.attic"),  # a room without a place
    ],
)
def test_wrong_imports_are_found(module: str, source: str) -> None:
    (complaint,) = complaints(module, source)
    assert complaint.startswith("room.py:")
    assert room_of(module) in complaint


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("graphc.passes.fuse", "from graphc.ir.graph import Graph\nfrom . import manager\nimport networkx"),
        ("graphc.types", "from graphc.diagnostics import fail\nfrom graphc import __version__"),
        ("graphc.cli.main", "import graphc\nfrom graphc import compile, Symbol, cpu"),
        ("graphc.driver.compile", "from graphc.runtime import cache\nfrom graphc import symbol, Symbol"),
        ("graphc.ir.graph", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import graphc.driver"),
    ],
)
def test_right_imports_are_let_through(module: str, source: str) -> None:
    assert complaints(module, source) == []


def test_relative_import_of_a_package_starts_at_itself() -> None:
    (item,) = imports_of("graphc.ir", "from .graph import Graph", "ir/__init__.py", is_package=True)
    assert (item.target, item.target_room) == ("graphc.ir.graph", "ir")
