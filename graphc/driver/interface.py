"""What calls know of a compiled program: so little that a program found in the cache starts with it alone.

Interface: the graph as its callers meet it. Bindings: the buffers that arrays meet.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.ir.graph import Graph, Input
from graphc.ir.program import Program, Role
from graphc.types import TensorType


@dataclass(frozen=True, slots=True)
class Interface:
    """The names of a graph.

    `declared`: the inputs that the user's graph has; `inputs` those of the optimized one, of which `used` are read and
    `updated` are written. `outputs` are the names for callers.
    """

    name: str
    declared: frozenset[str]
    inputs: tuple[Input, ...]
    used: frozenset[str]
    updated: tuple[str, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, graph: Graph, optimized: Graph) -> Interface:
        used = {value.name for node in optimized.nodes for value in node.inputs} | optimized.results
        return cls(
            graph.name,
            frozenset(graph.input_by_name),
            optimized.inputs,
            frozenset(used),
            tuple(update.target for update in optimized.updates),
            graph.output_names,
        )


@dataclass(frozen=True, slots=True)
class Result:
    """An output: its name, its buffer, and whether it is `copied` out of an input, a state or a constant."""

    name: str
    buffer: int
    type: TensorType
    copied: bool


@dataclass(frozen=True, slots=True)
class Bindings:
    """A program's `inputs` (name, buffer) and `outputs`, its `symbols` in order, how many buffers and steps it has.

    `touched`: the buffers of inputs that a run reads or writes; others only say how outputs and constants are made.
    """

    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[Result, ...]
    symbols: tuple[str, ...]
    buffers: int
    steps: int
    touched: frozenset[int]

    @classmethod
    def of(cls, program: Program) -> Bindings:
        buffers = program.buffers
        outputs = tuple(
            Result(name, index, buffers[index].type, buffers[index].role is not Role.OUTPUT)
            for name, index in program.outputs
        )
        launched = {index for step in program.steps for index in step.arguments}
        touched = launched.intersection(index for _, index in program.inputs)
        return cls(
            program.inputs, outputs, program.symbols, len(buffers), len(program.steps), frozenset(touched)
        )
