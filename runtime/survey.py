"""What this machine offers to graphc: C++ compilers, devices, library versions, the cache folder.

Everything is tried rather than guessed: a compiler counts when a small OpenMP program compiles and runs.
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PROBE = Path(__file__).with_name("probe.cpp")
LIBRARIES = ("graphc", "torch", "triton", "numpy", "networkx", "sympy", "jinja2", "safetensors", "filelock")
# From the widest down: the macro a compiler defines under -march=native, and the vector's bits.
VECTOR_MACROS = (("__AVX512F__", 512), ("__AVX__", 256), ("__SSE2__", 128), ("__ARM_NEON", 128))
TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C++ compiler as it was found; `problem` says why it cannot be used, empty if it can."""

    command: str
    version: str = ""
    vector_bits: int = 0
    openmp_threads: int = 0
    libmvec: bool = False
    problem: str = ""

    @property
    def works(self) -> bool:
        return not self.problem


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that torch sees."""

    name: str
    capability: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Cache:
    """The folder of compiled programs: its size on disk, and whether it can be written."""

    folder: str
    entries: int
    size_bytes: int
    free_bytes: int
    writable: bool


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything that was found."""

    system: str
    processor: str
    cores: int
    python: str
    libraries: dict[str, str | None]
    compilers: tuple[Compiler, ...]
    gpus: tuple[Gpu, ...]
    driver: str | None
    cuda: str | None
    cache: Cache

    @property
    def compiler(self) -> Compiler | None:
        """The compiler that generated C++ goes to: the first that works."""
        return next((compiler for compiler in self.compilers if compiler.works), None)


def survey(cache: Path) -> Survey:
    """Look at this machine; takes a second or two, most of it the import of torch."""
    import torch

    return Survey(
        system=platform.platform(),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
        libraries={name: _library_version(name) for name in LIBRARIES},
        compilers=tuple(examine_compiler(command) for command in compiler_candidates()),
        gpus=tuple(_gpu(index) for index in range(torch.cuda.device_count())),
        driver=_driver_version(),
        cuda=torch.version.cuda,
        cache=examine_cache(cache),
    )


def compiler_candidates() -> tuple[str, ...]:
    """Return the commands to try in order: $CXX alone if it is set, else g++ and clang++."""
    chosen = os.environ.get("CXX", "").strip()
    return (chosen,) if chosen else ("g++", "clang++")


def examine_compiler(command: str) -> Compiler:
    """Ask a compiler for its version and vectors, and have it build and run the probe."""
    words = shlex.split(command)
    if shutil.which(words[0]) is None:
        return Compiler(command, problem="not found")
    try:
        banner = _output([*words, "--version"]).partition("\n")[0]
        macros = _output([*words, "-march=native", "-dM", "-E", "-x", "c++", os.devnull])
        vector_bits = next((bits for macro, bits in VECTOR_MACROS if f"#define {macro} " in macros), 0)
        threads, libmvec = _run_probe(words)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return Compiler(command, problem=_reason(error))
    return Compiler(command, banner, vector_bits, threads, libmvec)


def _run_probe(words: Sequence[str]) -> tuple[int, bool]:
    """Build the probe with libmvec where that links, else without; return its threads and which it was."""
    with tempfile.TemporaryDirectory(prefix="graphc-probe-") as folder:
        program = os.path.join(folder, "probe")
        build = [*words, "-O3", "-march=native", "-fno-math-errno", "-fopenmp", str(PROBE), "-o", program]
        try:
            _output([*build, "-lmvec", "-lm"])
            libmvec = True
        except subprocess.CalledProcessError:
            _output([*build, "-lm"])
            libmvec = False
        threads, verdict = _output([program]).split()
    if verdict != "right":
        raise ValueError("the probe program computed a wrong sum")
    return int(threads), libmvec


def examine_cache(folder: Path) -> Cache:
    """Count the entries and bytes of a cache folder, which need not exist yet."""
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return Cache(
        folder=str(folder),
        entries=sum(1 for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else 0,
        size_bytes=sum(path.stat().st_size for path in files),
        free_bytes=shutil.disk_usage(existing).free,
        writable=os.access(existing, os.W_OK),
    )


def _output(command: Sequence[str]) -> str:
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    return result.stdout


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line for line in str(error.stderr).splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line] or lines
        return errors[0] if errors else f"exit code {error.returncode}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {TIMEOUT_SECONDS} s"
    return str(error)


def _library_version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    model = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return model.group(1) if model else platform.machine()


def _gpu(index: int) -> Gpu:
    import torch

    properties = torch.cuda.get_device_properties(index)
    return Gpu(properties.name, f"sm_{properties.major}{properties.minor}", properties.total_memory)


def _driver_version() -> str | None:
    """The NVIDIA kernel driver's version, None where there is none."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"Kernel Module.*?(\d+\.\d+(?:\.\d+)?)", text)
    return found.group(1) if found else None
