"""Who is measured: each peer's environment, its forms, and the settings it runs in."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRATCH = ROOT / "build" / "bench"
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"

AS_IT_COMES = "as it comes"
KEPT = "allocator keeps memory"
_KEEP = str(1 << 32)
# The C allocator of these processes never gives memory back, so that a fresh output faults no page. One arena: those
# of other threads hold 64 MB at most, and what is larger would be mapped anew each time.
SETTINGS: Mapping[str, Mapping[str, str]] = {
    AS_IT_COMES: {},
    KEPT: {
        "MALLOC_TOP_PAD_": _KEEP, "MALLOC_MMAP_THRESHOLD_": _KEEP, "MALLOC_TRIM_THRESHOLD_": _KEEP,
        "MALLOC_ARENA_MAX": "1",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Peer:
    """One library.

    forms, function: `<suite>.<forms>.<function>` makes its jobs. packages: imported at the start, versions reported.
    python: the interpreter of its environment. settings: names in SETTINGS.
    """

    name: str
    forms: str
    function: str
    packages: tuple[str, ...]
    python: Path = PEERS_PYTHON
    settings: tuple[str, ...] = (AS_IT_COMES, KEPT)


OURS = Path(sys.executable)

# graphc keeps its memory itself, so there is one setting. The reference is no candidate.
PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("graphc", "graphc_forms", "graphc", ("graphc", "torch"), OURS, (AS_IT_COMES,)),
        Peer("torch eager", "torch_forms", "eager", ("torch",)),
        Peer("torch.compile", "torch_forms", "compiled", ("torch",)),
        Peer("JAX", "jax_forms", "jax", ("jax", "jaxlib")),
        Peer("ONNX Runtime", "onnx_forms", "onnxruntime", ("onnxruntime", "onnx")),
        Peer("OpenVINO", "onnx_forms", "openvino", ("openvino", "onnx")),
    )
}
REFERENCE = Peer("float64", "torch_forms", "float64", ("torch",), OURS, (AS_IT_COMES,))


def select(words: str) -> list[Peer]:
    """Peers by name, comma-separated, in any case and without spaces or dots; `eager` and `compile` are torch's."""
    short = {_plain(name): peer for name, peer in PEERS.items()}
    short |= {"eager": PEERS["torch eager"], "compile": PEERS["torch.compile"]}
    short |= {"ort": PEERS["ONNX Runtime"]}
    chosen = []
    for word in words.split(","):
        if _plain(word) not in short:
            raise ValueError(f"no peer {word!r}; there are {', '.join(PEERS)}")
        chosen.append(short[_plain(word)])
    return [peer for peer in PEERS.values() if peer in chosen]


def _plain(name: str) -> str:
    return name.lower().replace(" ", "").replace(".", "")


def environment(setting: str, threads: int) -> dict[str, str]:
    """The environment of a peer's process: so many threads, caches that outlive the run, the allocator's setting."""
    counts = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    caches = {
        "TORCHINDUCTOR_CACHE_DIR": str(SCRATCH / "inductor"),
        "JAX_COMPILATION_CACHE_DIR": str(SCRATCH / "jax"),
    }
    return {**os.environ, **counts, **caches, "JAX_PLATFORMS": "cpu", **SETTINGS[setting]}
