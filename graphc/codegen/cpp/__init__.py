"""Generated C++: schedules and prints a Program for the CPU."""

from graphc.codegen.cpp.program import CppProgram, generate
from graphc.codegen.cpp.target import CpuTarget, detect

__all__ = ["CppProgram", "CpuTarget", "detect", "generate"]
