"""Generated C++: schedules and prints a Program for the CPU."""

from graphc.codegen.cpp.choices import NO_CHOICES, Choices, apply_choices
from graphc.codegen.cpp.packing import pack_constants
from graphc.codegen.cpp.program import CppProgram, generate
from graphc.codegen.cpp.target import CpuTarget, detect
from graphc.codegen.cpp.templates import has_template

__all__ = [
    "NO_CHOICES",
    "Choices",
    "CppProgram",
    "CpuTarget",
    "apply_choices",
    "detect",
    "generate",
    "has_template",
    "pack_constants",
]
