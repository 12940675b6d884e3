"""Program: kernels in launch order over numbered buffers, and Plan: where each buffer lies. Plain data.

    program = buffers, steps (kernel + buffer of each of its parameters), bindings to the graph's inputs and outputs
    buffer  = role: input | state | constant | output | intermediate | workspace

A view (reshape of a dense buffer) is no buffer: values that share storage share one buffer, and a kernel sees each
buffer under the type that its own parameter declares.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphc.ir.graph import Graph, Origins
from graphc.types import Dim, TensorType

if TYPE_CHECKING:
    from graphc.ir.kernel import Kernel


class Role(enum.Enum):
    """Who owns a buffer.

    The caller (input, output), the executable (state: parameters, optimizer and random state, kept between calls;
    constant: what the prologue makes of them), or the arena (intermediate, workspace).
    """

    INPUT = "input"
    STATE = "state"
    CONSTANT = "constant"
    OUTPUT = "output"
    INTERMEDIATE = "intermediate"
    WORKSPACE = "workspace"


@dataclass(frozen=True, slots=True)
class Buffer:
    """Storage for one or more values of the graph; `values` names them (a state and its update share one)."""

    name: str
    type: TensorType
    role: Role
    values: tuple[str, ...] = ()
    origins: Origins = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel launch; `arguments[i]` is the index in Program.buffers for the kernel's parameter i.

    `offsets`: (buffer, elements), where in a buffer this launch's part of it begins; 0 for buffers that it leaves out.
    """

    kernel: int
    arguments: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...] = ()

    def offset(self, buffer: int) -> int:
        """The elements before this launch's part of a buffer."""
        return dict(self.offsets).get(buffer, 0)


@dataclass(frozen=True, slots=True)
class Decision:
    """Why fusion joined two operators or did not; the one source for logs, reports and `graphc explain`."""

    producer: str
    consumer: str
    accepted: bool
    reason: str
    bytes_saved: Dim = 0


@dataclass(frozen=True, slots=True)
class Recomputation:
    """Launches and nodes of a program that run again, for less memory, and floating-point operations.

    `plain` bytes of the arena and `operations` are those without recomputation; `more` operations are added.
    """

    plain: int
    launches: int
    nodes: int
    more: int
    operations: int


@dataclass(frozen=True, slots=True)
class Program:
    """What a graph became: run `steps` in order.

    `inputs`/`outputs` map a caller's name to a buffer index (an output may be an input's or a state's buffer, then it
    is copied out by the runtime). `symbols` is the order of the sizes that the generated entry point takes.
    `prologue` computes this program's constant buffers, its outputs of the same names, when parameters change.
    """

    name: str
    graph: Graph
    buffers: tuple[Buffer, ...]
    kernels: tuple[Kernel, ...]
    steps: tuple[Step, ...]
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]
    symbols: tuple[str, ...]
    decisions: tuple[Decision, ...] = ()
    recomputed: Recomputation | None = None
    prologue: Program | None = None


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Steps (inclusive) between which a buffer holds a value that is still read."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Placement:
    """An intermediate's place in the arena, in bytes."""

    buffer: int
    offset: int
    size: int
    lifetime: Lifetime


@dataclass(frozen=True, slots=True)
class Plan:
    """One arena for given sizes of the symbolic dimensions.

    `naive` is the sum of all intermediates, `lower_bound` the largest sum of live ones at one step, `size` the arena.
    """

    sizes: tuple[tuple[str, int], ...]
    alignment: int
    placements: tuple[Placement, ...]
    size: int
    naive: int
    lower_bound: int

    def offsets(self) -> Mapping[int, int]:
        return {placement.buffer: placement.offset for placement in self.placements}

    def to_json(self) -> dict[str, Any]:
        return {
            "sizes": dict(self.sizes),
            "alignment": self.alignment,
            "size": self.size,
            "naive": self.naive,
            "lower_bound": self.lower_bound,
            "placements": [
                {"buffer": p.buffer, "offset": p.offset, "size": p.size, "first": p.lifetime.first}
                | {"last": p.lifetime.last}
                for p in self.placements
            ],
        }
