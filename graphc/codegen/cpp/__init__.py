"""Generated C++: schedules and prints a Program for the CPU."""

from graphc.codegen.cpp.packing import pack_constants
from graphc.codegen.cpp.program import CppProgram, generate
from graphc.codegen.cpp.target import CpuTarget, detect
from graphc.codegen.cpp.templates import has_template

__all__ = ["CppProgram", "CpuTarget", "detect", "generate", "has_template", "pack_constants"]
