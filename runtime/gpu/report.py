"""What a generated program becomes on a device, without the device: registers, spills and shared memory a kernel."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphc.runtime.gpu.module import import_module, write_module

if TYPE_CHECKING:
    from graphc.codegen.triton import GpuTarget, Launch, TritonProgram

_POINTERS = {
    "f32": "*fp32", "f64": "*fp64", "f16": "*fp16", "bf16": "*bf16", "i8": "*i8", "u8": "*u8", "i16": "*i16",
    "i32": "*i32", "i64": "*i64", "bool": "*i1",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class KernelReport:
    """One launch compiled: registers a thread, 32-bit words a thread that spill, shared memory a program."""

    function: str
    warps: int
    registers: int
    spills: int
    shared_bytes: int


def compile_for(
    program: TritonProgram, target: GpuTarget | None = None, *, wide: bool = False
) -> tuple[KernelReport, ...]:
    """Compile every launch to a cubin for the target (an H100 or H200 by default) and read what it uses.

    wide: with indices of 64 bits where sizes decide, as for buffers of 2**31 elements or more.
    Pointers count as divisible by 16, as the arena's are. Needs no GPU; raises Triton's CompilationError.
    """
    module = import_module(write_module(program.name, program.source))
    reports: dict[tuple[Any, ...], KernelReport] = {}
    for launch in program.launches:
        types = tuple(_POINTERS[program.buffers[n].type.dtype.value] for n in launch.arguments)
        key = (launch.function, types, launch.blocks, launch.warps)
        if key not in reports:
            reports[key] = _compile(getattr(module, launch.function), launch, types, target, wide)
    return tuple(reports.values())


def _compile(
    function: Any, launch: Launch, types: tuple[str, ...], target: GpuTarget | None, wide: bool
) -> KernelReport:
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget as Device
    from triton.compiler import ASTSource

    signature = dict(zip(launch.pointers, types, strict=True)) | dict.fromkeys(launch.symbols, "i32")
    constants: dict[str, Any] = dict(launch.blocks)
    if launch.wide:
        constants["INDEX"] = tl.int64 if wide else tl.int32
    signature |= dict.fromkeys(constants, "constexpr")
    order = {name: position for position, name in enumerate(function.arg_names)}
    attributes = {(order[name],): [["tt.divisibility", 16]] for name in launch.pointers}
    source = ASTSource(
        fn=function,
        signature={name: signature[name] for name in function.arg_names},
        constexprs={(order[name],): value for name, value in constants.items()},
        attrs=attributes,
    )
    device = Device("cuda", target.capability if target else 90, 32)
    options = {"num_warps": launch.warps, "num_stages": launch.stages}
    compiled = triton.compile(source, target=device, options=options)
    registers, stack = _resources(compiled.asm["cubin"])
    return KernelReport(launch.function, launch.warps, registers, stack // 4, compiled.metadata.shared)


def _resources(cubin: bytes) -> tuple[int, int]:
    """(registers a thread, bytes of stack a thread) of the only kernel of a cubin."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run(
            [tool, "-res-usage", file.name], check=True, capture_output=True, text=True
        ).stdout
    match = re.search(r"REG:(\d+) STACK:(\d+)", text)
    if match is None:
        raise ValueError(f"cuobjdump printed no resource usage: {text[:200]}")
    return int(match.group(1)), int(match.group(2))
