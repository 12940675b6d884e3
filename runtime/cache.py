"""A folder of built things, addressed by what they were built from.

    <cache>/cpp-<key>/          one entry: sources, library, and entry.json with the size and checksum of each file
    <cache>/cpp-<key>.lock      held while the entry is built, so that two processes build it once
    <cache>/.building-*/        being built; renamed to its entry in one step, removed when anything goes wrong

An entry is whole or not there: a file that is missing, short or changed makes it damaged, and it is built again.
"""

from __future__ import annotations

import atexit
import errno
import functools
import hashlib
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from graphc.diagnostics import Diagnostic, GraphcError, ToolchainError
from graphc.runtime.folders import cache_folder

RECORD = "entry.json"
DEFAULT_LIMIT = 2 << 30
STALE_SECONDS = 3600

Build = Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder with built files; `cached` says that nothing had to be built."""

    folder: Path
    cached: bool


def content_key(parts: Iterable[str]) -> str:
    """A name for everything that a result depends on."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()[:40]


def find(kind: str, key: str) -> Path | None:
    """The folder of a whole entry of that key, None when there is none."""
    # Whether the cache can be written is tried only when something is to be written.
    for root in (cache_folder, writable_folder):
        place = root() / f"{kind}-{key}"
        if is_whole(place):
            _touch(place)
            return place
    return None


def get_or_build(kind: str, key: str, build: Build) -> Entry:
    """The entry of that key, built by `build(empty folder)` when it is missing or damaged.

    Raises what `build` raises, leaving no entry; ToolchainError G503 when the disk is full. A cache folder that
    cannot be written is replaced by a temporary one for this process, with a RuntimeWarning.
    """
    try:
        found = find(kind, key)
        if found is not None:
            return Entry(found, cached=True)
        root = writable_folder()
        return _build_locked(root, root / f"{kind}-{key}", build)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(error) from error
        raise


def _build_locked(root: Path, entry: Path, build: Build) -> Entry:
    from filelock import FileLock

    with FileLock(f"{entry}.lock"):
        if is_whole(entry):
            return Entry(entry, cached=True)
        aside = Path(tempfile.mkdtemp(prefix=".building-", dir=root))
        try:
            try:
                build(aside)
            except GraphcError as error:
                raise _keep_failure(error, aside, root / f"failed-{entry.name}") from None
            _write_record(aside)
            if entry.exists():
                shutil.rmtree(entry)
            aside.rename(entry)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    _evict(root, keep=entry)
    return Entry(entry, cached=False)


def _keep_failure(error: GraphcError, aside: Path, place: Path) -> GraphcError:
    """Move what could not be built to a lasting place, and name that place in the error."""
    shutil.rmtree(place, ignore_errors=True)
    aside.rename(place)
    told = error.diagnostic
    return type(error)(replace(told, help=told.help.replace(str(aside), str(place))))


def _write_record(folder: Path) -> None:
    files = {path.name: _checksum(path) for path in sorted(folder.iterdir())}
    with open(folder / RECORD, "w", encoding="utf-8") as file:
        json.dump({"files": files}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _checksum(path: Path) -> list[int | str]:
    data = path.read_bytes()
    return [len(data), hashlib.sha256(data).hexdigest()]


def is_whole(folder: Path) -> bool:
    """True when the entry is there and every file is as it was written."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return bool(record["files"]) and all(
            _checksum(folder / name) == expected for name, expected in record["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _touch(folder: Path) -> None:
    """Note the use, for eviction."""
    try:
        os.utime(folder / RECORD)
    except OSError:
        return


def writable_folder() -> Path:
    """The cache folder, made if need be; a temporary one when it cannot be written."""
    return _writable(cache_folder())


@functools.cache
def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = tempfile.mkdtemp(prefix=".building-", dir=folder)
        os.rmdir(probe)
        return folder
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        temporary = Path(tempfile.mkdtemp(prefix="graphc-cache-"))
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        warnings.warn(
            f"the cache folder {folder} cannot be written ({error.strerror}); building in {temporary}, "
            "which goes when the process ends. Name another folder in GRAPHC_CACHE_DIR",
            RuntimeWarning,
            stacklevel=4,
        )
        return temporary


def _full(error: OSError) -> ToolchainError:
    return ToolchainError(
        Diagnostic(
            "G503",
            f"no space left for the cache in {cache_folder()}: {error.strerror}",
            help="free some space, or name another folder in GRAPHC_CACHE_DIR; nothing half-written was left",
        )
    )


def size_limit() -> int:
    """Bytes that the cache may take: $GRAPHC_CACHE_LIMIT (in MiB), else 2 GiB."""
    chosen = os.environ.get("GRAPHC_CACHE_LIMIT", "")
    return int(chosen) << 20 if chosen.isdigit() else DEFAULT_LIMIT


def _evict(root: Path, keep: Path) -> None:
    """Remove the entries unused for longest until the cache is within its limit, and what crashed builds left."""
    entries = []
    for folder in root.iterdir():
        try:
            if folder.name.startswith(".building-") and time.time() - folder.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
            elif folder.is_dir() and (folder / RECORD).exists():
                size = sum(path.stat().st_size for path in folder.iterdir())
                entries.append(((folder / RECORD).stat().st_mtime, size, folder))
        except OSError:
            continue
    total = sum(size for _, size, _ in entries)
    for _, size, folder in sorted(entries):
        if total <= size_limit():
            break
        if folder != keep:
            _remove_entry(folder)
            total -= size


def _remove_entry(folder: Path) -> None:
    """Remove an entry that no other process is building."""
    from filelock import FileLock, Timeout

    lock = Path(f"{folder}.lock")
    try:
        with FileLock(lock, blocking=False):
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        return
