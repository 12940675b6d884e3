"""Plan the arena: an offset, a size and a lifetime for every intermediate buffer of a program.

Offsets come from a strategy of `passes/offsets.py`. A kernel's result that took over an operand's memory shares its
buffer since fusion, so one lifetime covers both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphc.diagnostics import closest, fail
from graphc.ir.program import Buffer, Lifetime, Placement, Plan, Program, Role
from graphc.passes.offsets import STRATEGIES, Block, live_bytes
from graphc.types import evaluate

ALIGNMENT = 64
ARENA_ROLES = (Role.INTERMEDIATE, Role.WORKSPACE)


def plan(program: Program, sizes: Mapping[str, int] | None = None, strategy: str = "optimal") -> Plan:
    """The arena for given sizes of the symbolic dimensions; error G602 when one is missing or not positive.

    strategy: none, inplace, coshare, both or optimal (G101 for another), as in `passes/offsets.py`. Taking over an
    operand's memory is fusion's part: it is in the program already, or not.
    """
    check_strategy(strategy)
    values = _checked(program, sizes or {})
    lifetimes = buffer_lifetimes(program)
    blocks = []
    for index, lifetime in sorted(lifetimes.items()):
        nbytes = buffer_nbytes(program.buffers[index], values)
        blocks.append(Block(index, _aligned(nbytes), nbytes, lifetime.first, lifetime.last))
    offsets = STRATEGIES[strategy](blocks)
    size = max((offsets[block.buffer] + block.size for block in blocks), default=0)
    placements = tuple(
        Placement(block.buffer, offsets[block.buffer], block.nbytes, lifetimes[block.buffer])
        for block in blocks
    )
    return Plan(
        tuple((name, values[name]) for name in program.symbols),
        ALIGNMENT,
        placements,
        size,
        sum(block.size for block in blocks),
        max(live_bytes(blocks, len(program.steps)), default=0),
    )


def arena_size(lives: Sequence[tuple[int, int, int]], strategy: str = "optimal") -> int:
    """Bytes of an arena for buffers that are given as bytes, first step and last step."""
    blocks = [Block(k, _aligned(size), size, first, last) for k, (size, first, last) in enumerate(lives)]
    offsets = STRATEGIES[strategy](blocks)
    return max((offsets[block.buffer] + block.size for block in blocks), default=0)


def check_strategy(strategy: str) -> None:
    """Raise G101 for a strategy that there is not."""
    if strategy not in STRATEGIES:
        hint = closest(strategy, list(STRATEGIES))
        raise fail(
            "G101", f"there is no memory strategy {strategy!r}", help=hint or f"use {', '.join(STRATEGIES)}"
        )


def _checked(program: Program, sizes: Mapping[str, int]) -> dict[str, int]:
    for name in program.symbols:
        if name not in sizes:
            raise fail(
                "G602", f"the plan of {program.name} needs the size of dimension {name}", name=program.name
            )
    return {name: int(sizes[name]) for name in program.symbols}


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def buffer_nbytes(buffer: Buffer, sizes: Mapping[str, int]) -> int:
    """Bytes of a buffer under sizes of the symbolic dimensions."""
    count = buffer.type.dtype.itemsize
    for dim in buffer.type.shape:
        count *= evaluate(dim, sizes)
    return count


def buffer_lifetimes(program: Program) -> dict[int, Lifetime]:
    """First and last step of each arena buffer that a step touches."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    arena = [buffer.role in ARENA_ROLES for buffer in program.buffers]
    for number, step in enumerate(program.steps):
        for index in step.arguments:
            if arena[index]:
                first.setdefault(index, number)
                last[index] = number
    return {index: Lifetime(first[index], last[index]) for index in first}
