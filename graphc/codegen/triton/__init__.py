"""Programs as Triton kernels for NVIDIA GPUs: a schedule a nest, a printer, and templates/triton."""

from graphc.codegen.triton.program import Launch, TritonProgram, generate
from graphc.codegen.triton.schedule import GpuTarget
from graphc.codegen.triton.templates import has_template

__all__ = ["GpuTarget", "Launch", "TritonProgram", "generate", "has_template"]
