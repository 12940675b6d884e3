"""Compiler processes that run side by side and end together, so that an interrupt does not wait for them.

An interrupt reaches Python's main thread only, and a compiler's driver does not always take its children along: each
process leads a group of its own, which is ended as a whole.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


class Compilers:
    """Runs commands from any thread, until an exception leaves `all_or_none`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._failure: BaseException | None = None

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """What runs is ended, and nothing more started, when an exception passes: Ctrl-C, or one unit that failed.

        The failures of those that were ended say nothing: the first one is raised in their place.
        """
        try:
            yield
        except BaseException as error:
            with self._lock:
                first = self._failure = self._failure or error
                for process in self._running:
                    _end(process)
            if first is not error and isinstance(error, Exception):
                raise first from None
            raise

    def run(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float
    ) -> tuple[int, str]:
        """The exit code of a command and its errors; subprocess.TimeoutExpired when it takes too long."""
        with self._lock:
            if self._failure is not None:
                return -signal.SIGTERM, ""
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                process_group=0,
            )
            self._running.add(process)
        try:
            _, errors = process.communicate(timeout=timeout)
        except BaseException:
            _end(process)
            process.wait()
            raise
        finally:
            with self._lock:
                self._running.discard(process)
        return process.returncode, errors


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
