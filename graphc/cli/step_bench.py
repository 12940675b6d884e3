"""What `graphc bench --steps` times: the kernels inside the running program, with the caches as they are there."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING

from graphc.cli.arrays import Tensors
from graphc.cli.bench import KernelResult
from graphc.cli.kernel_bench import bytes_moved, contraction_flops, fits_cache

if TYPE_CHECKING:
    from graphc.cli.bench import AnyLimits
    from graphc.driver.executable import Executable


def measure_steps(
    executable: Executable, inputs: Tensors, sizes: Mapping[str, int], limits: AnyLimits, rounds: int
) -> list[KernelResult]:
    """A result for each kernel, slowest first: the median over the rounds of all its launches in one run.

    Error G506 where the target does not time its steps.
    """
    program = executable.program
    launches: dict[int, list[int]] = {}
    for position, step in enumerate(program.steps):
        launches.setdefault(step.kernel, []).append(position)
    samples: dict[int, list[float]] = {kernel: [] for kernel in launches}
    executable.profile(**inputs)
    for _ in range(rounds):
        limits.probe()
        executable.profile(**inputs)  # the probe has filled the caches
        seconds = executable.profile(**inputs)
        for kernel, positions in launches.items():
            samples[kernel].append(sum(seconds[position] for position in positions))
    results = [
        _result(executable, kernel, len(launches[kernel]), times, sizes, limits)
        for kernel, times in samples.items()
    ]
    return sorted(results, key=lambda result: -result.median_seconds)


def _result(
    executable: Executable,
    index: int,
    launches: int,
    seconds: list[float],
    sizes: Mapping[str, int],
    limits: AnyLimits,
) -> KernelResult:
    kernel = executable.program.kernels[index]
    # A clock that ticks slowly may see no time pass.
    median = max(statistics.median(seconds), 1e-9)
    quartiles = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else [0.0] * 3
    one = bytes_moved(kernel, sizes)
    nbytes, flops = launches * one, launches * contraction_flops(kernel, sizes)
    memory, arithmetic = nbytes / limits.bandwidth, flops / limits.flops
    return KernelResult(
        kernel=kernel.name,
        origins=tuple(str(origin) for origin in kernel.origins),
        nbytes=nbytes,
        flops=flops,
        median_seconds=median,
        iqr_seconds=quartiles[2] - quartiles[0],
        gb_per_second=nbytes / median / 1e9,
        gflop_per_second=flops / median / 1e9,
        bound="arithmetic" if arithmetic > memory else "memory",
        fraction=max(memory, arithmetic) / median,
        in_cache=fits_cache(one),
        launches=launches,
    )
