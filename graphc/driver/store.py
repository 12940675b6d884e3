"""Remembers what lowering and code generation made of a graph, so that a new process starts with a hash and a load.

Entries lie in the cache folder beside the libraries that are loaded from there: whoever can write one can write the
other, so a pickle adds nothing to trust. The key holds everything that the result depends on, the compiler's own
sources included.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

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
            return pickle.loads((folder / _FILE).read_bytes()), True
        except (pickle.UnpicklingError, AttributeError, ImportError, EOFError, OSError):
            # An entry that this interpreter cannot read is made anew; it is only a shortcut.
            pass
    value = make()
    data = pickle.dumps(value)
    get_or_build(kind, key, lambda aside: _write(aside / _FILE, data))
    return value, False


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
