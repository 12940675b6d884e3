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
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from graphc import __version__
from graphc.diagnostics import ToolchainError
from graphc.runtime.cache import content_key, find, get_or_build

T = TypeVar("T")
_FILE = "value.pickle"


@functools.cache
def compiler_fingerprint() -> str:
    """Names the version of graphc's own sources: their names, sizes and times of change."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # In a checkout the other rooms stand beside the package, in a wheel inside it.
    rooms = [os.path.join(os.path.dirname(package), room) for room in ("passes", "runtime", "templates")]
    facts = [fact for root in (package, *rooms) if os.path.isdir(root) for fact in _source_facts(root)]
    return content_key([__version__, *sorted(facts)])


def _source_facts(folder: str) -> Iterator[str]:
    """A line a source file below a folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(_SOURCES):
                status = entry.stat()
                yield f"{entry.path} {status.st_size} {status.st_mtime_ns}"
            elif entry.is_dir() and entry.name != "__pycache__":
                yield from _source_facts(entry.path)


_SOURCES = (".py", ".j2", ".h")


def recall(kind: str, parts: Iterable[str]) -> Any:
    """The value that was kept for these parts, None when there is none."""
    return _read(kind, _key(parts))


def keep(kind: str, parts: Iterable[str], value: object) -> None:
    """Let `recall` find a value, which is not None, in this process and in others."""
    _keep(kind, _key(parts), value)


def remember(kind: str, parts: Iterable[str], make: Callable[[], T]) -> tuple[T, bool]:
    """The value that `make` gives for these parts, and whether it was found; errors of `make` pass through."""
    key = _key(parts)
    found = _read(kind, key)
    if found is not None:
        return found, True
    value = make()
    _keep(kind, key, value)
    return value, False


def _key(parts: Iterable[str]) -> str:
    return content_key([compiler_fingerprint(), *parts])


def _read(kind: str, key: str) -> Any:
    folder = find(kind, key)
    if folder is None:
        return None
    try:
        return _unpickled((folder / _FILE).read_bytes())
    except (pickle.UnpicklingError, AttributeError, ImportError, EOFError, OSError):
        # An entry that this interpreter cannot read is made anew; it is only a shortcut.
        return None


def _keep(kind: str, key: str, value: object) -> None:
    data = _pickled(value)
    # It is only a shortcut: a disk that is full fails where something is needed.
    with suppress(ToolchainError):
        get_or_build(kind, key, lambda aside: _write(aside / _FILE, data))


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
