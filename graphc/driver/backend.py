"""Backends: what turns a Program into something that runs. The protocol; each target has a file of its own.

A backend makes frames. A frame is one call in flight: its own arena and a table of buffer addresses, so two threads
may run one executable at once. Frames are kept and reused, so a steady call allocates nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from graphc.diagnostics import Diagnostic, GraphcError
from graphc.driver.interface import Bindings
from graphc.ir.program import Plan, Program
from graphc.types import TensorType


class Frame(Protocol):
    """One call in flight for given sizes of the symbolic dimensions."""

    constants: Mapping[str, torch.Tensor] | None
    """Those that are bound, if they last; None at first."""

    def bind(self, buffer: int, tensor: torch.Tensor) -> None:
        """Let a buffer be this tensor's memory: dense, of the buffer's type, on the backend's device."""

    def bind_states(self, buffers: Sequence[int], tensors: Sequence[torch.Tensor]) -> None:
        """As `bind`, for what most often is where it was at the call before."""

    def output(self, buffer: int) -> torch.Tensor:
        """Fresh memory for an output, the caller's from then on; contents undefined."""

    def run(self) -> None:
        """Execute all steps; every input, state and output buffer must be bound."""


class Backend(Protocol):
    """A compiled program on a device."""

    @property
    def name(self) -> str: ...
    @property
    def bindings(self) -> Bindings:
        """What a call knows of the program."""

    @property
    def program(self) -> Program:
        """All of the program, made again where it was found in the cache."""

    @property
    def device(self) -> torch.device: ...
    @property
    def sources(self) -> Mapping[str, str]: ...
    @property
    def source_paths(self) -> tuple[str, ...]:
        """The files of the generated sources."""

    @property
    def prologue(self) -> Backend | None:
        """What computes the program's constant buffers, where it has any."""

    def frame(self, sizes: Mapping[str, int]) -> Frame: ...

    def output(self, type: TensorType, sizes: Mapping[str, int]) -> torch.Tensor:
        """Fresh memory for an output, the caller's from then on; contents undefined."""

    def state(self, type: TensorType) -> torch.Tensor:
        """Zeros that live as long as the executable, for a parameter or a state of static shape."""

    def together(self, types: Sequence[TensorType]) -> list[torch.Tensor]:
        """Memory for tensors of static shapes that live and go together; contents undefined."""

    def plan(self, sizes: Mapping[str, int]) -> Plan: ...


def element_count(shape: tuple[int, ...]) -> int:
    """Elements of a tensor of that shape."""
    count = 1
    for extent in shape:
        count *= extent
    return count


def out_of_memory(program: Program, plan: Plan, error: MemoryError | RuntimeError) -> GraphcError:
    """G606: how large the arena is, and what is largest in it."""
    largest = max(plan.placements, key=lambda placement: placement.size, default=None)
    what = (
        f"; the largest is {program.buffers[largest.buffer].name} with {largest.size:,} bytes"
        if largest
        else ""
    )
    return GraphcError(
        Diagnostic(
            "G606",
            f"no memory for the arena of {program.name}: {plan.size:,} bytes for "
            f"{len(plan.placements)} intermediate tensors{what} ({error})",
            help="use smaller inputs; graphc dump --stage plan lists every tensor",
        )
    )


def no_memory(
    what: str, type: TensorType, sizes: Mapping[str, int], error: MemoryError | RuntimeError
) -> GraphcError:
    """G606: what did not fit, and how much it is."""
    nbytes = element_count(type.concrete_shape(sizes)) * type.dtype.itemsize
    return GraphcError(
        Diagnostic(
            "G606",
            f"no memory for {what}: {type} takes {nbytes:,} bytes ({error})",
            help="use smaller inputs, or drop what is no longer needed",
        )
    )
