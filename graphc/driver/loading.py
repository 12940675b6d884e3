"""From what was generated to a backend that runs it, on each of the targets."""

from __future__ import annotations

import warnings

from graphc.codegen import cpp as cpp_codegen
from graphc.codegen import triton as triton_codegen
from graphc.diagnostics import ToolchainError
from graphc.driver.backend import Backend
from graphc.driver.cpu_backend import CpuBackend
from graphc.driver.gpu_backend import GpuBackend
from graphc.driver.lowering import Made
from graphc.driver.reference_backend import ReferenceBackend
from graphc.ir.program import Program
from graphc.runtime.context import Context


def load(made: Made, context: Context, memory: str) -> Backend:
    """Build and load; where no C++ compiler is found the reference takes over, with a RuntimeWarning."""
    match made.generated:
        case None:
            return ReferenceBackend(made.stages.program, memory)
        case triton_codegen.TritonProgram() as module:
            return GpuBackend(module, context.torch_device, memory)
        case cpp_codegen.CppProgram() as sources:
            try:
                return CpuBackend.build(sources, memory)
            except ToolchainError as error:
                if error.diagnostic.code != "G501":
                    raise
                warnings.warn(
                    f"{error.diagnostic.message}; running on the slow reference backend (see graphc doctor)",
                    RuntimeWarning,
                    stacklevel=4,
                )
                return ReferenceBackend(made.stages.program, memory)


def backend_of(program: Program, kind: str, context: Context) -> Backend:
    """The backend of a program that was fused already, for the cpu, the gpu or the reference."""
    if kind == "reference":
        return ReferenceBackend(program)
    return (
        CpuBackend.build(cpp_codegen.generate(program))
        if kind == "cpu"
        else GpuBackend(triton_codegen.generate(program), context.torch_device)
    )
