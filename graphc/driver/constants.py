"""The constant buffers of a program: what its prologue computes from parameters, kept until a parameter changes.

A change is noticed through torch's version counters (`Tensor._version`), which every in-place operation of torch and
every update by an Executable raises, whoever owns the tensor. A write behind torch's back, through `numpy()` or a raw
pointer, raises none: `Executable.refresh_constants` says that it happened. Inference-mode tensors carry no counter;
with one among the parameters the prologue runs before each call.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from graphc.driver.backend import Backend

_version = operator.attrgetter("_version")


class Constants:
    """Runs a prologue when needed; `reads` are the parameters that it reads."""

    def __init__(self, prologue: Backend) -> None:
        self._backend = prologue
        self._index = dict(prologue.bindings.inputs)
        self._outputs = prologue.bindings.outputs
        self.reads = frozenset(self._index)
        self._lock = threading.Lock()
        self._values: dict[str, torch.Tensor] = {}
        self._tracked: list[torch.Tensor] = []
        self._seen: list[int] | None = None

    def forget(self) -> None:
        """Let the next call run the prologue: a parameter is another tensor, or was written behind torch's back."""
        with self._lock:
            self._seen = None

    def current(self, states: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The constants for the present content of the parameters."""
        if self._seen is not None and list(map(_version, self._tracked)) == self._seen:
            return self._values
        with self._lock:
            tensors = [states[name] for name in self._index]
            counted = not any(tensor.is_inference() for tensor in tensors)
            seen = list(map(_version, tensors)) if counted else None
            if not self._values:
                self._values = self._allocate()
            self._compute(states, self._values)
            self._tracked, self._seen = tensors, seen
            return self._values

    def made_from(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Constants of their own for one call that brings parameters along."""
        values = self._allocate()
        self._compute(tensors, values)
        return values

    def _allocate(self) -> dict[str, torch.Tensor]:
        memory = self._backend.together([output.type for output in self._outputs])
        return {output.name: tensor for output, tensor in zip(self._outputs, memory, strict=True)}

    def _compute(self, tensors: Mapping[str, torch.Tensor], into: Mapping[str, torch.Tensor]) -> None:
        frame = self._backend.frame({})
        for name, index in self._index.items():
            frame.bind(index, tensors[name])
        for output in self._outputs:
            if not output.copied:
                frame.bind(output.buffer, into[output.name])
        frame.run()
        source = {index: name for name, index in self._index.items()}
        for output in self._outputs:
            if output.copied:
                result = into[output.name]
                result.copy_(tensors[source[output.buffer]].view(result.shape))


def mark_written(tensors: list[torch.Tensor]) -> None:
    """Raise the version counters of tensors that a program has written, for whoever holds constants made of them."""
    torch.autograd.graph.increment_version(tensors)
