"""The cache of built things: whole entries or none, whatever happens while they are built."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import time
import warnings
from pathlib import Path

import pytest

from graphc.diagnostics import Diagnostic, ToolchainError
from graphc.runtime import cache


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".building-")]


def writer(text: str = "result") -> cache.Build:
    def build(place: Path) -> None:
        (place / "file").write_text(text)

    return build


def test_built_once_then_found(empty_cache: Path) -> None:
    first = cache.get_or_build("test", "k", writer())
    second = cache.get_or_build("test", "k", writer("other"))
    assert (first.cached, second.cached) == (False, True)
    assert second.folder == first.folder and (second.folder / "file").read_text() == "result"
    assert not leftovers(empty_cache)


@pytest.mark.parametrize("damage", ["truncate", "change", "remove", "record", "empty record"])
def test_a_damaged_entry_is_built_again(empty_cache: Path, damage: str) -> None:
    entry = cache.get_or_build("test", "k", writer()).folder
    match damage:
        case "truncate":
            (entry / "file").write_text("res")
        case "change":
            (entry / "file").write_text("resulT")
        case "remove":
            (entry / "file").unlink()
        case "record":
            (entry / cache.RECORD).unlink()
        case "empty record":
            (entry / cache.RECORD).write_text('{"files": {}}')
    again = cache.get_or_build("test", "k", writer("again"))
    assert not again.cached and (again.folder / "file").read_text() == "again"
    assert cache.get_or_build("test", "k", writer()).cached


def test_a_full_disk_leaves_nothing_and_says_so(empty_cache: Path) -> None:
    def build(place: Path) -> None:
        (place / "file").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ToolchainError) as caught:
        cache.get_or_build("test", "k", build)
    assert caught.value.diagnostic.code == "G503" and str(empty_cache) in str(caught.value)
    assert not leftovers(empty_cache)
    assert not cache.get_or_build("test", "k", writer()).cached


def test_an_interrupt_leaves_a_usable_cache(empty_cache: Path) -> None:
    def build(place: Path) -> None:
        (place / "file").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get_or_build("test", "k", build)
    assert not leftovers(empty_cache)
    assert not cache.get_or_build("test", "k", writer()).cached


def test_a_failed_build_keeps_its_files_where_the_message_says(empty_cache: Path) -> None:
    def build(place: Path) -> None:
        (place / "file").write_text("wrong")
        raise ToolchainError(Diagnostic("G502", "no", help=f"see {place}"))

    for _ in range(2):
        with pytest.raises(ToolchainError) as caught:
            cache.get_or_build("test", "k", build)
        kept = Path(caught.value.diagnostic.help.removeprefix("see "))
        assert (kept / "file").read_text() == "wrong"
    assert not leftovers(empty_cache)


def test_a_folder_that_cannot_be_written_is_replaced_aloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    obstacle = tmp_path / "file"
    obstacle.write_text("no folder")
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(obstacle / "cache"))
    cache._writable.cache_clear()
    with pytest.warns(RuntimeWarning, match="cannot be written"):
        entry = cache.get_or_build("test", "k", writer())
    assert (entry.folder / "file").read_text() == "result"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.get_or_build("test", "k", writer()).cached
    cache._writable.cache_clear()


def test_the_oldest_entries_go_when_the_cache_is_too_large(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHC_CACHE_LIMIT", "1")
    for number in range(4):
        cache.get_or_build("test", str(number), writer("x" * (400 << 10)))
        record = empty_cache / f"test-{number}" / cache.RECORD
        os.utime(record, (1000 + number, 1000 + number))
    kept = sorted(path.name for path in empty_cache.iterdir() if path.is_dir())
    assert kept == ["test-2", "test-3"]


def test_what_a_crashed_build_left_goes(empty_cache: Path) -> None:
    empty_cache.mkdir()
    old = empty_cache / ".building-crashed"
    old.mkdir()
    os.utime(old, (time.time() - 2 * cache.STALE_SECONDS,) * 2)
    cache.get_or_build("test", "k", writer())
    assert not leftovers(empty_cache)


def _build_slowly(log: str) -> None:
    def build(place: Path) -> None:
        with open(log, "a") as file:
            file.write("built\n")
        time.sleep(0.3)
        (place / "file").write_text("result")

    entry = cache.get_or_build("test", "k", build)
    assert (entry.folder / "file").read_text() == "result"


def test_two_processes_build_once(empty_cache: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_build_slowly, args=(str(log),)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert log.read_text() == "built\n"


def test_the_record_holds_size_and_checksum(empty_cache: Path) -> None:
    entry = cache.get_or_build("test", "k", writer()).folder
    assert json.loads((entry / cache.RECORD).read_text())["files"]["file"][0] == len("result")


def test_keys_tell_parts_apart() -> None:
    assert cache.content_key(["ab", "c"]) != cache.content_key(["a", "bc"]) != cache.content_key(["abc"])
