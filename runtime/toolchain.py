"""The system's C++ compiler: found once, probed once, and asked to build shared libraries.

A compiler is known by its resolved path, size and date, so that a warm start runs no process; what it can do
(libmvec, which flags it takes) is remembered in the cache folder under that identity.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from graphc.diagnostics import Diagnostic, ToolchainError
from graphc.files import write_text
from graphc.runtime.compilers import Compilers
from graphc.runtime.folders import cache_folder
from graphc.runtime.survey import compiler_candidates

TIMEOUT_SECONDS = 600
# Some compilers lack these; code is right without them.
_OPTIONAL_FLAGS = ("-march=native", "-mprefer-vector-width=512", "-fno-trapping-math", "-fno-signed-zeros")


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A compiler that works here: its words, who it is, flags it does not take, libraries to link."""

    command: tuple[str, ...]
    identity: str
    rejected: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ("-lm",)

    def flags(self, wanted: Sequence[str]) -> tuple[str, ...]:
        return tuple(flag for flag in wanted if flag not in self.rejected)

    @property
    def key(self) -> str:
        """What of the toolchain and this CPU a built library depends on."""
        return "\n".join([*self.command, self.identity, *self.rejected, *self.libraries, cpu_fingerprint()])


@functools.cache
def cpu_fingerprint() -> str:
    """Names the instructions of this CPU: -march=native means another thing on another machine."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first = file.read(16384).split("\n\n")[0]
    except OSError:
        return " ".join(os.uname())
    keep = [
        line
        for line in first.splitlines()
        if re.match(r"(flags|Features|model|vendor_id|cpu family|CPU)", line)
    ]
    return hashlib.sha256("\n".join(keep).encode()).hexdigest()[:16]


def find_toolchain() -> Toolchain:
    """The first of $CXX, g++, clang++ that is there; ToolchainError G501 when none is."""
    candidates = compiler_candidates()
    for candidate in candidates:
        words = shlex.split(candidate)
        path = shutil.which(words[0]) if words else None
        if path is not None:
            found = _probed((path, *words[1:]), _identity(path))
            if found is not None:
                return found
    raise ToolchainError(
        Diagnostic(
            "G501",
            f"no working C++ compiler (tried {', '.join(candidates)})",
            help="install g++ or clang++, or name one in CXX; graphc doctor shows what is wrong",
        )
    )


def _identity(path: str) -> str:
    resolved = os.path.realpath(path)
    status = os.stat(resolved)
    return f"{resolved} {status.st_size} {status.st_mtime_ns}"


@functools.cache
def _probed(command: tuple[str, ...], identity: str) -> Toolchain | None:
    """What the compiler takes: remembered on disk, else tried; None when it builds nothing."""
    name = hashlib.sha256(repr((command, identity)).encode()).hexdigest()[:16]
    record = cache_folder() / f"toolchain-{name}.json"
    try:
        data = json.loads(record.read_text(encoding="utf-8"))
        return Toolchain(
            tuple(data["command"]), data["identity"], tuple(data["rejected"]), tuple(data["libraries"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        found = _try_out(command, identity)
    if found is not None:
        _remember(record, found)
    return found


def _try_out(command: tuple[str, ...], identity: str) -> Toolchain | None:
    with tempfile.TemporaryDirectory(prefix="graphc-toolchain-") as folder:
        source = Path(folder, "probe.cpp")
        source.write_text('extern "C" int probe() { return 0; }\n', encoding="utf-8")

        def builds(*flags: str) -> bool:
            words = [
                *command,
                "-Werror",
                "-shared",
                "-fPIC",
                str(source),
                "-o",
                str(Path(folder, "probe.so")),
                *flags,
            ]
            try:
                return subprocess.run(words, capture_output=True, timeout=60, check=False).returncode == 0
            except (OSError, subprocess.TimeoutExpired):
                return False

        if not builds("-std=c++17", "-O3", "-fopenmp", "-lm"):
            return None
        if builds(*_OPTIONAL_FLAGS):
            rejected: tuple[str, ...] = ()
        else:
            rejected = tuple(flag for flag in _OPTIONAL_FLAGS if not builds(flag))
        libraries = ("-lmvec", "-lm") if builds("-lmvec", "-lm") else ("-lm",)
        return Toolchain(command, identity, rejected, libraries)


def _remember(record: Path, found: Toolchain) -> None:
    """Write the findings beside the cache's entries; a cache that cannot be written costs a probe a process."""
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        write_text(record, json.dumps(asdict(found)))
    except OSError:
        pass


def build_library(
    toolchain: Toolchain,
    folder: Path,
    flags: Sequence[str],
    labels: Mapping[str, str],
    output: str,
    compilers: Compilers | None = None,
) -> None:
    """Compile all .cpp files in `folder`, side by side, and link them to folder/output.

    `labels` says for each unit what it holds; `compilers` are those that end with these. Raises ToolchainError G502
    with the compiler's first message.
    """
    compilers = compilers or Compilers()
    run = partial(_run, compilers, toolchain, folder, labels)
    units = sorted(path.name for path in folder.glob("*.cpp"))
    accepted = toolchain.flags(flags)
    if len(units) == 1:
        with compilers.all_or_none():
            run([*accepted, units[0], "-o", output, *toolchain.libraries])
        return
    compiling = [flag for flag in accepted if flag != "-shared"]

    def compile_unit(unit: str) -> str:
        target = f"{unit}.o"
        run([*compiling, "-c", unit, "-o", target])
        return target

    linking = [flag for flag in accepted if not flag.startswith("-std")]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool, compilers.all_or_none():
        objects = list(pool.map(compile_unit, units))
        run([*linking, *objects, "-o", output, *toolchain.libraries])
    for name in objects:
        (folder / name).unlink()


def _run(
    compilers: Compilers, toolchain: Toolchain, folder: Path, labels: Mapping[str, str], words: Sequence[str]
) -> None:
    command = [*toolchain.command, *words]
    # Messages are matched below, so they must not depend on the user's language.
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        code, said = compilers.run(command, folder, environment, TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        raise _failed(command, folder, labels, f"no answer within {TIMEOUT_SECONDS} s", "") from None
    if code != 0:
        if "No space left on device" in said:
            raise OSError(28, "No space left on device", str(folder))
        lines = [line for line in said.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line or "undefined" in line] or lines
        raise _failed(command, folder, labels, errors[0] if errors else f"exit code {code}", said)


def _failed(
    command: Sequence[str], folder: Path, labels: Mapping[str, str], message: str, output: str
) -> ToolchainError:
    place = re.search(r"(\w+\.cpp):(\d+)", message) or re.search(r"(\w+\.cpp):(\d+)", output)
    unit = place.group(1) if place else next((word for word in command if word.endswith(".cpp")), "")
    what = (_kernel_at(folder / unit, int(place.group(2))) if place else "") or labels.get(unit, "")
    return ToolchainError(
        Diagnostic(
            "G502",
            f"the C++ compiler failed{f' on {what}' if what else ''}: {message}",
            help=f"the sources stay in {folder}; run there: {shlex.join(command)}",
        )
    )


def _kernel_at(source: Path, line: int) -> str:
    """The function that a line of generated source lies in, with the comment that names its operators."""
    try:
        lines = source.read_text(encoding="utf-8").splitlines()[:line]
    except OSError:
        return ""
    for number in range(len(lines) - 1, -1, -1):
        found = re.match(r"(?:static )?void (\w+)\(", lines[number])
        if found:
            comment = number - 1
            while comment >= 0 and lines[comment].startswith("//"):
                comment -= 1
            operators = lines[comment + 1].removeprefix("//").strip() if comment + 1 < number else ""
            return f"kernel {found.group(1)}{f' ({operators})' if operators else ''}"
    return ""
