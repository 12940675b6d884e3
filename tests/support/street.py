"""Reads every import of the project and places both ends in the street of rooms.

Imports point down the street and never back up (docs/architecture.md). A name imported from `graphc` itself
counts as an import of the room that it is loaded from, so the lazy names open no way around.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import graphc

ROOT = Path(__file__).parents[2]

# From the lowest to the highest; rooms of one row may import each other.
STREET: tuple[tuple[str, ...], ...] = (
    ("types", "diagnostics", "files", "cpu_target"),
    ("ir",),
    ("primitives",),
    ("operators", "optimizer", "lr_scheduler"),
    ("symbol",),
    ("passes",),
    ("templates",),
    ("codegen",),
    ("runtime",),
    ("driver", "training"),
    ("graphc",),  # the package's own lazy table
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(STREET) for room in rooms}

# Below in the street, and still none of its business.
STRANGERS = {"runtime": {"passes", "operators", "symbol"}}

TOP_LEVEL_ROOMS = ("passes", "runtime", "templates")


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement's target, and where it stands."""

    file: str
    line: int
    room: str
    target: str
    target_room: str

    @property
    def complaint(self) -> str:
        """What is wrong with this import, empty if nothing is."""
        where = f"{self.file}:{self.line}: {self.room} imports {self.target}"
        for room in (self.room, self.target_room):
            if room not in LEVEL:
                return f"{where}: the room {room!r} has no place in the street (tests/support/street.py)"
        if LEVEL[self.target_room] > LEVEL[self.room]:
            return f"{where}: {self.target_room} stands above {self.room}"
        if self.target_room in STRANGERS.get(self.room, ()):
            return f"{where}: {self.room} must not know {self.target_room}"
        return ""


def project_modules() -> Iterator[tuple[str, Path]]:
    """Yield the installed name and the file of every module of the package."""
    for folder in ("graphc", *TOP_LEVEL_ROOMS):
        prefix = () if folder == "graphc" else ("graphc",)
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join((*prefix, *(parts[:-1] if parts[-1] == "__init__" else parts))), path


def imports_of(module: str, source: str, file: str, *, is_package: bool) -> Iterator[Import]:
    """Yield what `module` imports from the project, within functions too, but for type checkers only."""
    for node in _runtime_nodes(ast.parse(source, file)):
        for target in _targets(node, module, is_package):
            if target.split(".")[0] == "graphc":
                yield Import(file, node.lineno, room_of(module), target, room_of(_resolve_lazy(target)))


def room_of(module: str) -> str:
    """Return the room of an installed module name; the package `graphc` itself is a room too."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def _resolve_lazy(target: str) -> str:
    name = target.removeprefix("graphc.")
    if name.startswith("__"):  # __version__ is no room's
        return "graphc.types"
    return graphc._LAZY.get(name, target).partition(":")[0]


def _runtime_nodes(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and ast.unparse(child.test) in (
            "TYPE_CHECKING",
            "typing.TYPE_CHECKING",
        ):
            for statement in child.orelse:
                yield from _runtime_nodes(ast.Module([statement], []))
        else:
            yield from _runtime_nodes(child)


def _targets(node: ast.Import | ast.ImportFrom, module: str, is_package: bool) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        package = module.split(".") if is_package else module.split(".")[:-1]
        parents = package[: len(package) - (node.level - 1)]
        base = ".".join([*parents, base] if base else parents)
    return [f"{base}.{alias.name}" for alias in node.names] if base == "graphc" else [base]
