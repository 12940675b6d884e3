"""Generated Triton programs: built, launched on a GPU, compiled without one, or interpreted on the CPU."""

from graphc.runtime.gpu.program import GpuProgram, load
from graphc.runtime.gpu.report import KernelReport, compile_for

__all__ = ["GpuProgram", "KernelReport", "compile_for", "load"]
