"""Triton's interpreter in a process of its own: generated kernels on CPU tensors, for checks without a GPU.

Triton decides between compiler and interpreter when it is imported, so a process that has it for compiling cannot
interpret. `Interpreter` starts one that can; programs and tensors go to it and come back pickled.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import torch

    from graphc.codegen.triton import TritonProgram


class InterpreterError(Exception):
    """A kernel failed in the interpreter; the message is the traceback of the other process."""


class Interpreter:
    """A process that interprets generated programs; use it as a context manager."""

    def __init__(self) -> None:
        environment = {
            **os.environ,
            "TRITON_INTERPRET": "1",
            "OMP_NUM_THREADS": "1",
            "TRITON_DEFAULT_FP_FUSION": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "graphc.runtime.gpu.interpreter"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    def run(
        self, program: TritonProgram, tensors: Sequence[torch.Tensor], sizes: Sequence[int] = ()
    ) -> list[torch.Tensor]:
        """The contents of all tensors after a run; those given stay as they are.

        Raises InterpreterError when a kernel fails.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        _send(self._process.stdin, (program, [_pack(tensor) for tensor in tensors], tuple(sizes)))
        ok, result = pickle.load(self._process.stdout)
        if not ok:
            raise InterpreterError(result)
        return [_unpack(*item) for item in result]

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def __enter__(self) -> Interpreter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _send(stream: BinaryIO | Any, message: object) -> None:
    pickle.dump(message, stream)
    stream.flush()


def _pack(tensor: torch.Tensor) -> tuple[bytes, str]:
    """Bytes and the dtype's name: numpy lacks bfloat16."""
    import torch

    data = tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return data, str(tensor.dtype).removeprefix("torch.")


def _unpack(data: bytes, dtype: str) -> torch.Tensor:
    import torch

    if not data:
        return torch.empty(0, dtype=getattr(torch, dtype))
    return torch.frombuffer(bytearray(data), dtype=getattr(torch, dtype))


def _serve() -> None:
    """Answer requests on standard input until it closes."""
    from graphc.runtime.gpu.program import load

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a kernel prints must not mix with the answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    while True:
        try:
            program, packed, sizes = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            tensors = [_unpack(*item) for item in packed]
            load(program).run(tensors, sizes)
            _send(answers, (True, [_pack(tensor) for tensor in tensors]))
        except Exception:
            _send(answers, (False, traceback.format_exc()))


if __name__ == "__main__":
    _serve()
