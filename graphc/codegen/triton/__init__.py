"""Programs as Triton kernels for NVIDIA GPUs: a schedule a nest, a printer, and templates/triton."""

from graphc.codegen.triton.program import Launch, TritonProgram, generate
from graphc.codegen.triton.schedule import GpuTarget

__all__ = ["GpuTarget", "Launch", "TritonProgram", "generate"]
