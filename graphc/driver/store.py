"""Remembers what lowering and code generation made of a graph, so that a new process starts with a hash and a load.

Entries lie in the cache folder beside the libraries that are loaded from there: whoever can write one can write the
other, so a pickle adds nothing to trust. The key holds everything that the result depends on, the compiler's own
sources included.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import io
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from graphc import __version__
from graphc.runtime.cache import content_key, find, get_or_build

T = TypeVar("T")
_FILE = "value.pickle"


@functools.cache
def compiler_fingerprint() -> str:
    """Names the version of graphc's own sources: their names, sizes and times of change."""
    package = Path(__file__).parents[1]
    # In a checkout the other rooms stand beside the package, in a wheel inside it.
    roots = [package, *(package.parent / room for room in ("passes", "runtime", "templates"))]
    files = sorted(
        path for root in roots if root.is_dir() for path in root.rglob("*") if path.suffix in _SOURCES
    )
    facts = ((path, path.stat()) for path in files)
    return content_key([__version__, *(f"{path} {s.st_size} {s.st_mtime_ns}" for path, s in facts)])


_SOURCES = (".py", ".j2", ".h")


def remember(kind: str, parts: Iterable[str], make: Callable[[], T]) -> tuple[T, bool]:
    """The value that `make` gives for these parts, and whether it was found; errors of `make` pass through."""
    key = content_key([compiler_fingerprint(), *parts])
    folder = find(kind, key)
    if folder is not None:
        try:
            return _unpickled((folder / _FILE).read_bytes()), True
        except (pickle.UnpicklingError, AttributeError, ImportError, EOFError, OSError):
            # An entry that this interpreter cannot read is made anew; it is only a shortcut.
            pass
    value = make()
    data = _pickled(value)
    get_or_build(kind, key, lambda aside: _write(aside / _FILE, data))
    return value, False


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


# A frozen, slotted dataclass pickles itself through dataclasses.fields, which takes most of a warm start.


class _Pickler(pickle.Pickler):
    """Writes a slotted dataclass as its class and its slots' values."""

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if dataclasses.is_dataclass(kind) and "__slots__" in kind.__dict__:
            return _restored, (kind, *_slots(kind)[0](value))
        return NotImplemented


@functools.cache
def _slots(kind: type) -> tuple[Callable[[Any], tuple[Any, ...]], tuple[Callable[[Any, Any], None], ...]]:
    """What reads all slots of a slotted dataclass, and what writes each, frozen or not."""
    names = [field.name for field in dataclasses.fields(kind)]
    read = attrgetter(*names) if len(names) > 1 else lambda value: tuple(getattr(value, n) for n in names)
    return read, tuple(getattr(kind, name).__set__ for name in names)


def _restored(kind: type, *values: Any) -> Any:
    """The dataclass with these slots; what its checks found right when it was made is not checked again."""
    result: object = object.__new__(kind)
    for write, value in zip(_slots(kind)[1], values, strict=True):
        write(result, value)
    return result


def _pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


def _unpickled(data: bytes) -> Any:
    """The value; nothing of it can be garbage yet."""
    with collector_rests():
        return pickle.loads(data)


@contextmanager
def collector_rests() -> Iterator[None]:
    """Where much is made and nothing thrown away, looking for garbage costs a sixth of the time and finds none."""
    resting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if resting:
            gc.enable()
