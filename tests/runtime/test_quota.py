"""A container's quota of cores is found, and OpenMP kept within it."""

import ctypes
import threading
from pathlib import Path
from typing import cast

import pytest

from graphc import cpu_target
from graphc.cpu_target import available_cores, core_quota
from graphc.runtime.cpu import native


def group(root: Path, path: str, **files: str) -> None:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def quota(tmp_path: Path, lines: str) -> int | None:
    (tmp_path / "self").write_text(lines)
    return core_quota(str(tmp_path / "self"), str(tmp_path / "cgroup"))


def test_version_2_and_the_groups_around(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    group(root, "a/b", cpu__max="max 100000")
    assert quota(tmp_path, "0::/a/b\n") is None
    group(root, "a", cpu__max="250000 100000")
    assert quota(tmp_path, "0::/a/b\n") == 3
    group(root, "a/b", cpu__max="50000 100000")
    assert quota(tmp_path, "0::/a/b\n") == 1
    assert quota(tmp_path, "0::/of/the/host\n") is None
    group(root, "", cpu__max="200000 100000")
    assert quota(tmp_path, "0::/of/the/host\n") == 2


def test_version_1(tmp_path: Path) -> None:
    lines = "5:memory:/x\n4:cpu,cpuacct:/x\n0::/\n"
    group(tmp_path / "cgroup", "cpu/x", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert quota(tmp_path, lines) is None
    group(tmp_path / "cgroup", "cpu", cpu__cfs_quota_us="400000", cpu__cfs_period_us="100000")
    assert quota(tmp_path, lines) == 4


@pytest.mark.parametrize("text", ["", "many 100000", "1", "-5 100000", "100000 0"])
def test_what_cannot_be_read_limits_nothing(tmp_path: Path, text: str) -> None:
    group(tmp_path / "cgroup", "", cpu__max=text)
    assert quota(tmp_path, "0::/\n") is None
    assert core_quota(str(tmp_path / "none"), str(tmp_path)) is None


def test_the_users_number_of_threads_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_target, "core_quota", lambda: 1)
    monkeypatch.setattr(cpu_target.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert available_cores() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert available_cores() == 3


class OpenMP:
    """Stands for a library: a number of threads for each thread that asks."""

    def __init__(self) -> None:
        self.local = threading.local()

    def omp_get_max_threads(self) -> int:
        return getattr(self.local, "threads", 8)

    def omp_set_num_threads(self, count: int) -> None:
        self.local.threads = count


def test_each_thread_is_kept_within_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "core_quota", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    library = OpenMP()
    limit = native._thread_limit(cast(ctypes.CDLL, library))
    assert limit is not None
    limit()
    found = [library.omp_get_max_threads()]
    library.omp_set_num_threads(5)
    limit()
    found.append(library.omp_get_max_threads())
    other = threading.Thread(target=lambda: (limit(), found.append(library.omp_get_max_threads())))
    other.start()
    other.join()
    assert found == [2, 5, 2]
    monkeypatch.setattr(native, "core_quota", lambda: None)
    assert native._thread_limit(cast(ctypes.CDLL, library)) is None
