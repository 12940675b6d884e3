"""Where graphc keeps files."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of compiled programs, which need not exist yet.

    $GRAPHC_CACHE_DIR, else graphc/ below $XDG_CACHE_HOME, else ~/.cache/graphc.
    """
    chosen = os.environ.get("GRAPHC_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "graphc"
