"""The other end of a peer's process: requests with time limits, restarts, and what it burns while it should sleep."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from harness.peers import Peer, environment

WORKER = Path(__file__).with_name("worker.py")
Answer = dict[str, Any]


class PeerFailedError(Exception):
    """The process ended, hung, or answered with the reason why not."""


class Client:
    """One peer in one setting. Starts its process with the first request, and again after it died."""

    def __init__(self, peer: Peer, setting: str, threads: int, logs: Path) -> None:
        self.peer, self.setting = peer, setting
        self._threads = threads
        self._log = logs / f"{peer.name} {setting}.log".replace(" ", "-")
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self.versions: dict[str, str] = {}
        self._idle_since: tuple[float, float] | None = None
        self._idle = [0.0, 0.0]

    @property
    def name(self) -> tuple[str, str]:
        return self.peer.name, self.setting

    def start(self) -> None:
        """Start the process and import the peer; PeerFailedError says why it is missing."""
        if self._process is not None:
            return
        if not self.peer.python.exists():
            raise PeerFailedError("not installed: make bench-cpu makes .venv-peers")
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = [str(self.peer.python), str(WORKER), f"--threads={self._threads}"]
        command += [self.peer.forms, self.peer.function, *self.peer.packages]
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C is for the harness, which ends its workers itself.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                env=environment(self.setting, self._threads), start_new_session=True,
            )  # fmt: skip
        self._buffer = b""
        self._idle_since = None
        try:
            self.versions = self._exchange({"do": "hello"}, 180)["versions"]
        except PeerFailedError:
            self.stop()
            raise

    def ask(self, do: str, limit: float = 600, **more: Any) -> Answer:
        """Send a request and wait for its answer; PeerFailedError with the reason where there is none."""
        self.start()
        return self._exchange({"do": do, **more}, limit)

    def _exchange(self, request: Answer, limit: float) -> Answer:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._dead(self._process) from None
        answer: Answer = json.loads(self._line(limit))
        began, ended = answer.pop("cpu")
        now = time.perf_counter()
        if request["do"] == "time" and self._idle_since is not None:
            self._idle[0] += began - self._idle_since[1]
            self._idle[1] += now - self._idle_since[0] - answer.get("seconds", 0.0) * request["calls"]
        self._idle_since = now, ended
        if "reason" in answer:
            raise PeerFailedError(answer["reason"])
        return answer

    def _line(self, limit: float) -> bytes:
        process = self._process
        assert process is not None and process.stdout is not None
        deadline = time.monotonic() + limit
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.stop()
                    raise PeerFailedError(f"no answer in {limit:.0f} s")
                part = os.read(process.stdout.fileno(), 1 << 16)
                if not part:
                    raise self._dead(process)
                self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _dead(self, process: subprocess.Popen[bytes]) -> PeerFailedError:
        code = process.wait(10)
        self._process = None
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return PeerFailedError(f"its process ended with {how}: {self._log}")

    def idle_load(self) -> float:
        """Cores that the process kept busy while others were measured, since the last call of this."""
        burnt, wall = self._idle
        self._idle = [0.0, 0.0]
        return burnt / wall if wall else 0.0

    def stop(self) -> None:
        """End the process, at once."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._process = None
