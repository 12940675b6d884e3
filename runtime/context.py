"""Contexts: which device arrays and programs live on, as MXNet users name them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import TracebackType

import torch

from graphc.diagnostics import Diagnostic, ToolchainError, fail

_DEVICES = ("cpu", "gpu")


class _Stack(threading.local):
    def __init__(self) -> None:
        self.contexts: list[Context] = []


@dataclass(frozen=True, slots=True)
class Context:
    """A device: `cpu(0)` or `gpu(i)`; as a `with` block it becomes the current context."""

    device_type: str
    device_id: int = 0

    def __post_init__(self) -> None:
        if self.device_type not in _DEVICES:
            raise fail("G506", f"there is no device type {self.device_type!r}", help="use cpu() or gpu(i)")

    def __str__(self) -> str:
        return f"{self.device_type}({self.device_id})"

    __repr__ = __str__

    def __enter__(self) -> Context:
        _stack.contexts.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _stack.contexts.pop()

    @property
    def torch_device(self) -> torch.device:
        """The torch device; error G505 when this machine has no such GPU."""
        if self.device_type == "cpu":
            return torch.device("cpu")
        count = torch.cuda.device_count()
        if self.device_id >= count:
            found = f"torch finds {count} GPU{'' if count == 1 else 's'}"
            raise ToolchainError(
                Diagnostic("G505", f"there is no {self}: {found}", help="use cpu(), or see graphc doctor")
            )
        return torch.device("cuda", self.device_id)

    @classmethod
    def of(cls, value: Context | torch.device | str | None) -> Context:
        """A Context from itself, a torch device, "cpu", "gpu", "gpu:1"; None is the current context."""
        if value is None:
            return current_context()
        if isinstance(value, Context):
            return value
        kind, _, index = str(value).partition(":")
        return cls({"cuda": "gpu"}.get(kind, kind), int(index) if index.isdigit() else 0)


_stack = _Stack()


def cpu(device_id: int = 0) -> Context:
    """The host; every device_id is the same memory and the same threads."""
    return Context("cpu", device_id)


def gpu(device_id: int = 0) -> Context:
    """An NVIDIA GPU."""
    return Context("gpu", device_id)


def current_context() -> Context:
    """The innermost `with` context of this thread, cpu(0) outside of any."""
    return _stack.contexts[-1] if _stack.contexts else Context("cpu", 0)
