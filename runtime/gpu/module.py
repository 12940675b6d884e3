"""Generated Triton source as a Python module, in a file of the cache that its content names.

Triton reads the source of its functions from their file, so a module cannot live in memory alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from graphc.diagnostics import Diagnostic, ToolchainError
from graphc.files import write_text
from graphc.runtime.folders import cache_folder


def write_module(name: str, source: str) -> Path:
    """The file of the cache that holds this source, written if it is not there.

    Raises ToolchainError G503 where the cache cannot be written.
    """
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    path = cache_folder() / "triton" / f"{_file_name(name)}_{digest}.py"
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, source)
    except OSError as error:
        raise ToolchainError(
            Diagnostic(
                "G503",
                f"{path} cannot be written: {error.strerror}",
                help="name another folder in GRAPHC_CACHE_DIR",
            )
        ) from error
    return path


def import_module(path: Path) -> ModuleType:
    """Import a generated file; Triton's settings are made before Triton is imported.

    Raises ToolchainError G505 where there is no Triton.
    """
    # Triton 3.10 turns contraction of a * b + c off where nothing is said.
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    name = f"graphc_triton.{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    try:
        importlib.import_module("triton")
    except ImportError as error:
        raise ToolchainError(
            Diagnostic(
                "G505", f"Triton cannot be imported: {error}", help="pip install triton (Linux), or use cpu"
            )
        ) from error
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name) or "program"
