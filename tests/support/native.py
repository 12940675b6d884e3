"""Builds the C++ drivers of tests/templates/drivers and calls them with numpy arrays."""

import ctypes
import functools
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# Threads that wait asleep: on a busy machine a spinning one keeps the others from the core. Read when libgomp loads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

ROOT = Path(__file__).parents[2]
DRIVERS = ROOT / "tests" / "templates" / "drivers"
HEADERS = ROOT / "templates" / "cpp"
FLAGS = ["-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fopenmp"]
FLAGS += ["-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="graphc-drivers-")


def targets() -> tuple[str, ...]:
    """Return the -march values that this machine both compiles for and runs, the native one first."""
    if platform.machine() != "x86_64":
        return ("native",)
    flags = Path("/proc/cpuinfo").read_text().split()
    wider = ("x86-64-v3",) if {"avx2", "fma"} <= set(flags) else ()
    return ("native", *wider, "x86-64")


def compiler() -> str:
    """Return the C++ compiler under test."""
    return os.environ.get("CXX", "g++")


@functools.cache
def build(driver: str, target: str = "native", extra: tuple[str, ...] = ()) -> ctypes.CDLL:
    """Compile `driver`.cpp for `target` with the flags of generated code and load it.

    Raises:
        AssertionError: the compiler refuses the driver or warns.
    """
    library = Path(_folder().name) / f"{driver}-{target}-{abs(hash(extra))}.so"
    vectors = ("-mprefer-vector-width=512",) if platform.machine() == "x86_64" else ()
    command = [compiler(), *FLAGS, f"-march={target}", *vectors, *extra, f"-I{HEADERS}"]
    command += [str(DRIVERS / f"{driver}.cpp"), "-o", str(library), "-lmvec", "-lm"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return ctypes.CDLL(str(library))


def vectorized_loops(driver: str, target: str = "x86-64-v3") -> set[str]:
    """Return the "line:column" of each loop of `driver`.cpp that GCC turned into vector instructions."""
    command = [compiler(), *FLAGS, f"-march={target}", f"-I{HEADERS}", "-fopt-info-vec-optimized"]
    command += [str(DRIVERS / f"{driver}.cpp"), "-o", os.devnull]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = re.findall(rf"{driver}\.cpp:(\d+:\d+): optimized: loop vectorized", result.stderr)
    return set(found)


def call(function: Callable[..., Any], *arguments: Any) -> None:
    """Call a driver: arrays as pointers, integers as int64, floats as double."""
    converted: list[Any] = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            converted.append(ctypes.c_void_p(argument.ctypes.data))
        elif isinstance(argument, float):
            converted.append(ctypes.c_double(argument))
        else:
            converted.append(ctypes.c_int64(argument))
    function(*converted)
