"""Choices of code generation that a file pins, and the alternatives to what the cost models choose.

    # graphc choices 1
    9f2c41d07a3be65d algorithm=direct     # conv2_3 f32[16,64,56,56]: 3.41 ms, before 4.02 ms

A line names a kernel by its structure (`equal.py`), whatever it and its operators are called, and gives its choices;
`default` says that what the cost models choose was the fastest; what stands after # is for readers. The same file
gives the same sources, and so the same bits, on every machine that generates for the same CPU.

    algorithm   direct or winograd      of a convolution 3x3
    streams     0 or 1                  whether results go past the cache
    tile        elements                of the local tile that such stores are fed from
    block       elements                of the vector axis that columns and blocked maps take at once
    vector      0, 1, ...               the axis that becomes the vector, in the order of the cost model
    threads     0 or 1                  whether the work is shared out
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from graphc.codegen.cpp.convolutions import CONVOLUTIONS
from graphc.codegen.cpp.equal import structure
from graphc.codegen.cpp.nests import lower
from graphc.codegen.cpp.pixels import CHANNELS_LAST, pixel_form
from graphc.codegen.cpp.schedule import (
    PARALLEL_COST,
    Mode,
    Schedule,
    decide,
    other_blocks,
    shape_nests,
    streamable,
)
from graphc.codegen.cpp.target import CpuTarget
from graphc.codegen.cpp.winograd import ALGORITHM, DIRECT, WINOGRAD, winograd, winograd_gradient
from graphc.diagnostics import closest, fail
from graphc.ir.graph import Attributes
from graphc.ir.kernel import Kernel
from graphc.ir.program import Program

HEADER = "# graphc choices 1"
DEFAULT = "default"
KNOBS: Mapping[str, str] = {
    ALGORITHM: f"{DIRECT}|{WINOGRAD}", "streams": "[01]", "tile": "[1-9][0-9]*", "block": "[1-9][0-9]*",
    "vector": "[0-9]", "threads": "[01]",
}  # fmt: skip
_LANE_STEP = 16  # tiles and blocks are whole vectors on any CPU
_KEY = re.compile(r"[0-9a-f]{16}")
# Work, in vector additions, for which one thread may beat several, and the other way round.
_UNSURE = (PARALLEL_COST // 8, PARALLEL_COST * 8)

Chosen = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Choices:
    """Choices by kernel (`kernel_key`), and a remark for readers with each."""

    chosen: Mapping[str, Chosen]
    remarks: Mapping[str, str]

    @classmethod
    def parse(cls, text: str, source: str = "choices") -> Choices:
        """Read a file's text; error G507 names the line that is none, and what it should be."""
        chosen: dict[str, Chosen] = {}
        remarks: dict[str, str] = {}
        lines = text.splitlines()
        if lines and lines[0].strip() != HEADER:
            raise fail("G507", f"{source} does not begin with {HEADER!r}", help="write it with graphc tune")
        for number, line in enumerate(lines, 1):
            content, _, remark = line.partition("#")
            words = content.split()
            if not words:
                continue
            if not _KEY.fullmatch(words[0]) or len(words) < 2:
                raise fail("G507", f"{source}:{number}: {line.strip()!r} names no kernel and its choices")
            if words[0] in chosen:
                raise fail("G507", f"{source}:{number}: kernel {words[0]} is named twice")
            pairs = words[1:] if words[1:] != [DEFAULT] else []
            chosen[words[0]] = dict(_choice(word, f"{source}:{number}") for word in pairs)
            remarks[words[0]] = remark.strip()
        return cls(chosen, remarks)

    def __str__(self) -> str:
        lines = [HEADER]
        for key, chosen in sorted(self.chosen.items()):
            words = " ".join(f"{knob}={value}" for knob, value in sorted(chosen.items())) or DEFAULT
            remark = self.remarks.get(key, "")
            lines.append(f"{key} {words}" + (f"    # {remark}" if remark else ""))
        return "\n".join(lines) + "\n"

    def of(self, kernel: Kernel) -> Chosen:
        """What is chosen for a kernel, {} where the cost models decide."""
        return self.chosen.get(kernel_key(kernel), {}) if self.chosen else {}

    def with_choice(self, kernel: Kernel, chosen: Chosen, remark: str) -> Choices:
        """These choices and one more, in place of an earlier one for that kernel."""
        key = kernel_key(kernel)
        return Choices({**self.chosen, key: chosen}, {**self.remarks, key: remark})


NO_CHOICES = Choices({}, {})


def _choice(word: str, place: str) -> tuple[str, str | int]:
    knob, _, value = word.partition("=")
    if knob not in KNOBS:
        raise fail("G507", f"{place}: there is no choice {knob!r}", help=closest(knob, list(KNOBS)))
    if not re.fullmatch(KNOBS[knob], value) or (knob in ("tile", "block") and int(value) % _LANE_STEP):
        raise fail(
            "G507", f"{place}: {knob} cannot be {value!r}", help="tiles and blocks are multiples of 16"
        )
    return knob, int(value) if value.isdigit() else value


def kernel_key(kernel: Kernel) -> str:
    """The name of a kernel's structure: the same for kernels that one function serves."""
    return hashlib.sha256(structure(kernel).encode()).hexdigest()[:16]


def pin(kernel: Kernel, chosen: Chosen) -> Kernel:
    """The kernel with choices that its schedule and its template follow."""
    if not chosen:
        return kernel
    anchor = kernel.anchor
    if ALGORITHM in chosen and anchor is not None:
        attributes = Attributes({**anchor.attributes, ALGORITHM: chosen[ALGORITHM]})
        kernel = replace(kernel, anchor=replace(anchor, attributes=attributes))
    loops = {knob: value for knob, value in chosen.items() if knob != ALGORITHM}
    return replace(kernel, attributes=Attributes({**kernel.attributes, **loops})) if loops else kernel


def apply_choices(program: Program, choices: Choices) -> Program:
    """The program with every kernel that the choices name pinned to them, its prologue's kernels too."""
    if not choices.chosen:
        return program
    kernels = tuple(pin(kernel, choices.of(kernel)) for kernel in program.kernels)
    prologue = program.prologue and apply_choices(program.prologue, choices)
    return replace(program, kernels=kernels, prologue=prologue)


def alternatives(kernel: Kernel, target: CpuTarget) -> Iterator[Chosen]:
    """Single choices that differ from what the cost models choose and could be faster."""
    if kernel.anchor is not None:
        yield from _algorithms(kernel)
        return
    nests = [part for nest in kernel.nests for part in shape_nests(lower(nest, kernel), target)]
    schedules = [decide(nest, kernel, target) for nest in nests]
    if not schedules:
        return
    largest = max(range(len(nests)), key=lambda index: _work(schedules[index]))
    nest, schedule = nests[largest], schedules[largest]
    if len(nest.axes) > 1:
        yield {"vector": 1}
    if streamable(nest, kernel, schedule.vector):
        yield {"streams": int(not schedule.streams)}
    if schedule.streams and schedule.mode is Mode.ROWS:
        yield from ({"tile": size} for size in (128, 256, 512, 1024, 2048) if size != schedule.tile)
    yield from ({"block": size} for size in other_blocks(nest, schedule))
    total = sum(map(_work, schedules))
    if _UNSURE[0] <= total <= _UNSURE[1]:
        yield {"threads": int(total < PARALLEL_COST)}


def _algorithms(kernel: Kernel) -> Iterator[Chosen]:
    anchor = kernel.anchor
    assert anchor is not None
    last = anchor.primitive == CHANNELS_LAST
    if not (last or anchor.primitive in CONVOLUTIONS) or ALGORITHM in anchor.attributes:
        return
    first, second = (kernel.parameter(name).type.shape for name in anchor.operands)
    result, dtype = anchor.result.shape, anchor.accumulator

    def plan(attributes: Mapping[str, Any]) -> bool:
        if anchor.primitive == "convolution_weight_gradient":
            return winograd_gradient(first, second, result[2:], attributes, dtype) is not None
        if last:
            return pixel_form(first, result, second, attributes, dtype, constant=True).plan is not None
        return winograd(first, result, second[2:], attributes, dtype) is not None

    if plan({**anchor.attributes, ALGORITHM: WINOGRAD}):
        yield {ALGORITHM: DIRECT if plan(anchor.attributes) else WINOGRAD}


def _work(schedule: Schedule) -> int:
    return schedule.work if isinstance(schedule.work, int) else 0
