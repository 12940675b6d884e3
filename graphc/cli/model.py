"""MODEL, as every command takes it: where a Symbol or a Graph stands, and loading it from there.

    MODEL    = place [":" attribute] | file ".json" | file ".graph"
    place    = file ".py" | package "." module
    .json    a saved Symbol                 .graph   the text of a Graph

The attribute is a Symbol, a Graph, or a function that needs no arguments and returns one; without an attribute, the
only Symbol or Graph of the module. A module may name the shapes of its data inputs in `shapes = {"data": (64, 784)}`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import click

from graphc.diagnostics import GraphcError, Location, closest, fail
from graphc.ir.graph import Graph
from graphc.ir.parse import parse_graph
from graphc.symbol import Symbol, load
from graphc.symbol.node import topological


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model: the Symbol or Graph, a name for it, and the shapes that its file gives."""

    name: str
    value: Symbol | Graph
    shapes: Mapping[str, tuple[Any, ...]]


def load_model(address: str) -> Model:
    """Find and load a MODEL.

    An address that leads nowhere is a usage error (exit code 2) that names what is near. Errors of the user's file
    are GraphcErrors: G320 it does not parse, G321 it raises, G322 the attribute is no model, G323 it holds no model,
    G324 a .graph file cannot be read, G325 `shapes` is no table of shapes.
    """
    place, attribute = _split(address)
    if place.endswith((".json", ".graph")):
        return _load_data(Path(place))
    module = _load_file(Path(place)) if _is_file(place) else _load_module(place)
    name, value = _find(module, attribute, place)
    return Model(name, _as_model(name, value, module), _shapes(module))


def _split(address: str) -> tuple[str, str]:
    place, colon, attribute = address.rpartition(":")
    if not colon:
        return address, ""
    if not attribute or not place:
        raise _usage(f"{address!r} is no MODEL; write file.py:attribute or package.module:attribute")
    return place, attribute


def _is_file(place: str) -> bool:
    return place.endswith(".py") or os.sep in place


def _usage(message: str) -> click.UsageError:
    return click.UsageError(message, click.get_current_context(silent=True))


def _require(path: Path) -> None:
    if path.is_file():
        return
    if path.exists():
        raise _usage(f"{path} is no file")
    folder = path.parent
    if not folder.is_dir():
        raise _usage(f"there is no folder {folder}")
    names = sorted(p.name for p in folder.iterdir() if p.suffix in (".py", ".json", ".graph"))
    hint = closest(path.name, names) or (f"{folder} holds {', '.join(names[:8])}" if names else "")
    raise _usage(f"there is no file {path}" + (f"; {hint}" if hint else ""))


# Data files


def _load_data(path: Path) -> Model:
    _require(path)
    if path.suffix == ".json":
        return Model(path.stem, load(path), {})
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise fail("G324", f"{path} cannot be read: {error}") from None
    return Model(path.stem, parse_graph(text), {})


# Modules


def _load_file(path: Path) -> ModuleType:
    _require(path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise _usage(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # As for a script: its folder comes first, so that it can import its neighbours.
    sys.path.insert(0, str(path.resolve().parent))
    shadowed = sys.modules.get(path.stem)
    sys.modules[path.stem] = module
    try:
        with _talk_on_stderr(), _user_errors(str(path)):
            spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(path.stem)
        raise
    finally:
        # A model file called, say, click.py must not replace the library for those who import it later.
        if shadowed is not None:
            sys.modules[path.stem] = shadowed
    return module


def _load_module(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None:
        files = sorted(path.name for path in Path().glob("*.py"))
        hint = (
            closest(f"{name}.py", files)
            or "a file ends in .py; a module is found from this folder or installed"
        )
        raise _usage(f"there is no module {name!r}; {hint}")
    with _talk_on_stderr(), _user_errors(found.origin or name):
        return importlib.import_module(name)


@contextlib.contextmanager
def _talk_on_stderr() -> Iterator[None]:
    """What the user's file prints is talk; stdout is for the command's data."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def _user_errors(file: str) -> Iterator[None]:
    """Turn what the user's file raises into one diagnostic with its line; GraphcErrors pass as they are."""
    try:
        yield
    except GraphcError:
        raise
    except SyntaxError as error:
        location = Location(error.filename or file, error.lineno or 1)
        text = f"; near {error.text.strip()!r}" if error.text and not location.text else ""
        message = f"{os.path.basename(location.file)} does not parse: {error.msg}{text}"
        raise fail("G320", message, location=location) from None
    except (Exception, SystemExit) as error:
        told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        place = user_line(error.__traceback__, file)
        raise fail("G321", f"{os.path.basename(file)} fails: {told}", location=place) from None


def user_line(traceback: TracebackType | None, file: str) -> Location | None:
    """The innermost line of a traceback that stands in `file` or in a file beside it."""
    folder, found = os.path.dirname(os.path.abspath(file)), None
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        if not name.startswith("<") and os.path.dirname(os.path.abspath(name)) == folder:
            found = Location(name, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found


# Attributes


def _find(module: ModuleType, attribute: str, place: str) -> tuple[str, Any]:
    models = _models_in(module)
    if attribute:
        if attribute in vars(module) or hasattr(module, attribute):
            return attribute, getattr(module, attribute)
        public = [name for name in vars(module) if not name.startswith("_")]
        hint = closest(attribute, public) or (
            f"it holds {', '.join(models)}" if models else "it holds no model"
        )
        raise _usage(f"{place} has no {attribute!r}; {hint}")
    if len(models) == 1:
        return models[0], getattr(module, models[0])
    if models:
        raise _usage(
            f"{place} holds several models; choose one: {', '.join(f'{place}:{name}' for name in models)}"
        )
    own = [value for value in vars(module).values() if inspect.isfunction(value)]
    functions = [function.__name__ for function in own if function.__module__ == module.__name__]
    hint = (
        f"name a function that returns one: {place}:{functions[0]}"
        if functions
        else "define one, for example net"
    )
    raise fail("G323", f"{place} holds no Symbol and no Graph", help=hint)


def _models_in(module: ModuleType) -> list[str]:
    """Names of the module's Symbols and Graphs, without Symbols that are parts of another one there."""
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    heads = {name: value for name, value in public.items() if isinstance(value, (Symbol, Graph))}
    inner = {
        id(node)
        for value in heads.values()
        if isinstance(value, Symbol)
        for node in topological(value.entries)
        if all(node is not entry.node for entry in value.entries)
    }
    return [
        name
        for name, value in heads.items()
        if isinstance(value, Graph) or not all(id(entry.node) in inner for entry in value.entries)
    ]


def _as_model(name: str, value: Any, module: ModuleType) -> Symbol | Graph:
    if isinstance(value, (Symbol, Graph)):
        return value
    if not callable(value) or isinstance(value, type):
        raise fail("G322", f"{name!r} is a {type(value).__name__}, no Symbol and no Graph")
    needed = _required_parameters(value)
    if needed:
        raise fail(
            "G322",
            f"{name!r} is a function that needs {', '.join(needed)}",
            help="give it defaults, or address a Symbol or a Graph",
        )
    with _talk_on_stderr(), _user_errors(module.__file__ or name):
        result = value()
    if not isinstance(result, (Symbol, Graph)):
        raise fail("G322", f"{name}() returns a {type(result).__name__}, no Symbol and no Graph")
    return result


def _required_parameters(function: Any) -> list[str]:
    try:
        parameters: Sequence[inspect.Parameter] = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is inspect.Parameter.empty and p.kind not in variadic]


def _shapes(module: ModuleType) -> Mapping[str, tuple[Any, ...]]:
    shapes = getattr(module, "shapes", {})
    if callable(shapes):  # a helper of that name is no table of shapes
        return {}
    right = isinstance(shapes, Mapping) and all(
        isinstance(name, str)
        and isinstance(shape, (tuple, list))
        and all(isinstance(dim, (int, str)) and not isinstance(dim, bool) for dim in shape)
        for name, shape in shapes.items()
    )
    if not right:
        raise fail(
            "G325",
            f"shapes of {os.path.basename(module.__file__ or module.__name__)} is {shapes!r:.80}",
            help='write shapes = {"data": (64, 784)}; a name such as "N" in a shape stands for any size',
        )
    return {name: tuple(shape) for name, shape in shapes.items()}
