"""The process of one peer in one setting: makes jobs, checks them and times them as it is told, and sleeps between.

Started by harness/client.py. A request is a line of JSON on stdin, {"do": ..., ...}; the answer is a line of JSON on
what was stdout. Whatever libraries print goes to stderr.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from harness.row import Array, CannotRun, Job, Row, relative_error

Answer = dict[str, Any]


class Worker:
    """What this process holds: the jobs of the row at hand."""

    def __init__(self, forms: str, function: str, packages: Sequence[str]) -> None:
        self._forms, self._function, self._packages = forms, function, packages
        self._jobs: dict[str, Job] = {}

    def hello(self) -> Answer:
        """Import the peer; its versions."""
        versions = {}
        for package in self._packages:
            importlib.import_module(package)
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                versions[package] = "?"
        return {"versions": versions}

    def prepare(self, suite: str, row: str, seed: int, references: list[str]) -> Answer:
        """Make the jobs of a row and check each; {"errors": by form}."""
        declared = self._make(suite, row, seed)
        exact: list[Array] = [np.load(path, mmap_mode="r") for path in references]
        errors = {
            form: relative_error(job.results(), exact, declared.norm) for form, job in self._jobs.items()
        }
        gc.collect()
        return {"errors": errors}

    def reference(self, suite: str, row: str, seed: int, folder: str) -> Answer:
        """Write the row's results to files."""
        self._make(suite, row, seed)
        (job,) = self._jobs.values()
        paths = []
        for number, result in enumerate(job.results()):
            paths.append(f"{folder}/{number}.npy")
            np.save(paths[-1], np.asarray(result))
        return {"references": paths}

    def time(self, form: str, calls: int, settle: bool) -> Answer:
        """Seconds a call over so many calls; `settle` makes one more first, which fills the caches again."""
        call = self._jobs[form].call
        if settle:
            call()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        seconds = (time.perf_counter() - start) / calls
        rest()
        return {"seconds": seconds}

    def release(self) -> Answer:
        """Drop the jobs; {"resident": bytes that the process still holds}."""
        self._jobs = {}
        if "torch._dynamo" in sys.modules:
            sys.modules["torch._dynamo"].reset()
        gc.collect()
        pages = (
            int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
        )
        return {"resident": pages * os.sysconf("SC_PAGE_SIZE")}

    def _make(self, suite: str, key: str, seed: int) -> Row:
        row: Row = next(row for row in importlib.import_module(f"{suite}.rows").ROWS if row.key == key)
        try:
            forms = importlib.import_module(f"{suite}.{self._forms}")
        except ModuleNotFoundError as error:
            if error.name != f"{suite}.{self._forms}":
                raise
            raise CannotRun(f"the {suite} suite has no form for it") from None
        make = getattr(forms, self._function, None)
        if make is None:
            raise CannotRun(f"the {suite} suite has no form for it")
        self._jobs = dict(make(row, row.inputs(np.random.default_rng(seed))))
        return row


def rest(patience: float = 0.3, nap: float = 0.005) -> None:
    """Return when this process's threads sleep: thread pools spin for a while, and the next peer wants the cores."""
    deadline = time.perf_counter() + patience
    while time.perf_counter() < deadline:
        before = time.process_time()
        time.sleep(nap)
        if time.process_time() - before < nap / 10:
            return


def main() -> None:
    """Answer requests until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("forms")
    parser.add_argument("function")
    parser.add_argument("packages", nargs="*")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    if given.threads and hasattr(os, "sched_setaffinity"):
        # Libraries that count the cores and ask nobody get as many threads as the others.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(given.forms, given.function, given.packages)
    for line in sys.stdin:
        request = json.loads(line)
        began = time.process_time()
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except CannotRun as reason:
            answer = {"reason": str(reason)}
        except Exception as error:
            # Whatever a library raises is its answer to this row; the next row is asked all the same.
            traceback.print_exc()
            answer = {"reason": f"{type(error).__name__}: {str(error).strip()[:300]}"}
        print(json.dumps({**answer, "cpu": [began, time.process_time()]}), file=answers, flush=True)


if __name__ == "__main__":
    main()
