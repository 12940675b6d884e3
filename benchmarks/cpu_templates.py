"""The hand-written C++ under generated code, beside torch: matrix products, convolutions, mathematics.

Each pair runs in alternating rounds, so that whatever else the machine does hits both alike; the multiply-add limit is
measured between them. `python benchmarks/cpu_templates.py [gemm|conv|math] ...`; OMP_NUM_THREADS is honoured.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
FLAGS = (
    "-std=c++17 -O3 -march=native -mprefer-vector-width=512 -fno-math-errno -fno-trapping-math "
    "-fno-signed-zeros -fopenmp -fPIC -shared"
)
ROUNDS = 9
ROUND_SECONDS = 0.02

# m, n, k, then whether each operand lies transposed: layers of an MLP, squares, one row, a recurrent step.
PRODUCTS = [
    (64, 64, 784, False, True),
    (64, 784, 64, True, False),
    (64, 10, 64, False, True),
    (256, 1024, 1024, False, True),
    (512, 512, 512, False, False),
    (1024, 1024, 1024, False, False),
    (2048, 2048, 2048, False, False),
    (1024, 1024, 1024, True, True),
    (20, 2600, 650, False, True),
    (1, 4096, 4096, False, True),
    (1, 4096, 4096, False, False),
]
# batch, in channels, side, out channels, kernel, stride, pad, groups: LeNet, digits, ResNet, depthwise.
CONVOLUTIONS = [
    (64, 1, 28, 20, 5, 1, 0, 1),
    (64, 20, 12, 50, 5, 1, 0, 1),
    (64, 8, 8, 16, 3, 1, 1, 1),
    (8, 64, 56, 64, 3, 1, 1, 1),
    (8, 128, 28, 128, 3, 1, 1, 1),
    (8, 256, 14, 256, 3, 1, 1, 1),
    (8, 512, 7, 512, 3, 1, 1, 1),
    (8, 64, 56, 128, 3, 2, 1, 1),
    (8, 64, 56, 256, 1, 1, 0, 1),
    (2, 3, 224, 64, 7, 2, 3, 1),
    (8, 64, 56, 64, 3, 1, 1, 64),
]
FUNCTIONS = ["exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "sin", "cos"]


def build(driver: str, folder: Path) -> ctypes.CDLL:
    """Compile one driver of tests/templates/drivers with the flags of generated code."""
    library = folder / f"{driver}.so"
    source = ROOT / "tests" / "templates" / "drivers" / f"{driver}.cpp"
    compiler = os.environ.get("CXX", "g++")
    command = [compiler, *FLAGS.split(), f"-I{ROOT / 'templates' / 'cpp'}", str(source), "-o", str(library)]
    subprocess.run([*command, "-lmvec", "-lm"], check=True)
    return ctypes.CDLL(str(library))


def native(function: Any, *arguments: Any) -> Callable[[], object]:
    """Bind arrays as pointers and integers as int64, so that a call converts nothing."""
    bound = [
        ctypes.c_void_p(argument.ctypes.data)
        if isinstance(argument, np.ndarray)
        else ctypes.c_int64(argument)
        for argument in arguments
    ]
    return lambda: function(*bound)


def alternate(*functions: Callable[[], object]) -> list[float]:
    """Return each function's median seconds a call over rounds in which they take turns."""
    repeats = []
    for function in functions:
        function()
        start = time.perf_counter()
        function()
        repeats.append(max(1, int(ROUND_SECONDS / max(1e-7, time.perf_counter() - start))))
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        for function, count, taken in zip(functions, repeats, seconds, strict=True):
            start = time.perf_counter()
            for _ in range(count):
                function()
            taken.append((time.perf_counter() - start) / count)
    return [statistics.median(taken) for taken in seconds]


class Limit:
    """The multiply-add limit of the machine, measured again beside every row."""

    def __init__(self, library: ctypes.CDLL) -> None:
        library.multiply_adds_f32.restype = ctypes.c_double
        self.count = 0.0
        self.library = library

    def run(self) -> None:
        """Do as many multiply-adds as registers allow for a fraction of a millisecond."""
        self.count = self.library.multiply_adds_f32(ctypes.c_int64(20_000))


def report(
    name: str, flops: float, limit: Limit, ours: Callable[[], object], theirs: Callable[[], object]
) -> None:
    """Print one row: microseconds and GFLOP/s of both, their ratio, and our part of the limit."""
    first, second, third = alternate(ours, theirs, limit.run)
    roof = 2 * limit.count / third
    print(
        f"{name:38s} ours {first * 1e6:9.1f} us {flops / first * 1e-9:7.1f} GF"
        f"   torch {second * 1e6:9.1f} us {flops / second * 1e-9:7.1f} GF"
        f"   {second / first:6.2f} x   {flops / first / roof:5.2f} of {roof * 1e-9:.0f} GF",
        flush=True,
    )


def products(library: ctypes.CDLL, limit: Limit) -> None:
    """Matrix products beside torch.mm into a given output."""
    for m, n, k, turned_a, turned_b in PRODUCTS:
        a = np.random.randn(*((k, m) if turned_a else (m, k))).astype(np.float32)
        b = np.random.randn(*((n, k) if turned_b else (k, n))).astype(np.float32)
        c, out = np.empty((m, n), np.float32), torch.empty(m, n)
        left, right = torch.from_numpy(a), torch.from_numpy(b)
        left, right = left.T if turned_a else left, right.T if turned_b else right
        ours = native(library.gemm_f32, m, n, k, a, *left.stride(), b, *right.stride(), c)
        name = f"gemm {m}x{n}x{k} {'NT'[turned_a]}{'NT'[turned_b]}"
        report(name, 2.0 * m * n * k, limit, ours, partial(torch.mm, left, right, out=out))


def convolutions(library: ctypes.CDLL, limit: Limit) -> None:
    """Forward and both gradients beside torch's (oneDNN), which allocates its output."""
    for batch, inputs, side, outputs, kernel, stride, pad, groups in CONVOLUTIONS:
        out = (side + 2 * pad - kernel) // stride + 1
        window = (kernel, kernel, stride, stride, pad, pad, 1, 1, *(1, 1, 1, 1, 0, 1))
        shape = np.array([batch, groups, inputs, outputs, side, side, out, out, *window], np.int64)
        x = np.random.randn(batch, inputs, side, side).astype(np.float32)
        w = np.random.randn(outputs, inputs // groups, kernel, kernel).astype(np.float32)
        dy = np.random.randn(batch, outputs, out, out).astype(np.float32)
        y, dx, dw = np.empty_like(dy), np.empty_like(x), np.empty_like(w)
        image, weight, gradient = (torch.from_numpy(array) for array in (x, w, dy))
        flops = 2.0 * dy.size * w[0].size
        name = f"{batch}x{inputs}x{side} -> {outputs} k{kernel} s{stride} g{groups}"

        steps = ([stride, stride], [pad, pad], [1, 1], False, [0, 0], groups)
        backward = partial(torch.ops.aten.convolution_backward, gradient, image, weight, None, *steps)
        report(
            f"conv {name}",
            flops,
            limit,
            native(library.forward_f32, shape, x, w, y),
            partial(torch.conv2d, image, weight, None, stride, pad, 1, groups),
        )
        ours = native(library.data_gradient_f32, shape, dy, w, dx)
        report("  to the data", flops, limit, ours, partial(backward, [True, False, False]))
        ours = native(library.weight_gradient_f32, shape, x, dy, dw)
        report("  to the weight", flops, limit, ours, partial(backward, [False, True, False]))


def mathematics(library: ctypes.CDLL) -> None:
    """Elementwise functions on 16 k numbers in cache, on one thread, beside torch into a given output."""
    torch.set_num_threads(1)
    x = np.random.rand(1 << 14).astype(np.float32) * 4 + 0.01
    y, out, given = np.empty_like(x), torch.empty(x.size), torch.from_numpy(x)
    for name in FUNCTIONS:
        theirs = getattr(torch, name)
        ours = native(getattr(library, f"{name}_f32"), x, y, x.size)
        first, second = alternate(ours, partial(theirs, given, out=out))
        print(
            f"{name:10s} ours {x.size / first * 1e-9:6.2f} G/s   torch {x.size / second * 1e-9:6.2f} G/s",
            flush=True,
        )


def main(parts: list[str]) -> None:
    """Build the drivers and print the parts asked for, all by default."""
    chosen = parts or ["gemm", "conv", "math"]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        limit = Limit(build("peak", folder))
        if "gemm" in chosen:
            products(build("gemm", folder), limit)
        if "conv" in chosen:
            convolutions(build("conv", folder), limit)
        if "math" in chosen:
            mathematics(build("vector_math", folder))


if __name__ == "__main__":
    main(sys.argv[1:])
