"""A generated Triton module, ready to launch on torch tensors."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from graphc.runtime.gpu.module import import_module, write_module
from graphc.types import evaluate

if TYPE_CHECKING:
    import torch

    from graphc.codegen.triton import TritonProgram


def interpreted() -> bool:
    """Whether this process runs Triton kernels in its interpreter, on CPU tensors.

    Triton reads TRITON_INTERPRET when it is imported, so the variable must be set before that.
    """
    return os.environ.get("TRITON_INTERPRET", "") in ("1", "true", "on")


class GpuProgram:
    """A built program. Launches go to the current stream of the tensors' device."""

    def __init__(self, program: TritonProgram) -> None:
        self.program = program
        self.path = write_module(program.name, program.source)
        self.module: ModuleType = import_module(self.path)
        if interpreted():
            from graphc.runtime.gpu.interpreter_fixes import prepare

            prepare()
        self._launch: Callable[..., None] = self.module.run
        self._workspaces: dict[tuple[Any, ...], list[torch.Tensor]] = {}

    def run(self, tensors: Sequence[torch.Tensor], sizes: Sequence[int] = ()) -> None:
        """Run every kernel; one flat tensor a buffer of the graph's program, one size a name of `symbols`.

        Raises ValueError when their numbers are wrong.
        """
        given = sum(buffer.role.value != "workspace" for buffer in self.program.buffers)
        if len(tensors) not in (given, len(self.program.buffers)) or len(sizes) != len(self.program.symbols):
            raise ValueError(
                f"{self.program.name} takes {given} buffers and {len(self.program.symbols)} sizes, "
                f"not {len(tensors)} and {len(sizes)}"
            )
        workspaces = (
            self._workspaces_for(tensors, tuple(sizes)) if len(tensors) < len(self.program.buffers) else []
        )
        self._launch([*tensors, *workspaces], *sizes)

    def _workspaces_for(self, tensors: Sequence[torch.Tensor], sizes: tuple[int, ...]) -> list[torch.Tensor]:
        """Scratch memory, made at the first run for these sizes and kept."""
        import torch

        device = tensors[0].device
        key = (str(device), sizes)
        if key not in self._workspaces:
            table = dict(zip(self.program.symbols, sizes, strict=True))
            self._workspaces[key] = [
                torch.empty(evaluate(buffer.type.size, table), dtype=buffer.type.dtype.torch, device=device)
                for buffer in self.program.buffers[len(tensors) :]
            ]
        return self._workspaces[key]

    def capture(self, tensors: Sequence[torch.Tensor], sizes: Sequence[int] = ()) -> Callable[[], None]:
        """A CUDA graph of one run on these very tensors: calling the result replays it without Python's overhead.

        Runs once to warm up, so state buffers advance by one step before the first replay.
        """
        import torch

        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.run(tensors, sizes)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.run(tensors, sizes)
        return graph.replay


def load(program: TritonProgram) -> GpuProgram:
    """Write the module into the cache, import it, and make it ready to run."""
    return GpuProgram(program)
