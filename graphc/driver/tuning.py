"""Tuning: measures alternatives to what the cost models chose for each kernel, within a budget of time.

    executable = compile(model, shapes=..., tune="30s", choices="model.choices")     # measures, and writes the file
    executable = compile(model, shapes=..., choices="model.choices")                 # the same code, bit for bit

Kernels are tried in the order of their share of the running program. One that was tried before (the file names it) is
not tried again, so that a second run with the same budget goes on where the first one stopped. A kernel is measured by
itself, in alternating rounds with its alternatives; what is not clearly faster changes nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from graphc.codegen import cpp as cpp_codegen
from graphc.codegen.cpp.choices import Choices, Chosen, alternatives, apply_choices, kernel_key, pin
from graphc.codegen.cpp.target import detect
from graphc.diagnostics import fail
from graphc.driver.cpu_backend import CpuBackend
from graphc.files import write_text
from graphc.ir.graph import Graph
from graphc.ir.kernel import Access, Kernel
from graphc.ir.program import Buffer, Program, Role, Step
from graphc.runtime.measure import Timing, alternate

GAIN = 0.97  # of the time: less than that counts as a difference of noise
_ROUNDS, _ROUND_SECONDS = 9, 0.01
_SECONDS = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(ms|s|m|min|h)?\s*")
_UNITS = {"ms": 1e-3, None: 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_PIECE = re.compile(
    r"(_[0-9]+)?_(partial|combine)[0-9]+$"
)  # what codegen/cpp/split.py adds to a kernel's name
_HELD = (Role.STATE, Role.CONSTANT)

Report = Callable[[Kernel, Chosen, str], None]


def budget_seconds(budget: str | float) -> float:
    """Seconds of "30s", "2min", "500ms" or a number; error G507 for anything else."""
    if isinstance(budget, str):
        match = _SECONDS.fullmatch(budget)
        if match is None:
            raise fail("G507", f"{budget!r} is no time to tune for", help='write "30s", "2min" or seconds')
        return float(match[1]) * _UNITS[match[2]]
    if not budget > 0:
        raise fail("G507", f"cannot tune for {budget} seconds", help="the budget must be positive")
    return float(budget)


def read_choices(path: str | Path, missing_ok: bool = False) -> Choices:
    """The choices in a file, none where it is missing and may be; error G507 for what cannot be read as choices."""
    try:
        return Choices.parse(Path(path).read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        if missing_ok:
            return cpp_codegen.NO_CHOICES
        raise fail("G507", f"there is no file of choices {path}", help='make one with tune="30s"') from None
    except (OSError, UnicodeDecodeError) as error:
        raise fail("G507", f"cannot read choices from {path}: {error}") from error


def write_choices(path: str | Path, text: str) -> None:
    """Write a file of choices whole or not at all; error G507 when it cannot be written."""
    try:
        write_text(path, text)
    except OSError as error:
        raise fail("G507", f"cannot write choices to {path}: {error}") from error


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel of the program with what it may count on: the parameters that are constant or kept between calls."""

    kernel: Kernel
    held: frozenset[str]


def tune(
    program: Program,
    sizes: Mapping[str, int],
    budget: float,
    choices: Choices = cpp_codegen.NO_CHOICES,
    report: Report | None = None,
) -> Choices:
    """The choices, and those found for kernels that they do not name, after at most about `budget` seconds.

    `sizes`: of the symbolic dimensions, those that are measured. `report` is called with each kernel, what was chosen
    for it and how it compares.
    """
    start = time.perf_counter()
    ordered = _by_time(program, sizes, choices)
    for launch in ordered:
        if time.perf_counter() - start > budget:
            break
        if kernel_key(launch.kernel) in choices.chosen:
            continue
        found = _best(launch, sizes, start + budget)
        if found is None:
            continue
        chosen, remark = found
        choices = choices.with_choice(launch.kernel, chosen, f"{_describe(launch.kernel)}: {remark}")
        if report is not None:
            report(launch.kernel, chosen, remark)
    return choices


def _describe(kernel: Kernel) -> str:
    return f"{kernel.name} {', '.join(str(parameter.type) for parameter in kernel.writes)}"


def _by_time(program: Program, sizes: Mapping[str, int], choices: Choices) -> list[Launch]:
    """The distinct kernels, those that take most of the program's time first."""
    running = _Running(_built(apply_choices(program, choices)), sizes)
    running.frame.profile()
    seconds = running.frame.profile()
    by_name: dict[str, float] = {}
    for step, taken in zip(running.program.steps, seconds, strict=True):
        name = _PIECE.sub("", running.program.kernels[step.kernel].name)
        by_name[name] = by_name.get(name, 0.0) + taken
    launches: dict[str, Launch] = {}
    for step in program.steps:
        kernel = program.kernels[step.kernel]
        roles = [program.buffers[index].role for index in step.arguments]
        held = {
            p.name
            for p, role in zip(kernel.parameters, roles, strict=True)
            if role in _HELD and p.access is Access.IN
        }
        launches.setdefault(kernel_key(kernel), Launch(kernel, frozenset(held)))

    return sorted(launches.values(), key=lambda launch: by_name.get(launch.kernel.name, 0.0), reverse=True)


def _best(launch: Launch, sizes: Mapping[str, int], deadline: float) -> tuple[Chosen, str] | None:
    """The fastest choices for a kernel, tried one after the other on top of each other; None when time is up."""
    target = detect()
    chosen: Chosen = {}
    first = best = None
    tried: set[str] = set()
    while time.perf_counter() < deadline:
        options = [
            {**chosen, **one}
            for one in alternatives(pin(launch.kernel, chosen), target)
            if not set(one) & set(chosen)
        ]
        options = [option for option in options if str(sorted(option.items())) not in tried]
        if not options:
            break
        tried |= {str(sorted(option.items())) for option in options}
        timings = _time([chosen, *options], launch, sizes)
        first = first or timings[0].median
        fastest = min(range(len(timings)), key=lambda index: timings[index].median)
        best = timings[fastest].median
        if not fastest or best > GAIN * timings[0].median:
            best = timings[0].median
            break
        chosen = options[fastest - 1]
    if first is None or best is None:
        return None
    return chosen, f"{best * 1e3:.3f} ms, before {first * 1e3:.3f} ms" if chosen else f"{first * 1e3:.3f} ms"


def _time(options: list[Chosen], launch: Launch, sizes: Mapping[str, int]) -> list[Timing]:
    """The time of a kernel alone under each of the choices."""
    with ThreadPoolExecutor(detect().cores) as pool:
        alone = [single_kernel(pin(launch.kernel, chosen), launch.held) for chosen in options]
        backends = list(pool.map(_built, alone))
    running = [_Running(backend, sizes) for backend in backends]
    calls = {str(number): one.frame.run for number, one in enumerate(running)}
    timings = alternate(calls, rounds=_ROUNDS, round_seconds=_ROUND_SECONDS, warm_up=1)
    return [timings[name] for name in calls]


def single_kernel(kernel: Kernel, held: frozenset[str] = frozenset()) -> Program:
    """A program that launches only this kernel; `held` parameters are constants, the caller owns the others."""
    roles = {Access.IN: Role.INPUT, Access.OUT: Role.OUTPUT, Access.INOUT: Role.STATE}
    buffers = tuple(
        Buffer(p.name, p.type, Role.CONSTANT if p.name in held else roles[p.access], (), kernel.origins)
        for p in kernel.parameters
    )
    named = tuple((p.name, index, p.access) for index, p in enumerate(kernel.parameters))
    return Program(
        name=kernel.name,
        graph=Graph(kernel.name, (), (), ()),
        buffers=buffers,
        kernels=(kernel,),
        steps=(Step(0, tuple(range(len(buffers)))),),
        inputs=tuple((name, index) for name, index, access in named if access is not Access.OUT),
        outputs=tuple((name, index) for name, index, access in named if access is Access.OUT),
        symbols=kernel.symbols,
    )


def _built(program: Program) -> CpuBackend:
    generated = cpp_codegen.generate(cpp_codegen.pack_constants(program))
    # Constants are filled with random numbers like everything else: their prologue need not be built.
    return CpuBackend.build(replace(generated, prologue=None))


class _Running:
    """A program that can be called: a frame, and random tensors for its buffers outside the arena."""

    def __init__(self, backend: CpuBackend, sizes: Mapping[str, int]) -> None:
        self.program = backend.program
        own = {name: sizes[name] for name in self.program.symbols}
        self.frame = backend.frame(own)
        self._tensors = []
        generator = torch.Generator().manual_seed(0)
        for index, buffer in enumerate(self.program.buffers):
            if buffer.role not in (Role.INTERMEDIATE, Role.WORKSPACE):
                tensor = backend.output(buffer.type, own)
                fill(tensor, generator)
                self.frame.bind(index, tensor)
                self._tensors.append(tensor)


def fill(tensor: torch.Tensor, generator: torch.Generator) -> None:
    """Random contents: floats from a standard normal, 0 or 1 elsewhere."""
    if tensor.is_floating_point():
        tensor.copy_(torch.randn(tensor.shape, generator=generator))
    else:
        tensor.copy_(torch.randint(0, 2, tensor.shape, generator=generator))
