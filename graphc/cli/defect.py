"""What is kept when graphc itself fails: a folder from which the failure can be repeated."""

import json
import os
import platform
import shlex
import shutil
import tempfile
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("graphc", "torch", "triton", "numpy", "sympy", "networkx")


def write_bundle(error: Exception, arguments: Sequence[str]) -> str:
    """Write the traceback, the command and its model files to a new folder; return what to tell the user.

    Where nothing can be written (a full disk, say), what the user is told holds the traceback.
    """
    trace = "".join(traceback.format_exception(error))
    try:
        folder = Path(tempfile.mkdtemp(prefix="graphc-defect-"))
        (folder / "traceback.txt").write_text(trace, encoding="utf-8")
        (folder / "command.json").write_text(
            json.dumps(_circumstances(arguments), indent=2), encoding="utf-8"
        )
        for path in _files_named_in(arguments):
            shutil.copy(path, folder)
    except OSError as failure:
        return f"{trace}(no folder with the details could be written: {failure})"
    return f"Everything needed to repeat it is in {folder}; please report it with that folder."


def _circumstances(arguments: Sequence[str]) -> dict[str, object]:
    return {
        "schema": 1,
        "command": shlex.join(["graphc", *arguments]),
        "folder": os.getcwd(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in LIBRARIES},
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(("GRAPHC_", "OMP_", "TRITON_")) or name in ("CXX", "CUDA_VISIBLE_DEVICES")
        },
    }


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _files_named_in(arguments: Sequence[str]) -> list[Path]:
    """Return the model files among the arguments, such as `mlp.py` of `mlp.py:net`."""
    paths = (Path(argument.rpartition(":")[0] or argument) for argument in arguments)
    return [
        path for path in dict.fromkeys(paths) if path.suffix in (".py", ".json", ".txt") and path.is_file()
    ]
